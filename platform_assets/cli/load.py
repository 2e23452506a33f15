"""The command load: what is new in the sources of tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lakebed.cli.check import words_of
from lakebed.cli.context import open_for_writing, say_that_no_table_is_declared
from lakebed.cli.errors import words
from lakebed.cli.lake_copies import write_lake_copies
from lakebed.cli.output import as_json, fail, numbers, say_what_needs_quotes, show, speed

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.ingest.report import LoadReport
    from lakebed.operations.load_tables import Load, Outcome
    from lakebed.spec.partitions import Window
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform

_LOAD_STEPS = {"extracted": "copying", "copied": "merging", "committed": "committed"}


@click.command()
@click.argument("names", metavar="[TABLE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every table that has a source.")
@click.option("--window", "keys", multiple=True, help="Of a table loaded by window; repeatable.")
@click.option("--again", is_flag=True, help="Read all of the sources, whatever was loaded before.")
@as_json
def load(
    names: Sequence[str], everything: bool, keys: Sequence[str], again: bool, as_json: bool
) -> None:
    """Load what is new in the sources of tables, or replace windows of a table.

    Parents are loaded before the tables that refer to them; a load that waited for rows of another
    table is finished at the end. A file that cannot be loaded is left out and named, the others are
    loaded; the exit code is 1.
    """
    from lakebed.operations.load_tables import load_in_order

    platform = open_for_writing()
    wanted = _chosen(platform, names, keys, everything)
    reports: list[LoadReport] = []
    failed: dict[str, str] = {}
    problems: dict[str, list[str]] = {}
    copies: list[str] = []
    fault: Exception | None = None
    try:
        for outcome in load_in_order(platform, wanted, again=again, load=load_with_progress):
            reports += outcome.reports
            problems[outcome.name] = outcome.problems(platform)
            if outcome.error is not None:
                failed[outcome.table.name] = words(outcome.error)
                continue
            failed.pop(outcome.table.name, None)
            _say(platform, outcome)
            copies += write_lake_copies(platform, outcome.table)
        _say_what_waits(platform, [table for table, _ in wanted])
    except Exception as error:
        fault = error  # what was loaded before it is shown all the same
    for name in dict.fromkeys(report.table for report in reports if report.load_id):
        say_what_needs_quotes(platform.table(name))
    if as_json:
        errors = [{"table": name, "error": error} for name, error in failed.items()]
        click.echo(json.dumps([*map(asdict, reports), *errors], indent=2))
    elif any(report.load_id for report in reports):
        show(_loads(reports))
    if fault is not None:
        raise fault
    lost = list(dict.fromkeys(text for texts in problems.values() for text in texts))
    lost += [words_of(item) for item in platform.broken] if everything else []
    fail(lost + copies, "not loaded" if lost else "not done")


def _say(platform: Platform, outcome: Outcome) -> None:
    """Say in a line what was loaded, and what was new about its columns."""
    if outcome.waited and outcome.reports:
        rows = sum(report.rows_read for report in outcome.reports)
        click.echo(f"{outcome.name}: {rows:,} rows read, as it had waited", err=True)
    for report in outcome.reports:
        if not outcome.waited:
            click.echo(f"{outcome.name}: {_done(report)}", err=True)
            _say_where_nothing_is(platform, outcome.table, report)
        for change in report.evolved:
            click.echo(f"{report.table}: new column {change}", err=True)
        if report.discarded:
            from lakebed.ingest.sources.reader import listed

            left_out = listed(report.discarded)
            click.echo(f"{report.table}: not in the contract, left out: {left_out}", err=True)


def _say_what_waits(platform: Platform, tables: Sequence[SourceTable]) -> None:
    from lakebed.ingest.unfinished import unfinished_loads, waits_for_parents

    names = {table.name for table in tables}
    with platform.postgres.connect(autocommit=True) as connection:
        for one in unfinished_loads(connection):
            if one.table not in names:
                continue
            rows = waits_for_parents(connection, one.table)
            what = f"{rows:,} rows wait for their parents" if rows else "a delete or a file waits"
            click.echo(
                f"{one.table}: {what}, in {' or '.join(one.waits_for)}; they are loaded when that "
                "is",
                err=True,
            )


def _chosen(
    platform: Platform, names: Sequence[str], keys: Sequence[str], everything: bool
) -> list[Load]:
    """Return what is loaded: each table, or the windows of the one that is named."""
    from lakebed.operations.load_tables import chosen_loads, chosen_tables

    if bool(names) == everything:
        known = ", ".join(table.name for table in platform.tables)
        raise click.UsageError(f"name tables, or say --all; there are: {known}")
    if not platform.tables and not platform.broken:
        say_that_no_table_is_declared(platform)
    tables = chosen_tables(platform, names)
    windowed = [table.name for table in tables if table.load_by == "window"]
    if windowed and everything and not keys:
        click.echo(f"loaded by window, left out: {', '.join(windowed)}", err=True)
    return chosen_loads(tables, keys, skip_windowed=everything)


def _say_where_nothing_is(platform: Platform, table: SourceTable, report: LoadReport) -> None:
    """Tell a source of which there is nothing at all from one of which nothing is new."""
    from lakebed.ingest.sources.readers import reader_of

    if report.load_id is not None or report.refused:
        return
    reader = reader_of(table, platform.settings)
    if table.require_source.resumes != "query" and not reader.find():
        click.echo(f"{table.name}: there is no file at {reader.place}", err=True)


def _done(report: LoadReport) -> str:
    if report.load_id:
        return f"{report.rows_read:,} rows read"
    return "refused, see below" if report.refused else "nothing new"


def load_with_progress(
    platform: Platform, table: SourceTable, window: Window | None, *, again: bool
) -> LoadReport:
    """Load one table or window, and show its progress on a terminal."""
    from lakebed.cli.progress import working
    from lakebed.operations.load_tables import load_one

    with working(f"{table.name}: reading") as work:
        return load_one(
            platform,
            table,
            window,
            again=again,
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
