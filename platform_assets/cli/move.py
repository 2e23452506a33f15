"""The command move: partitions settle in the lake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.context import open_for_writing
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
@click.argument("name", metavar="TABLE")
@click.option("--partition", "keys", multiple=True, help="A partition such as 2013-01; repeatable.")
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
    name: str,
    keys: Sequence[str],
    all_due: bool,
    as_of: str | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Move partitions of a table to the lake, or fold late rows into them.

    Partitions are moved in order, each in a transaction of its own. One that fails leaves the
    others moved; the exit code is 1.
    """
    if bool(keys) == all_due:
        raise click.UsageError("say which: --partition KEY (repeatable), or --due")
    if as_of is not None and not all_due:
        raise click.UsageError("--as-of goes with --due")
    from lakebed.operations.load_tables import windows_of
    from lakebed.operations.move_table import answer_requests, due_partitions

    now = None if as_of is None else _moment(as_of)
    platform = open_for_writing()
    table = platform.table(name)
    _ = table.require_tiering
    requests: list[Request] = []
    if all_due:
        windows, requests = due_partitions(platform, table, now)
    else:
        windows = windows_of(table, keys)
    by_policy = (now or platform.clock.now()) if all_due else None
    done, failed = _move(platform, table, windows, jobs, by_policy)
    if as_json:
        click.echo(json.dumps([*map(_moved, done), *failed], indent=2))
    elif any(moved.path for moved in done):
        show(_moves([moved for moved in done if moved.path]))
    if not windows:
        click.echo(f"{name}: nothing is due", err=as_json)
    failures = [f["error"] for f in failed]
    problem = failures[0] if failures else None
    for number, answer in answer_requests(platform, table, requests, problem):
        click.echo(f"request {number}: {answer}", err=True)
    if done:
        failures += refresh_catalog(platform)
    fail(failures, "not done")


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
