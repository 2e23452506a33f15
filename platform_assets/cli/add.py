"""The command add: table files for what a source has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lakebed.resources.settings import Settings
    from lakebed.scaffolding.table_file import TableFile

GRAINS = ("hour", "day", "week", "month", "year")


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--tables", multiple=True, metavar="TABLE", help="Only this table; repeatable.")
@click.option("--name", metavar="NAME", help="The table's name in Lakebed, if there is one table.")
@click.option("--schema", metavar="SCHEMA", help="With sql:SETTING: the schema of the tables.")
@click.option(
    "--time", metavar="COLUMN", help="With adopt: the column that tells when a row is from."
)
@click.option("--grain", type=click.Choice(GRAINS), help="With adopt: the length of a partition.")
@click.option(
    "--hot-for",
    default="90d",
    show_default=True,
    help="With adopt: how long rows stay hot: 12h, 90d, 8w.",
)
@click.option("--print", "printed", is_flag=True, help="Print the files instead of writing them.")
def add(
    source: str,
    tables: Sequence[str],
    name: str | None,
    schema: str | None,
    time: str | None,
    grain: str | None,
    hot_for: str,
    printed: bool,
) -> None:
    """Write a table file for each table of a source.

    The files go into the project's folder of tables, and overwrite nothing.

    \b
    SOURCE is one of
      orders/*.csv           files, relative to data/: CSV, JSON lines, Parquet, Arrow, also packed
      sqlite:shop.db         a SQLite database
      duckdb:shop.duckdb     a DuckDB database
      sql:SHOP_URL           PostgreSQL, MySQL, ...: SHOP_URL in .env holds the database's URL
      adopt:app.events       a table that an application keeps in Lakebed's own PostgreSQL

    Names, types and keys come from the source. Look at each file: a cursor and a partitioning are
    yours to choose.
    """  # noqa: D301
    from lakebed.resources.settings import read_settings
    from lakebed.scaffolding.table_file import write_files

    settings = read_settings()
    kind, _, place = source.partition(":")
    if kind != "adopt" and (time is not None or grain is not None):
        raise click.UsageError("--time and --grain go with adopt:SCHEMA.TABLE")
    if kind != "sql" and schema is not None:
        raise click.UsageError("--schema goes with sql:SETTING")
    if kind == "adopt":
        files = _adopted(settings, place, time, grain, hot_for)
    else:
        files = _described(settings, source, tables, name, schema)
    _check_new(settings, files, place if kind == "adopt" else None)
    if printed:
        click.echo("\n\n".join(file.text for file in files), nl=False)
        return
    for path in write_files(files, settings.tables):
        click.echo(str(path))
    names = " ".join(file.name for file in files)
    after = "move TABLE --due" if kind == "adopt" else f"load {names}"
    click.echo(
        f"{len(files)} table files written. Look at them, then: lakebed plan {names}; "
        f"lakebed {after}",
        err=True,
    )


def _check_new(settings: Settings, files: Sequence[TableFile], adopted: str | None) -> None:
    """Refuse what a table file declares already: by the table's name, or as SCHEMA.TABLE.

    Raises:
        AddError: The names of the tables that are declared.
    """
    from lakebed.scaffolding.table_file import AddError
    from lakebed.spec.table_files import read_table_files

    if not settings.tables.is_dir():
        return
    declared = read_table_files(settings.tables).tables
    names = {file.name for file in files}
    there = sorted(table.name for table in declared if table.name in names)
    if adopted is not None and not there:
        place = adopted if "." in adopted else f"public.{adopted}"
        there = [table.name for table in declared if f"{table.schema}.{table.name}" == place]
    if there:
        raise AddError(
            f"{settings.tables} declares {', '.join(there)} already, and nothing was written. Edit "
            "that table file, or move it away and add the table again"
        )


def _described(
    settings: Settings, source: str, tables: Sequence[str], name: str | None, schema: str | None
) -> list[TableFile]:
    from lakebed.scaffolding.described_databases import describe_duckdb, describe_server
    from lakebed.scaffolding.described_files import describe_files, pattern_in_data
    from lakebed.scaffolding.sqlite_tables import table_files
    from lakebed.scaffolding.table_file import AddError, table_file

    kind, _, place = source.partition(":")
    if kind == "sqlite":
        files = table_files(settings.data / place, place, tables, name)
    elif kind == "duckdb":
        described = describe_duckdb(settings.data / place, place, tables)
        files = [table_file(table, name) for table in described]
    elif kind == "sql":
        described = describe_server(settings, place, schema, tables)
        files = [table_file(table, name) for table in described]
    else:
        if tables:
            raise click.UsageError("--tables goes with a database")
        pattern = pattern_in_data(source, settings.data, Path.cwd())
        files = [table_file(describe_files(pattern, settings.data), name)]
    if name is not None and len(files) > 1:
        raise AddError(f"--name goes with one table, and {source} has {len(files)}: say --tables")
    return files


def _adopted(
    settings: Settings, place: str, time: str | None, grain: str | None, hot_for: str
) -> list[TableFile]:
    from lakebed.resources.postgres import Postgres
    from lakebed.scaffolding.adoption import adopt
    from lakebed.spec.partitions import Grain
    from lakebed.spec.times import read_duration

    with Postgres(settings).connect(autocommit=True) as connection:
        adopted = adopt(
            connection,
            place,
            settings.clock.now(),
            time=time,
            grain=Grain(grain) if grain else None,
            hot_for=read_duration(hot_for),
        )
    for note in adopted.notes:
        click.echo(f"note: {note}", err=True)
    return [adopted.file]
