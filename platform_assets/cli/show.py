"""The commands that only read: sql, status."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from lakebed.cli.errors import QueryError
from lakebed.cli.home import opened

if TYPE_CHECKING:
    from lakebed.cli.results import Format
    from lakebed.resources.session import ReadSession
    from lakebed.resources.touched import Touched


@click.command()
@click.argument("query")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    help="How rows are written; by default what the output's name ends with, or a table.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@click.option(
    "--explain",
    is_flag=True,
    help="Say which cold files and how many hot rows would be read, and the plan.",
)
def sql(query: str, form: Format | None, output: Path | None, explain: bool) -> None:
    """Run SQL over both tiers, in one snapshot. QUERY may be - for standard input.

    Of several statements the rows of the last one are shown. A table shows the first 1,000 rows
    and says how many more there are; csv and json write all of them.
    """
    text = sys.stdin.read() if query == "-" else query
    if not text.strip(" \t\r\n;"):
        raise click.UsageError("the query is empty")
    if output is not None and not output.absolute().parent.is_dir():
        raise click.BadParameter(
            f"there is no folder {output.absolute().parent}", param_hint="--output"
        )

    platform = opened()
    with platform.lake.session() as session, _clear_errors(session):
        if explain:
            _explain(session, text)
        else:
            _answer(session, text, form or _format_of(output), output)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def status(as_json: bool) -> None:
    """Show where the rows are: each table and partition, hot, due, cold or late.

    Below that, what is wrong with sources, loads and rows; `lakebed doctor` looks at all.
    """
    from rich.console import Console

    from lakebed.monitoring.status import read_status
    from lakebed.monitoring.status_tables import details, findings_table, heat_map

    platform = opened()
    found = read_status(platform)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(heat_map(found))
    console.print()
    console.print(details(found))
    if found.findings:
        console.print()
        console.print(findings_table(found.findings))


def _format_of(output: Path | None) -> Format:
    forms: dict[str, Format] = {".csv": "csv", ".json": "json"}
    return forms.get(output.suffix.lower(), "table") if output else "table"


def _answer(session: ReadSession, text: str, form: Format, output: Path | None) -> None:
    from lakebed.cli.progress import working
    from lakebed.cli.results import TABLE_ROWS, run, write

    with run(session, text) as rows:
        if output is None:
            written = write(session, rows, form, sys.stdout)
        else:
            with working(f"writing {output.name}") as work, beside(output) as stream:
                written = write(session, rows, form, stream, work.rows)
    if form == "table" and written > TABLE_ROWS:
        click.echo(
            f"{written - TABLE_ROWS:,} more rows are not shown; --format csv gives all", err=True
        )
    elif output is not None:
        click.echo(f"{written:,} rows in {output}", err=True)


def _explain(session: ReadSession, text: str) -> None:
    from lakebed.cli.results import statements_of
    from lakebed.resources.touched import touched

    *before, last = statements_of(session, text)
    for statement in before:
        with session.stream(statement) as result:
            result.fetchall()
    found = touched(session, last)
    for table in found:
        for line in _about(table):
            click.echo(line)
        for file in table.files:
            click.echo(f"    {session.lake.address(file)}")
    if not found:
        click.echo("no table is read")
    with session.pruned(last):
        click.echo(session.bare.execute(f"explain {last}").fetchall()[0][1])


def _about(table: Touched) -> Iterator[str]:
    """Say how much of a table is read, and what was left out."""
    from lakebed.resources.touched import COUNT_UP_TO

    cold, whole = table.cold, table.of_cold
    hot = "not there" if table.hot_rows is None else f"{table.hot_rows:,} rows"
    yield f"{table.table}: hot {'more than ' if table.hot_rows == COUNT_UP_TO else ''}{hot}"
    if whole.files:
        yield (
            f"    cold {cold.files:,} of {whole.files:,} files, {cold.rows:,} of {whole.rows:,} "
            f"rows, {cold.bytes / 1e6:,.1f} of {whole.bytes / 1e6:,.1f} MB"
        )
    first, last = table.bounds.first, table.bounds.last
    if first is not None or last is not None:
        since = "" if first is None else f" from {first:%Y-%m-%d %H:%M:%S}"
        until = "" if last is None else f" to {last:%Y-%m-%d %H:%M:%S}"
        yield f"    within{since}{until} UTC"
    for column, order in table.text_orders:
        yield f"    text order of {column}: by code point; in PostgreSQL by {order}"


@contextmanager
def _clear_errors(session: ReadSession) -> Iterator[None]:
    """Say why a model is missing where a query fails for that."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        why = [
            f"\n\nThe model {name} cannot be read, build it anew (lakebed build {name}): {reason}"
            for name, reason in session.unreadable.items()
            if name in str(error)
        ]
        raise QueryError(str(error) + "".join(why)) from error


@contextmanager
def beside(output: Path) -> Iterator[TextIO]:
    """Yield a file beside the output that is renamed when all is written.

    What is no plain file, a pipe or a device, is written as it is; a link to one keeps its place.
    """
    output = output.resolve()
    if output.exists() and not output.is_file():
        with output.open("w", newline="", encoding="utf-8") as stream:
            yield stream
        return
    unfinished = output.with_name(f".{output.name}.part")
    try:
        with unfinished.open("w", newline="", encoding="utf-8") as stream:
            yield stream
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(output)
