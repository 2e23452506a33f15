"""The command move: move partitions from hot to cold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.completion import complete_partitions, complete_tables
from lakebed.cli.context import open_for_writing, say_that_no_table_is_declared
from lakebed.cli.errors import words
from lakebed.cli.lake_copies import refresh_catalog
from lakebed.cli.output import as_json, fail, numbers, show, speed

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.spec.partitions import Window
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform
    from lakebed.tiering.report import Moved
    from lakebed.tiering.requests import Request


@click.command()
@click.argument("name", metavar="[TABLE]", required=False, shell_complete=complete_tables)
@click.option(
    "--partition",
    "keys",
    multiple=True,
    shell_complete=complete_partitions,
    help="A partition such as 2013-01; repeatable.",
)
@click.option(
    "--due", "all_due", is_flag=True, help="Every partition that is due and has hot rows."
)
@click.option(
    "--as-of", metavar="TIME", help="With --due: take this ISO 8601 time, with its zone, for now."
)
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1, 64), help="So many at once."
)
@as_json
def move(
    name: str | None,
    keys: Sequence[str],
    all_due: bool,
    as_of: str | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Move partitions to the lake, or compact late rows into its files.

    With --due and without a table, every table that has a tiering policy is moved. Partitions are
    moved in order, each in a transaction of its own. If one fails, the others are moved all the
    same, and the exit code is 1.
    """
    if bool(keys) == all_due:
        raise click.UsageError("Say which partitions: --partition KEY (repeatable), or --due")
    if name is None and keys:
        raise click.UsageError("--partition goes with a table: lakebed move TABLE --partition KEY")
    if as_of is not None and not all_due:
        raise click.UsageError("--as-of goes with --due")
    now = None if as_of is None else _moment(as_of)
    platform = open_for_writing()
    tables = [platform.table(name)] if name else [t for t in platform.tables if t.tiering]
    if name is not None:
        _ = tables[0].require_tiering
    elif not platform.tables:
        say_that_no_table_is_declared(platform)
    elif not tables:
        click.echo(
            "No table has a tiering policy, so nothing is ever due. Add tiering=Tiering(...) to a "
            "table file",
            err=True,
        )
    done: list[Moved] = []
    failed: list[dict[str, Any]] = []
    for table in tables:
        moved, problems = _move_table(platform, table, keys, now, jobs, as_json)
        done += moved
        failed += problems
    if as_json:
        click.echo(json.dumps([*map(_moved, done), *failed], indent=2))
    elif any(moved.path for moved in done):
        show(_moves([moved for moved in done if moved.path]))
    failures = [f["error"] for f in failed]
    if done:
        failures += refresh_catalog(platform)
    fail(failures, "not done")


def _move_table(
    platform: Platform,
    table: SourceTable,
    keys: Sequence[str],
    as_of: datetime | None,
    jobs: int,
    quiet: bool,
) -> tuple[list[Moved], list[dict[str, Any]]]:
    """Move the named partitions of one table, or those that are due; answer its requests."""
    from lakebed.operations.load_tables import windows_of
    from lakebed.operations.move_table import answer_requests, due_partitions

    requests: list[Request] = []
    if keys:
        windows = windows_of(table, keys)
    else:
        windows, requests = due_partitions(platform, table, as_of)
    by_policy = None if keys else as_of or platform.clock.now()
    done, failed = _move(platform, table, windows, jobs, by_policy)
    if not windows:
        click.echo(f"{table.name}: nothing is due", err=quiet)
    problem = failed[0]["error"] if failed else None
    for number, answer in answer_requests(platform, table, requests, problem):
        click.echo(f"request {number}: {answer}", err=True)
    return done, failed


def _move(
    platform: Platform,
    table: SourceTable,
    windows: Sequence[Window],
    jobs: int,
    by_policy: datetime | None,
) -> tuple[list[Moved], list[dict[str, Any]]]:
    """Move windows; return what was moved, and what failed and why, in their order."""
    from lakebed.cli.progress import working
    from lakebed.operations.move_table import move_partitions

    done: dict[Window, Moved] = {}
    failed: dict[Window, dict[str, Any]] = {}
    with working(f"moving {table.name}", parts=len(windows)) as work:
        for outcome in move_partitions(platform, table, windows, jobs=jobs, by_policy=by_policy):
            window, moved = outcome.window, outcome.moved
            if outcome.held is not None:
                click.echo(str(outcome.held), err=True)
            elif outcome.error is not None:
                why = words(outcome.error)
                failed[window] = {"table": table.name, "partition_key": window.key, "error": why}
            elif moved is not None:
                done[window] = moved
                work.rows(moved.moved)
                work.part()
                click.echo(_line(moved), err=True)
    return [done[w] for w in sorted(done)], [failed[w] for w in sorted(failed)]


def _moment(text: str) -> datetime:
    from lakebed.spec.times import TimeTextError, read_time

    try:
        return read_time(text)
    except TimeTextError as error:
        raise click.BadParameter(str(error), param_hint="--as-of") from error


def _moves(done: Sequence[Moved]) -> Table:
    table = numbers(
        "partition", "generation", "moved", "overridden", "rows", "seconds", "rows/s", "bytes"
    )
    for moved in done:
        table.add_row(
            f"{moved.table} {moved.partition_key}",
            str(moved.generation),
            f"{moved.moved:,}",
            f"{moved.overridden:,}",
            f"{moved.rows:,}",
            *speed(moved.moved, moved.seconds),
            f"{moved.bytes:,}",
        )
    return table


def _line(moved: Moved) -> str:
    where = f"{moved.table} {moved.partition_key}"
    if moved.path is None:
        if not moved.deletes:
            return f"{where}: no hot rows, nothing to move"
        left = (
            f"{moved.overridden:,} rows deleted, none is left" if moved.overridden else "no row met"
        )
        return f"{where}: {moved.deletes:,} deletes folded in: {left}"
    folded = f" and {moved.deletes:,} deletes folded in" if moved.deletes else ""
    return f"{where}: {moved.moved:,} rows moved{folded}, verified in {moved.seconds:.2f} s"


def _moved(moved: Moved) -> dict[str, Any]:
    values = asdict(moved)
    del values["fingerprint"]
    return values
