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
from lakebed.cli.query_text import query_text

if TYPE_CHECKING:
    from lakebed.cli.query_output import Format
    from lakebed.resources.session import ReadSession


@click.command()
@click.argument("query", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    help="How to write the rows; by default the ending of --output, or a table.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
def sql(query: str | None, form: Format | None, output: Path | None) -> None:
    """Query both tiers in DuckDB's dialect; without a query: a shell.

    QUERY reads one snapshot of all tables and models, and changes nothing. It may be - for
    standard input. Of several statements the rows of the last one are shown. A table shows the
    first 1,000 rows and says how many more there are; csv and json write all of them.

    The shell takes a new snapshot for each statement. \\? lists what it knows: \\d, \\d TABLE,
    \\timing, \\q. `lakebed psql` opens PostgreSQL's own shell on the hot tier.
    """  # noqa: D301
    if query is None:
        if form is not None or output is not None:
            raise click.UsageError("--format and --output go with a query")
        from lakebed.cli.shell import run_shell

        run_shell(open_lake_for_reading())
        return
    text = query_text(query)
    if not text.strip(" \t\r\n;"):
        raise click.UsageError("the query is empty")
    if output is not None and not output.absolute().parent.is_dir():
        raise click.BadParameter(
            f"there is no folder {output.absolute().parent}", param_hint="--output"
        )
    with open_lake_for_reading().session() as session, clear_errors(session):
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


@contextmanager
def clear_errors(session: ReadSession) -> Iterator[None]:
    """Raise DuckDB's errors as QueryError; say why a model is missing where that is the cause."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        why = [
            f"\n\nThe model {name} cannot be read; build it again (`lakebed build {name}`): "
            f"{reason}"
            for name, reason in session.unreadable.items()
            if name in str(error)
        ]
        raise QueryError(str(error) + "".join(why)) from error
