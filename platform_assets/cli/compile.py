"""The command compile: check the models, and print their SQL."""

from __future__ import annotations

from collections.abc import Sequence

import click

from lakebed.cli.check import words_of
from lakebed.cli.context import open_for_writing
from lakebed.cli.model_selection import selected_models, selecting
from lakebed.cli.output import fail


@click.command("compile")
@selecting
def compile_models(
    names: Sequence[str], select: Sequence[str], exclude: Sequence[str], variables: str | None
) -> None:
    """Check all models; print the SQL of those selected.

    Each column that a model names must be one of its tables.

    The SQL runs as it is in a DuckDB shell on the catalog file. Nothing is built.
    """
    from lakebed.models.model import ModelError, Run
    from lakebed.models.runner import columns_of_tables
    from lakebed.models.schemas import refused_models

    platform = open_for_writing()
    models, selected = selected_models(platform, (*names, *select), exclude, variables)
    refused: dict[str, ModelError] = refused_models(
        models, columns_of_tables(platform), models.by_name
    )
    if names or select:
        run = Run(started_at=platform.clock.now())
        for query in (*selected.models, *(() if selected.models else selected.tests)):
            if len(selected.models) > 1:
                click.echo(f"-- {query.name}")
            click.echo(models.compiled(query, run).sql.strip() + "\n")
    else:
        click.echo(f"{len(models.models)} models and {len(models.tests)} tests", err=True)
    broken = [words_of(item) for item in selected.broken]
    fail(broken + [f"{name}: {error}" for name, error in refused.items()], "do not fit")
