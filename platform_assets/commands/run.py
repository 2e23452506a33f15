"""The commands that change something: load, move, build, demo, up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from platform_assets.catalog import SourceTable, TableError
from platform_assets.commands.errors import PartlyFailedError
from platform_assets.commands.progress import counting
from platform_assets.partitions import Window, window_for_key
from platform_assets.platform import Platform, open_platform
from resources.settings import read_settings

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@click.command()
@click.argument("names", metavar="[TABLE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every table that has a source.")
@as_json
def load(names: Sequence[str], everything: bool, as_json: bool) -> None:
    """Load what is new in the sources of tables.

    A file that cannot be loaded is left out and named, the others are loaded; the exit code is 1.
    """
    platform = open_platform(read_settings())
    tables = _tables(platform, names, everything)
    # dlt takes a second to import; only this command pays for it.
    from platform_assets.ingest.load import LoadBusyError, LoadReport, load_table
    from platform_assets.ingest.transaction import LoadConflictError
    from platform_assets.quality.ddl import DriftError

    console = Console(stderr=True)
    reports: list[LoadReport] = []
    failures: list[str] = []
    for table in tables:
        try:
            with counting(console, f"loading {table.name}") as on_rows:
                report = load_table(
                    platform.settings, platform.postgres, platform.clock, table, on_rows=on_rows
                )
        except (LoadBusyError, LoadConflictError, DriftError) as error:
            failures.append(f"{table.name}: {error}")
            continue
        reports.append(report)
        if not as_json:
            done = f"{report.rows_read:,} rows read" if report.load_id else "nothing new"
            click.echo(f"{table.name}: {done}", err=True)
        failures += [f"{table.name}: {r.path}: {r.problem}" for r in report.refused]
    if as_json:
        click.echo(json.dumps([asdict(report) for report in reports], indent=2, default=str))
    elif any(report.load_id for report in reports):
        Console(width=None if console.is_terminal else 140).print(_summary(reports))
    _fail(failures, "not loaded")


@click.command()
@click.argument("name", metavar="TABLE")
@click.option("--partition", "keys", multiple=True, help="A partition such as 2013-01; repeatable.")
@click.option(
    "--due", "all_due", is_flag=True, help="Every partition that is due and has hot rows."
)
@click.option("--as-of", help="Take this ISO 8601 time for now.")
@as_json
def move(name: str, keys: Sequence[str], all_due: bool, as_of: str | None, as_json: bool) -> None:
    """Move partitions of a table to the lake, or fold late rows into them."""
    from platform_assets.tiering.catalog_file import write_catalog
    from platform_assets.tiering.move import Moved, MoveError
    from platform_assets.tiering.move import move as move_window

    if bool(keys) == all_due:
        raise click.UsageError("say which: --partition KEY (repeatable), or --due")
    platform = open_platform(read_settings())
    table = platform.table(name)
    windows = _due(platform, table, as_of) if all_due else _windows(table, keys)
    console = Console(stderr=True)
    done: list[Moved] = []
    failures: list[str] = []
    for window in windows:
        try:
            with counting(console, f"moving {name} {window.key}"):
                moved = move_window(platform.lake, table, window)
        except MoveError as error:
            failures.append(str(error))
            continue
        done.append(moved)
        if not as_json:
            click.echo(_line(moved))
    if done:
        write_catalog(platform)
    if as_json:
        click.echo(json.dumps([_moved(moved) for moved in done], indent=2))
    elif not windows:
        click.echo(f"{name}: nothing is due")
    _fail(failures, "not moved")


@click.command()
@click.argument("names", metavar="[MODEL]...", nargs=-1)
@as_json
def build(names: Sequence[str], as_json: bool) -> None:
    """Build SQL models, all or the named ones, in their order, and run their tests."""
    from platform_assets.models.runner import build as build_models
    from platform_assets.tiering.catalog_file import write_catalog

    platform = open_platform(read_settings())
    console = Console(stderr=True)
    with console.status("building") as state:
        results = build_models(
            platform, names, on_model=lambda model: state.update(f"building {model}")
        )
    write_catalog(platform)
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=2))
    else:
        table = Table("model", "is a", "rows", "bytes", "seconds", "result", box=None)
        for result in results:
            outcome = result.error or (
                "skipped: it reads a model that failed" if result.skipped else "ok"
            )
            table.add_row(
                result.name,
                result.materialized,
                "" if result.rows is None else f"{result.rows:,}",
                "" if result.bytes is None else f"{result.bytes:,}",
                f"{result.seconds:.2f}",
                outcome,
            )
        Console().print(table)
    _fail([f"{r.name}: {r.error}" for r in results if r.error], "failed")


@click.command()
@click.option("--prepare", is_flag=True, help="Only write the source files and set the clock.")
def demo(prepare: bool) -> None:
    """Take 336,776 real flights through the whole platform."""
    from platform_assets import demo as the_demo

    settings = read_settings()
    if prepare:
        files = the_demo.prepare(settings)
        click.echo(f"{len(files)} files in {settings.data}")
    else:
        the_demo.run_demo(settings, Console())


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=3000, show_default=True)
def up(host: str, port: int) -> None:
    """Start PostgreSQL, the Dagster UI and its daemon, with every sensor on; Ctrl-C stops them."""
    from platform_assets.up import UpError, run_up

    try:
        run_up(open_platform(read_settings()), Console(), host=host, port=port)
    except UpError as error:
        raise PartlyFailedError(str(error)) from error


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


def _due(platform: Platform, table: SourceTable, as_of: str | None) -> list[Window]:
    from platform_assets.tiering.pending import waiting

    now = platform.clock.now()
    if as_of is not None:
        try:
            now = datetime.fromisoformat(as_of)
        except ValueError as error:
            raise click.UsageError(f"--as-of: {as_of!r} is no ISO 8601 time") from error
        if now.tzinfo is None:
            raise click.UsageError(f"--as-of: {as_of!r} names no time zone; write {as_of}+00:00")
    _ = table.settles
    with platform.postgres.connect(autocommit=True) as connection:
        return waiting(connection, table, now)


def _windows(table: SourceTable, keys: Sequence[str]) -> list[Window]:
    _ = table.settles
    try:
        return sorted({window_for_key(table.partitioned.grain, key) for key in keys})
    except ValueError as error:
        raise TableError(f"table {table.name}: {error}") from error


def _summary(reports: Sequence[Any]) -> Table:
    columns = ("files", "read", "inserted", "updated", "unchanged", "superseded", "rejected")
    table = Table("table", box=None)
    for name in (*columns, "seconds", "rows/s", "bytes"):
        table.add_column(name, justify="right")
    for report in reports:
        speed = report.rows_read / report.seconds if report.seconds else 0
        values = [report.files, report.rows_read, report.inserted, report.updated]
        values += [report.unchanged, report.superseded, report.rejected]
        table.add_row(
            report.table,
            *(f"{value:,}" for value in values),
            f"{report.seconds:.2f}",
            f"{speed:,.0f}",
            f"{report.bytes:,}",
        )
    return table


def _line(moved: Any) -> str:
    where = f"{moved.table} {moved.partition_key}"
    if moved.path is None:
        return f"{where}: no hot rows, nothing to move"
    return (
        f"{where}: {moved.moved:,} rows moved, {moved.rows:,} in generation {moved.generation}, "
        f"{moved.bytes:,} bytes, verified, {moved.seconds:.2f} s"
    )


def _moved(moved: Any) -> dict[str, Any]:
    values = asdict(moved)
    del values["fingerprint"]
    return values


def _fail(failures: Sequence[str], what: str) -> None:
    if failures:
        raise PartlyFailedError(f"{len(failures)} {what}:\n  " + "\n  ".join(failures))
