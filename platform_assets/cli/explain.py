"""The command explain: which files and rows a query reads, and its plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lakebed.cli.context import open_lake_for_reading
from lakebed.cli.query_text import query_text
from lakebed.cli.sql import clear_errors

if TYPE_CHECKING:
    from lakebed.resources.session import ReadSession
    from lakebed.resources.touched import Touched


@click.command()
@click.argument("query")
def explain(query: str) -> None:
    """Show what a query reads of each tier, and its plan.

    For each table: the cold files and the hot rows that the query needs, and the times within
    which it looks. The query itself does not run. QUERY may be - for standard input.
    """
    text = query_text(query)
    if not text.strip(" \t\r\n;"):
        raise click.UsageError("the query is empty")
    with open_lake_for_reading().session() as session, clear_errors(session):
        for line in explanation(session, text):
            click.echo(line)


def explanation(session: ReadSession, text: str) -> Iterator[str]:
    """Yield the lines that say what the last statement of a text reads, and its plan."""
    from lakebed.cli.query_output import statements_of
    from lakebed.resources.touched import touched

    *before, last = statements_of(session, text)
    for statement in before:
        with session.stream(statement) as result:
            result.fetchall()
    found = touched(session, last)
    for table in found:
        yield from _about(table)
        for file in table.files:
            yield f"    {session.lake.address(file)}"
    if not found:
        yield "no table is read"
    with session.pruned(last):
        yield session.bare.execute(f"explain {last}").fetchall()[0][1]


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
