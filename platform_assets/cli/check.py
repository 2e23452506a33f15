"""The command that reads a whole project and names what is broken: check."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.errors import words
from lakebed.cli.output import as_json, fail

if TYPE_CHECKING:
    from lakebed.spec.broken import Broken


@click.command()
@as_json
def check(as_json: bool) -> None:
    """Check settings, table files, exports, models and tests.

    Names everything that is broken, with file and line. Needs no server and changes nothing. The
    exit code is 1 if anything is broken.
    """
    from lakebed.monitoring.project_check import check_project
    from lakebed.resources.settings import SettingsError, read_settings
    from lakebed.spec.broken import Broken
    from lakebed.store.platform import open_platform

    summary = ""
    try:
        platform = open_platform(read_settings())
    except SettingsError as error:
        broken = [Broken("settings", "settings", None, error)]
    else:
        broken = check_project(platform)
        summary = f"{len(platform.tables)} tables and {len(platform.exports)} exports can be used"
    if as_json:
        click.echo(json.dumps([_as_json(item) for item in broken], indent=2))
    if summary:
        click.echo(summary, err=True)
    fail([words_of(item) for item in broken], "broken")


def warn_of_broken(broken: tuple[Broken, ...]) -> None:
    """Say on stderr, in red, what is left out; without a terminal there are no colours."""
    for item in broken:
        click.secho(f"left out: {words_of(item)}", err=True, fg="red")


def words_of(item: Broken) -> str:
    """Return one line about what is broken, without secrets."""
    return f"{item.kind} {item.name}: {words(item.error)}"


def _as_json(item: Broken) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "name": item.name,
        "file": None if item.path is None else str(item.path),
        "problem": words(item.error),
        "reads_broken": item.reads,
    }
