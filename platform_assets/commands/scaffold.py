"""The command `lakebed scaffold`: table files to begin with, from a database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click


@click.command()
@click.argument("source", metavar="sqlite:FILE")
@click.option("--tables", multiple=True, metavar="TABLE", help="Only this table; may be repeated.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the files; LAKEBED_TABLES where it is not given.",
)
def scaffold(source: str, tables: Sequence[str], into: Path | None) -> None:
    """Write a table file for each table of a SQLite database, to be edited.

    FILE is relative to LAKEBED_DATA unless absolute. Types come from what is declared and stored,
    keys from primary keys; nothing that exists is overwritten.
    """
    from platform_assets.scaffold import write_table_files
    from resources.settings import read_settings

    kind, _, database = source.partition(":")
    if kind != "sqlite" or not database:
        raise click.UsageError("the source is sqlite:FILE, such as sqlite:shop.db")
    settings = read_settings()
    files = write_table_files(settings.data / database, database, tables, into or settings.tables)
    for file in files:
        click.echo(str(file))
    click.echo(f"{len(files)} table files written; look at the types and name a cursor", err=True)
