"""The commands that only read: sql, status, rejects."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import click
import duckdb
from rich import box
from rich.console import Console
from rich.table import Table

from platform_assets.commands.errors import PartlyFailedError
from platform_assets.platform import open_platform
from resources.lake import ReadSession
from resources.settings import read_settings

TABLE_ROWS = 1000
CHUNK = 10_000


@click.command()
@click.argument("query")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@click.option("--explain", is_flag=True, help="Say which cold files would be read, and the plan.")
def sql(query: str, form: str, output: Path | None, explain: bool) -> None:
    """Run SQL over both tiers, in one snapshot. QUERY may be - for standard input."""
    text = sys.stdin.read() if query == "-" else query
    platform = open_platform(read_settings())
    with platform.lake.session() as session, _clear_errors(session):
        if explain:
            _explain(session, text)
            return
        with session.stream(text) as result, _target(output) as stream:
            if result.description:
                {"table": _as_table, "csv": _as_csv, "json": _as_json}[form](result, stream)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def status(as_json: bool) -> None:
    """Show where the rows are: each table and partition, hot, due, cold or late."""
    from platform_assets.status import details, heat_map, read_status

    platform = open_platform(read_settings())
    found = read_status(platform)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(heat_map(found))
    console.print()
    console.print(details(found))


@click.command()
@click.argument("name", metavar="TABLE")
@click.option("--limit", default=20, show_default=True, help="How many, the newest first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def rejects(name: str, limit: int, as_json: bool) -> None:
    """Show the quarantine of a table: bad rows with file, row number and reason."""
    platform = open_platform(read_settings())
    table = platform.table(name)
    with platform.postgres.connect() as connection:
        cursor = connection.execute(
            "select source_file, row_number, column_name, reason, source_row, rejected_at, load_id"
            " from lakebed.rejected_row where table_name = %s"
            " order by rejected_row_id desc limit %s",
            [table.name, limit],
        )
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=str))
        return
    if not rows:
        click.echo(f"{name}: the quarantine is empty")
    for row in rows:
        click.echo(f"{row['source_file']}, row {row['row_number']}: {row['reason']}")
        click.echo(f"    {json.dumps(row['source_row'], ensure_ascii=False)}")


def _explain(session: ReadSession, text: str) -> None:
    for touched in session.prune(text):
        click.echo(
            f"{touched.table}: {len(touched.files)} of {touched.of_files} cold files, "
            f"{touched.rows:,} rows in them"
        )
        for file in touched.files:
            click.echo(f"    {session.root / file}")
    click.echo(session.connection.execute(f"explain {text}").fetchall()[0][1])


@contextmanager
def _clear_errors(session: ReadSession) -> Iterator[None]:
    """Say why a model is missing where a query fails for that."""
    try:
        yield
    except duckdb.Error as error:
        why = [f"\n{n}: {e}" for n, e in session.unreadable.items() if n in str(error)]
        if why:
            raise PartlyFailedError(str(error) + "".join(why)) from error
        raise


@contextmanager
def _target(output: Path | None) -> Iterator[TextIO]:
    """Yield stdout, or a file beside the output that is renamed when all is written."""
    if output is None:
        yield sys.stdout
        return
    unfinished = output.with_name(f".{output.name}.part")
    try:
        with unfinished.open("w", newline="", encoding="utf-8") as stream:
            yield stream
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(output)


def _as_table(result: duckdb.DuckDBPyConnection, stream: TextIO) -> None:
    rows = result.fetchmany(TABLE_ROWS + 1)
    table = Table(box=box.SIMPLE_HEAD)
    numbers = {"BIGINT", "INTEGER", "DOUBLE", "HUGEINT", "SMALLINT", "FLOAT", "UBIGINT"}
    for name, kind, *_ in result.description or ():
        right = str(kind) in numbers or str(kind).startswith("DECIMAL")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows[:TABLE_ROWS]:
        table.add_row(*("" if value is None else str(value) for value in row))
    wide = None if stream.isatty() else 10_000
    Console(file=stream, width=wide).print(table)
    if len(rows) > TABLE_ROWS:
        click.echo(f"more than {TABLE_ROWS:,} rows; --format csv gives all of them", err=True)


def _as_csv(result: duckdb.DuckDBPyConnection, stream: TextIO) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(column[0] for column in result.description or ())
    while rows := result.fetchmany(CHUNK):
        writer.writerows([_plain(value) for value in row] for row in rows)


def _as_json(result: duckdb.DuckDBPyConnection, stream: TextIO) -> None:
    names = [column[0] for column in result.description or ()]
    separator = "[\n"
    while rows := result.fetchmany(CHUNK):
        for row in rows:
            record = dict(zip(names, map(_plain, row), strict=True))
            stream.write(separator + json.dumps(record, ensure_ascii=False, default=str))
            separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and value != value:
        return None
    return value
