"""The command apply: bring PostgreSQL up to the table files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.context import open_for_writing, say_that_no_table_is_declared
from lakebed.cli.errors import words
from lakebed.cli.output import as_json
from lakebed.cli.plan import read_plans, show_plan, table_names
from lakebed.errors import FAILED, PartlyFailedError, exit_code

if TYPE_CHECKING:
    from lakebed.schema.plan import Change, Plan
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform


@click.command()
@table_names
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--blocking", is_flag=True, help="Make blocking changes too.")
@as_json
def apply(names: Sequence[str], yes: bool, blocking: bool, as_json: bool) -> None:
    """Change PostgreSQL to match the table files.

    Makes the changes that `lakebed plan` shows, in short locks, and asks first; without a terminal
    it needs --yes. Refused changes are left to you; blocking ones need --blocking. The exit code
    is 1 if any change is left.
    """
    from lakebed.doors.write import refresh_catalog

    platform = open_for_writing()
    if not platform.tables and not names:
        say_that_no_table_is_declared(platform)
    planned = read_plans(platform, names)
    for _, made in planned:
        if not as_json:
            show_plan(made)
    doable = [(table, made) for table, made in planned if made.doable(blocking=blocking)]
    count = sum(len(made.doable(blocking=blocking)) for _, made in doable)
    if count and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"There are {count} changes to make. Add --yes to make them")
        click.confirm(f"Make {count} changes?", abort=True, err=True)
    results, failures = _apply(platform, doable, blocking)
    failures += refresh_catalog(platform)
    if as_json:
        click.echo(json.dumps(results, indent=2, ensure_ascii=False))
    for table, made in planned:
        failures += [
            f"{table.name}: {change.what}: {_left(change)}"
            for change in made.changes
            if change not in made.doable(blocking=blocking)
        ]
    if failures:
        raise PartlyFailedError(f"{len(failures)} left:\n  " + "\n  ".join(failures))


def _apply(
    platform: Platform, planned: Sequence[tuple[SourceTable, Plan]], blocking: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Apply plans table by table; return what was done, and what failed and why."""
    from lakebed.schema.apply import apply_plan

    results: list[dict[str, Any]] = []
    failures: list[str] = []
    for table, made in planned:
        try:
            with platform.postgres.connect(autocommit=True) as connection:
                done = apply_plan(
                    connection,
                    table,
                    made,
                    platform.clock.now(),
                    blocking=blocking,
                    on_change=lambda change, name=table.name: click.echo(  # type: ignore[misc]
                        f"{name}: done: {change.what}", err=True
                    ),
                )
        except Exception as error:
            if exit_code(error) != FAILED:
                raise
            failures.append(words(error))
            results.append({"table": table.name, "error": words(error)})
            continue
        if not done:
            click.echo(f"{table.name}: another process made the changes first", err=True)
        results.append({"table": table.name, "done": [change.to_json() for change in done]})
    return results, failures


def _left(change: Change) -> str:
    return change.why if change.safety == "refused" else f"it is {change.safety}; say --blocking"
