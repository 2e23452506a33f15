"""The command load: what is new in the sources of tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.errors import words
from lakebed.cli.home import open_home, windows_of
from lakebed.cli.lake_copies import write_lake_copies
from lakebed.cli.output import as_json, fail, numbers, say_what_needs_quotes, show, speed
from lakebed.errors import FAILED, exit_code

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.ingest.report import LoadReport
    from lakebed.spec.partitions import Window
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform

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
            from lakebed.ingest.sources.reader import listed

            left_out = listed(report.discarded)
            click.echo(f"{table.name}: not in the contract, left out: {left_out}", err=True)
        _say_where_nothing_is(platform, table, report)
        try:
            problems += write_lake_copies(platform, table)
        except Exception as error:
            fault = error
            break
    for name in dict.fromkeys(report.table for report in reports if report.load_id):
        say_what_needs_quotes(platform.table(name))
    if as_json:
        click.echo(json.dumps([*map(asdict, reports), *failed], indent=2))
    elif any(report.load_id for report in reports):
        show(_loads(reports))
    if fault is not None:
        raise fault
    refused = [f"{r.table}: {f.path}: {f.problem}" for r in reports for f in r.refused]
    lost = [f"{f['table']}: {f['error']}" for f in failed] + list(dict.fromkeys(refused))
    fail(lost + problems, "not loaded" if lost else "not done")


def _tables(platform: Platform, names: Sequence[str], everything: bool) -> list[SourceTable]:
    if bool(names) == everything:
        known = ", ".join(table.name for table in platform.tables)
        raise click.UsageError(f"name tables, or say --all; there are: {known}")
    if everything:
        return [table for table in platform.tables if table.source is not None]
    tables = [platform.table(name) for name in dict.fromkeys(names)]
    for table in tables:
        _ = table.require_source
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
    from lakebed.ingest.sources.files import FoundFiles
    from lakebed.ingest.sources.readers import reader_of

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
    from lakebed.cli.progress import working
    from lakebed.ingest.load import load_table, load_window

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
            *speed(report.rows_read, report.seconds),
            f"{report.bytes:,}",
        )
    return table
