"""The command load: load what is new in the sources of tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lakebed.cli.check import words_of
from lakebed.cli.completion import complete_partitions, complete_tables
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
@click.argument("names", metavar="[TABLE]...", nargs=-1, shell_complete=complete_tables)
@click.option("--all", "everything", is_flag=True, help="Every table that has a source.")
@click.option(
    "--window",
    "keys",
    multiple=True,
    shell_complete=complete_partitions,
    help="Replace this window of a table that is loaded by window; repeatable.",
)
@click.option(
    "--again", is_flag=True, help="Read the sources from the start, loaded before or not."
)
@as_json
def load(
    names: Sequence[str], everything: bool, keys: Sequence[str], again: bool, as_json: bool
) -> None:
    """Load what is new in the sources of tables.

    With --window, windows of one table are replaced. Parents are loaded before the tables that
    refer to them; a load that waits for rows of another table is finished at the end. If a file
    cannot be loaded, it is named, the other files are loaded, and the exit code is 1.
    """
    from lakebed.operations.load_tables import load_in_order

    platform = open_for_writing()
    wanted = _chosen(platform, names, keys, everything)
    if not platform.tables and not platform.broken:
        click.echo("[]" if as_json else "", nl=as_json)
        return
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
        fault = error  # first show what was loaded before it
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
    """Print a line about what was loaded, and one about each new column."""
    if outcome.waited and outcome.reports:
        rows = sum(report.rows_read for report in outcome.reports)
        click.echo(f"{outcome.name}: {rows:,} rows read that waited for another table", err=True)
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

    if not platform.tables and not names:
        say_that_no_table_is_declared(platform)
        return []
    if bool(names) == everything:
        known = ", ".join(table.name for table in platform.tables)
        raise click.UsageError(f"Name tables, or say --all. There are: {known}")
    tables = chosen_tables(platform, names)
    windowed = [table.name for table in tables if table.load_by == "window"]
    if windowed and everything and not keys:
        click.echo(f"loaded by window, left out: {', '.join(windowed)}", err=True)
    return chosen_loads(tables, keys, skip_windowed=everything)


def _say_where_nothing_is(platform: Platform, table: SourceTable, report: LoadReport) -> None:
    """Say so if the source has no file at all, rather than no new one."""
    from lakebed.ingest.sources.readers import reader_of

    if report.load_id is not None or report.refused:
        return
    reader = reader_of(table, platform.settings)
    if table.require_source.resumes != "query" and not reader.find():
        click.echo(f"{table.name}: no file found at {reader.place}", err=True)


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
    """Return the counts of each load; a count that is zero in all of them has no column."""
    names = ("files", "inserted", "updated", "unchanged", "superseded", "rejected", "marked")
    counts = [n for n in (*names, "deleted") if any(getattr(report, n) for report in reports)]
    table = numbers("table", "read", *counts, "seconds", "rows/s", "bytes")
    for report in reports:
        values = [report.rows_read, *(getattr(report, name) for name in counts)]
        table.add_row(
            report.table,
            *(f"{value:,}" for value in values),
            *speed(report.rows_read, report.seconds),
            f"{report.bytes:,}",
        )
    return table
