"""The commands that change something: load, move, demo, up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from platform_assets.commands.errors import FAILED, PartlyFailedError, exit_code, words
from platform_assets.commands.snapshots import keep_snapshots

if TYPE_CHECKING:
    from rich.table import Table

    from platform_assets.catalog import SourceTable
    from platform_assets.ingest.report import LoadReport
    from platform_assets.partitions import Window
    from platform_assets.platform import Platform
    from platform_assets.tiering.report import Moved
    from platform_assets.tiering.requests import Request

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")

_LOAD_STEPS = {"extracted": "copying", "copied": "merging", "committed": "committed"}


@click.command()
@click.argument("names", metavar="[TABLE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every table that has a source.")
@click.option("--window", "keys", multiple=True, help="Of a table loaded by window; repeatable.")
@as_json
def load(names: Sequence[str], everything: bool, keys: Sequence[str], as_json: bool) -> None:
    """Load what is new in the sources of tables, or replace windows of a table.

    A file that cannot be loaded is left out and named, the others are loaded; the exit code is 1.
    """
    platform = open_home()
    reports: list[LoadReport] = []
    failed: list[dict[str, Any]] = []
    problems: list[str] = []
    fault: Exception | None = None
    for table, window in _loads_of(_tables(platform, names, everything), keys, everything):
        try:
            report = _load(platform, table, window)
        except Exception as error:
            if exit_code(error) != FAILED:
                fault = error  # what was loaded before it is shown all the same
                break
            failed.append({"table": table.name, "error": words(error)})
            continue
        reports.append(report)
        what = table.name if window is None else f"{table.name} {window.key}"
        click.echo(f"{what}: {_done(report)}", err=True)
        for change in report.evolved:
            click.echo(f"{table.name}: new column {change}", err=True)
        if report.discarded:
            left_out = ", ".join(report.discarded)
            click.echo(f"{table.name}: not in the contract, left out: {left_out}", err=True)
        _say_where_nothing_is(platform, table, report)
        try:
            problems += keep_snapshots(platform, table)
        except Exception as error:
            fault = error
            break
    if as_json:
        click.echo(json.dumps([*map(asdict, reports), *failed], indent=2))
    elif any(report.load_id for report in reports):
        show(_loads(reports))
    if fault is not None:
        raise fault
    refused = [f"{r.table}: {f.path}: {f.problem}" for r in reports for f in r.refused]
    lost = [f"{f['table']}: {f['error']}" for f in failed] + list(dict.fromkeys(refused))
    fail(lost + problems, "not loaded" if lost else "not done")


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
    _ = table.settles
    requests: list[Request] = []
    if all_due:
        windows, requests = _due(platform, table, now)
    else:
        windows = windows_of(table, keys)
    done, failed = _move(platform, table, windows, jobs)
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


@click.command()
@click.option("--prepare", is_flag=True, help="Only write the source files and set the clock.")
def demo(prepare: bool) -> None:
    """Take 336,776 real flights through the whole platform."""
    from rich.console import Console

    from platform_assets import demo as the_demo
    from resources.settings import read_settings

    settings = read_settings()
    if prepare:
        files = the_demo.prepare(settings)
        click.echo(f"{len(files)} files in {settings.data}")
    else:
        the_demo.run_demo(settings, Console())


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--read-only", is_flag=True, help="In the UI nobody can change anything.")
@click.option(
    "--only",
    type=click.Choice(["webserver", "daemon"]),
    help="Start one of the two, for a supervisor such as systemd; the other is started apart.",
)
def up(host: str, port: int, read_only: bool, only: str | None) -> None:
    """Start PostgreSQL, the Dagster UI and its daemon, with every sensor on; Ctrl-C stops them."""
    from rich.console import Console

    from platform_assets.up import Web, run_up

    if only == "daemon" and read_only:
        raise click.UsageError("--read-only goes with the webserver")
    web = None if only == "daemon" else Web(host, port, read_only)
    run_up(open_home(), Console(), web, daemon=only != "webserver")


def open_home() -> Platform:
    """Open the platform, and say where its clock stands still."""
    from platform_assets.platform import open_platform
    from resources.clock import FixedClock
    from resources.settings import read_settings

    platform = open_platform(read_settings())
    if isinstance(platform.clock, FixedClock):
        click.echo(
            f"the clock of this home stands still at {platform.clock.at:%Y-%m-%d %H:%M} UTC "
            "(LAKEBED_CLOCK, as the demo sets it)",
            err=True,
        )
    return platform


def _tables(platform: Platform, names: Sequence[str], everything: bool) -> list[SourceTable]:
    if bool(names) == everything:
        known = ", ".join(table.name for table in platform.tables)
        raise click.UsageError(f"name tables, or say --all; there are: {known}")
    if everything:
        return [table for table in platform.tables if table.source is not None]
    tables = [platform.table(name) for name in dict.fromkeys(names)]
    for table in tables:
        _ = table.sourced
    return tables


def _loads_of(
    tables: Sequence[SourceTable], keys: Sequence[str], everything: bool
) -> list[tuple[SourceTable, Window | None]]:
    """Return what is loaded: each table, or the windows of the one that is named."""
    if keys:
        if len(tables) != 1 or tables[0].load_by != "window":
            raise click.UsageError("--window goes with one table that is loaded by window")
        return [(tables[0], window) for window in windows_of(tables[0], keys)]
    windowed = [table.name for table in tables if table.load_by == "window"]
    if windowed and not everything:
        raise click.UsageError(f"{windowed[0]} is loaded by window; name it alone, with --window")
    if windowed:
        click.echo(f"loaded by window, left out: {', '.join(windowed)}", err=True)
    return [(table, None) for table in tables if table.load_by == "cursor"]


def _say_where_nothing_is(platform: Platform, table: SourceTable, report: LoadReport) -> None:
    """Tell a source of which there is nothing at all from one of which nothing is new."""
    from platform_assets.ingest.sources.files import FoundFiles
    from platform_assets.ingest.sources.readers import reader_of

    if report.load_id is not None or report.refused:
        return
    reader = reader_of(table, platform.settings)
    if isinstance(reader, FoundFiles) and not reader.find():
        click.echo(f"{table.name}: there is no file at {reader.place}", err=True)


def _done(report: LoadReport) -> str:
    if report.load_id:
        return f"{report.rows_read:,} rows read"
    return "refused, see below" if report.refused else "nothing new"


def _load(platform: Platform, table: SourceTable, window: Window | None) -> LoadReport:
    from platform_assets.commands.progress import working
    from platform_assets.ingest.load import load_table, load_window

    run = load_table if window is None else partial(load_window, window=window)
    with working(f"{table.name}: reading") as work:
        return run(
            platform.settings,
            platform.postgres,
            platform.clock,
            table,
            on_rows=work.rows,
            on_step=lambda step: (
                work.now(f"{table.name}: {_LOAD_STEPS[step]}") if step in _LOAD_STEPS else None
            ),
        )


def _move(
    platform: Platform, table: SourceTable, windows: Sequence[Window], jobs: int
) -> tuple[list[Moved], list[dict[str, Any]]]:
    """Move windows; return what was moved, and what failed and why, in their order."""
    from platform_assets.commands.progress import working
    from platform_assets.tiering.several import move_all

    done: dict[Window, Moved] = {}
    failed: dict[Window, dict[str, Any]] = {}
    with working(f"moving {table.name}", parts=len(windows)) as work:
        for window, moved in move_all(platform.lake, table, windows, jobs):
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


def refresh_catalog(platform: Platform) -> list[str]:
    """Write the catalog file; return why it could not be written, if it could not."""
    from platform_assets.tiering.catalog_file import write_catalog

    try:
        write_catalog(platform)
    except Exception as error:
        if exit_code(error) != FAILED:
            raise
        return [f"the catalog file could not be written: {words(error)}"]
    return []


def _due(
    platform: Platform, table: SourceTable, as_of: datetime | None
) -> tuple[list[Window], list[Request]]:
    """Return what waits, and the requests that it answers."""
    from platform_assets.tiering.pending import waiting
    from platform_assets.tiering.requests import note_look, open_requests

    now = as_of or platform.clock.now()
    with platform.postgres.connect(autocommit=True) as connection:
        note_look(connection, table)
        # What is due at another time answers nobody.
        requests = [] if as_of else open_requests(connection, table, now)
        return waiting(connection, table, now, requests), requests


def _answer(
    platform: Platform, table: SourceTable, requests: Sequence[Request], problem: str | None
) -> None:
    from platform_assets.tiering.requests import answer

    if not requests:
        return
    with platform.postgres.connect(autocommit=True) as connection:
        for request in requests:
            said = answer(connection, table, request, platform.clock.now(), problem)
            click.echo(f"request {request.number}: {said}", err=True)


def windows_of(table: SourceTable, keys: Sequence[str]) -> list[Window]:
    """Return the windows that partition keys name, in order. Raises TableError."""
    from platform_assets.catalog import TableError
    from platform_assets.partitions import window_for_key

    try:
        return sorted({window_for_key(table.partitioned.grain, key) for key in keys})
    except ValueError as error:
        raise TableError(f"table {table.name}: {error}") from error


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no ISO 8601 time", param_hint="--as-of") from error
    if moment.tzinfo is None:
        raise click.BadParameter(
            f"{text!r} names no time zone; write it like 2024-05-01T00:00:00+00:00",
            param_hint="--as-of",
        )
    return moment


def _loads(reports: Sequence[LoadReport]) -> Table:
    columns = ["files", "read", "inserted", "updated", "unchanged", "superseded", "rejected"]
    columns += ["marked", "deleted"]
    table = numbers("table", *columns, "seconds", "rows/s", "bytes")
    for report in reports:
        values = [report.files, report.rows_read, report.inserted, report.updated]
        values += [report.unchanged, report.superseded, report.rejected]
        values += [report.marked, report.deleted]
        table.add_row(
            report.table,
            *(f"{value:,}" for value in values),
            *_speed(report.rows_read, report.seconds),
            f"{report.bytes:,}",
        )
    return table


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
            *_speed(moved.moved, moved.seconds),
            f"{moved.bytes:,}",
        )
    return table


def numbers(first: str, *others: str) -> Table:
    """Return a table for figures: a first column of names, the others on the right."""
    from rich.table import Table

    table = Table(first, box=None)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _speed(rows: int, seconds: float) -> tuple[str, str]:
    return f"{seconds:.2f}", f"{rows / seconds:,.0f}" if seconds else ""


def show(table: Table) -> None:
    """Print a table to stdout as wide as it is: a narrow terminal folds it, nothing is cut off."""
    from rich.console import Console

    console = Console()
    natural = console.measure(table, options=console.options.update(width=1000)).maximum
    console.width = max(console.width, natural)
    console.print(table)


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


def fail(failures: Sequence[str], what: str) -> None:
    """Raise PartlyFailedError where there are failures."""
    if failures:
        raise PartlyFailedError(f"{len(failures)} {what}:\n  " + "\n  ".join(failures))
