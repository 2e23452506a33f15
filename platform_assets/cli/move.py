"""The command move: partitions settle in the lake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.errors import words
from lakebed.cli.home import open_home, refresh_catalog, windows_of
from lakebed.cli.output import as_json, fail, numbers, show, speed
from lakebed.errors import FAILED, exit_code

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
    now = None if as_of is None else _moment(as_of)
    platform = open_home()
    table = platform.table(name)
    _ = table.require_tiering
    requests: list[Request] = []
    if all_due:
        windows, requests = _due(platform, table, now)
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
    _answer(platform, table, requests, failures[0] if failures else None)
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
    from lakebed.tiering.holds import PartitionHeldError
    from lakebed.tiering.move_many import move_many

    done: dict[Window, Moved] = {}
    failed: dict[Window, dict[str, Any]] = {}
    with working(f"moving {table.name}", parts=len(windows)) as work:
        for window, moved in move_many(
            platform.lake, table, windows, jobs, unless_held_at=by_policy
        ):
            if isinstance(moved, PartitionHeldError):
                click.echo(str(moved), err=True)  # it was restored since it was found to be due
                continue
            if isinstance(moved, Exception):
                if exit_code(moved) != FAILED:
                    raise moved
                why = words(moved)
                failed[window] = {"table": table.name, "partition_key": window.key, "error": why}
                continue
            done[window] = moved
            work.rows(moved.moved)
            work.part()
            click.echo(_line(moved), err=True)
    return [done[w] for w in sorted(done)], [failed[w] for w in sorted(failed)]


def _due(
    platform: Platform, table: SourceTable, as_of: datetime | None
) -> tuple[list[Window], list[Request]]:
    """Return what waits, and the requests that it answers."""
    from lakebed.tiering.pending import waiting
    from lakebed.tiering.requests import open_requests, record_heartbeat

    now = as_of or platform.clock.now()
    with platform.postgres.connect(autocommit=True) as connection:
        record_heartbeat(connection, table)
        # What is due at another time answers nobody.
        requests = [] if as_of else open_requests(connection, table, now)
        return waiting(connection, table, now, requests), requests


def _answer(
    platform: Platform, table: SourceTable, requests: Sequence[Request], problem: str | None
) -> None:
    from lakebed.tiering.requests import answer

    if not requests:
        return
    with platform.postgres.connect(autocommit=True) as connection:
        for request in requests:
            said = answer(connection, table, request, platform.clock.now(), problem)
            click.echo(f"request {request.number}: {said}", err=True)


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
