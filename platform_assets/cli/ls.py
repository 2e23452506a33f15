"""The command ls: list models, seeds and tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from lakebed.cli.check import warn_of_broken
from lakebed.cli.context import open_for_writing
from lakebed.cli.model_selection import selected_models, selecting
from lakebed.cli.output import as_json


@click.command()
@selecting
@as_json
def ls(
    names: Sequence[str],
    select: Sequence[str],
    exclude: Sequence[str],
    variables: str | None,
    as_json: bool,
) -> None:
    """List models, seeds and tests in build order."""
    platform = open_for_writing()
    _, selected = selected_models(platform, (*names, *select), exclude, variables)
    warn_of_broken(selected.broken)
    if not as_json:
        for model in selected.models:
            click.echo("/".join(model.key))
        for test in selected.tests:
            click.echo(f"test/{test.name}")
        return
    listed: list[dict[str, Any]] = [
        {
            "name": model.name,
            "group": model.group,
            "materialized": model.materialized,
            "tags": model.tags,
            "reads": model.upstream,
            "file": str(model.path),
        }
        for model in selected.models
    ]
    listed += [
        {"name": test.name, "materialized": "test", "model": test.model, "tags": test.tags}
        for test in selected.tests
    ]
    click.echo(json.dumps(listed, indent=2))
