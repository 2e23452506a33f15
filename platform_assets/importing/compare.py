"""Compare imported tables with their source, row counts first and then each column's figures."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import sqlalchemy as sa
from psycopg import sql

from lakebed.importing.figures import (
    ComparedColumn,
    TableFigures,
    compared_columns,
    differences,
)
from lakebed.importing.figures_duckdb import duckdb_figures
from lakebed.importing.figures_postgres import postgres_figures
from lakebed.importing.figures_sqlite import sqlite_figures
from lakebed.importing.sqlite_structure import open_sqlite
from lakebed.importing.statements import ImportedTable
from lakebed.importing.structure import ImportSourceError
from lakebed.ingest.sources.reader import first_line
from lakebed.resources.postgres import Connection


@dataclass(frozen=True)
class TableCheck:
    """How an imported table compares with its source.

    Attributes:
        table: The table here.
        source_rows: The rows that the source has now; None where they were not counted.
        rows: The rows here.
        rejected: The rows that wait in the quarantine.
        columns: How many columns were compared by their figures.
        differences: Where the two sides differ, in words. None: they agree.
        not_compared: Columns whose figures were not compared, and why.
    """

    table: str
    source_rows: int | None
    rows: int
    rejected: int
    columns: int = 0
    differences: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()


def compare_sqlite(
    connection: Connection, database: Path, tables: list[ImportedTable]
) -> list[TableCheck]:
    """Compare tables with a SQLite database.

    Raises:
        ImportSourceError: SQLite cannot read the file.
    """
    found = []
    try:
        with closing(open_sqlite(database)) as source:
            for one in tables:
                columns, passed = compared_columns(one.table)
                theirs = sqlite_figures(source, one.source, columns)
                found.append(compare_table(connection, one, columns, passed, theirs))
    except sqlite3.Error as error:
        raise ImportSourceError(f"{database}: SQLite cannot read it ({error})") from error
    return found


def compare_duckdb(
    connection: Connection, database: Path, tables: list[ImportedTable]
) -> list[TableCheck]:
    """Compare tables with a DuckDB file.

    Raises:
        ImportSourceError: DuckDB cannot read the file.
    """
    found = []
    try:
        with duckdb.connect(str(database), read_only=True) as source:
            for one in tables:
                columns, passed = compared_columns(one.table)
                theirs = duckdb_figures(source, one.source, columns)
                found.append(compare_table(connection, one, columns, passed, theirs))
    except duckdb.Error as error:
        raise ImportSourceError(
            f"{database}: DuckDB cannot read it ({first_line(error)})"
        ) from error
    return found


def compare_server(
    connection: Connection, inspector: Any, schema: str | None, tables: list[ImportedTable]
) -> list[TableCheck]:
    """Compare the row counts of tables with those of a database server."""
    found = []
    with inspector.engine.connect() as source:
        for one in tables:
            counted = sa.select(sa.func.count()).select_from(sa.table(one.source, schema=schema))
            theirs = TableFigures(source.execute(counted).scalar_one(), {})
            passed = ["figures of a server's columns are not compared, only rows"]
            found.append(compare_table(connection, one, [], passed, theirs))
    return found


def compare_table(
    connection: Connection,
    imported: ImportedTable,
    columns: list[ComparedColumn],
    passed: list[str],
    theirs: TableFigures,
) -> TableCheck:
    """Compare a table's figures with those of its source."""
    table = imported.table
    rejected = _rejected(connection, table.name)
    cold = table.tiering is not None
    ours = postgres_figures(connection, table, [] if cold else columns)
    wrong: list[str] = []
    if cold:
        passed = [*passed, "its rows may be in the lake, and only counts of hot rows are known"]
        columns = []
    elif theirs.rows != ours.rows:
        wrong.append(
            f"{theirs.rows:,} rows in the source, {ours.rows:,} here, {rejected:,} rejected"
        )
    else:
        for column in columns:
            source = theirs.columns[column.name]
            wrong += differences(column, source, ours.columns[column.name])
            if source.unlike:
                passed = [*passed, f"{column.name}: {source.unlike:,} values of another type"]
    return TableCheck(
        table.name, theirs.rows, ours.rows, rejected, len(columns), tuple(wrong), tuple(passed)
    )


def _rejected(connection: Connection, name: str) -> int:
    query = sql.SQL(
        "select count(*) from lakebed.rejected_row where table_name = {} and resolved_by is null"
    ).format(sql.Literal(name))
    ((count,),) = connection.execute(query).fetchall()
    return int(count)
