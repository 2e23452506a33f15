"""The command sql: a query over both tiers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakebed.cli.context import open_lake_for_reading
from lakebed.cli.errors import QueryError
from lakebed.cli.output_file import open_output

if TYPE_CHECKING:
    from lakebed.cli.query_output import Format
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

    with open_lake_for_reading().session() as session, _clear_errors(session):
        if explain:
            _explain(session, text)
        else:
            _answer(session, text, form or _format_of(output), output)


def _format_of(output: Path | None) -> Format:
    forms: dict[str, Format] = {".csv": "csv", ".json": "json"}
    return forms.get(output.suffix.lower(), "table") if output else "table"


def _answer(session: ReadSession, text: str, form: Format, output: Path | None) -> None:
    from lakebed.cli.progress import working
    from lakebed.cli.query_output import TABLE_ROWS, run, write

    with run(session, text) as rows:
        if output is None:
            written = write(session, rows, form, sys.stdout)
        else:
            with working(f"writing {output.name}") as work, open_output(output) as stream:
                written = write(session, rows, form, stream, work.rows)
    if form == "table" and written > TABLE_ROWS:
        click.echo(
            f"{written - TABLE_ROWS:,} more rows are not shown; --format csv gives all", err=True
        )
    elif output is not None:
        click.echo(f"{written:,} rows in {output}", err=True)


def _explain(session: ReadSession, text: str) -> None:
    from lakebed.cli.query_output import statements_of
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
