"""The databases that can be imported, each with its tables, its structure and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lakebed.importing.compare import TableCheck, compare_duckdb, compare_server, compare_sqlite
from lakebed.importing.duckdb_structure import read_duckdb
from lakebed.importing.figures import kind_of
from lakebed.importing.server_structure import read_server
from lakebed.importing.sqlite_structure import read_sqlite
from lakebed.importing.statements import ImportedTable
from lakebed.importing.structure import DatabaseStructure, ImportSourceError
from lakebed.resources.postgres import Connection
from lakebed.resources.settings import Settings
from lakebed.scaffolding.described_databases import (
    describe_duckdb,
    describe_server,
    duckdb_table_names,
    open_server,
)
from lakebed.scaffolding.sqlite_tables import sqlite_table_names, table_files
from lakebed.scaffolding.table_file import TableFile, table_file
from lakebed.spec.queried_sources import DuckdbTable, SqliteTable, SqlTable
from lakebed.spec.table import SourceTable


class ImportSource(Protocol):
    """A database that can be imported."""

    @property
    def place(self) -> str:
        """What the database is called in messages."""

    def tables(self) -> list[str]:
        """Return the names of its tables."""

    def source_table(self, table: SourceTable) -> str | None:
        """Return which of its tables a table file reads, None where it reads another source."""

    def files(self, names: Sequence[str]) -> list[TableFile]:
        """Return table files of the named tables, in the order of the names."""

    def structure(self, tables: Sequence[ImportedTable]) -> DatabaseStructure:
        """Return the structure of tables."""

    def compare(self, connection: Connection, tables: list[ImportedTable]) -> list[TableCheck]:
        """Compare tables with the source."""


class SqliteSource:
    """A SQLite database in the project's folder of data."""

    def __init__(self, database: Path, place: str) -> None:
        """Name the database. place: the file as the table files name it."""
        self._database = database
        self.place = place

    def tables(self) -> list[str]:
        """Return the names of its tables, without virtual tables and their shadow tables."""
        return sorted(sqlite_table_names(self._database))

    def source_table(self, table: SourceTable) -> str | None:
        """Return which of its tables a table file reads, None where it reads another source."""
        source = table.source
        if isinstance(source, SqliteTable) and source.database == self.place:
            return source.table
        return None

    def files(self, names: Sequence[str]) -> list[TableFile]:
        """Return table files of the named tables, in the order of the names."""
        return table_files(self._database, self.place, names)

    def structure(self, tables: Sequence[ImportedTable]) -> DatabaseStructure:
        """Return the structure of tables."""
        return read_sqlite(
            self._database,
            {one.source: one.names for one in tables},
            {one.source: boolean_columns(one.table) for one in tables},
        )

    def compare(self, connection: Connection, tables: list[ImportedTable]) -> list[TableCheck]:
        """Compare tables with the source."""
        return compare_sqlite(connection, self._database, tables)


class DuckdbSource:
    """A DuckDB file in the project's folder of data; its schema main."""

    def __init__(self, database: Path, place: str) -> None:
        """Name the database. place: the file as the table files name it."""
        self._database = database
        self.place = place

    def tables(self) -> list[str]:
        """Return the names of its tables."""
        return duckdb_table_names(self._database)

    def source_table(self, table: SourceTable) -> str | None:
        """Return which of its tables a table file reads, None where it reads another source."""
        source = table.source
        if isinstance(source, DuckdbTable) and source.database == self.place:
            return source.table if source.schema == "main" else None
        return None

    def files(self, names: Sequence[str]) -> list[TableFile]:
        """Return table files of the named tables, in the order of the names."""
        return [table_file(one) for one in describe_duckdb(self._database, self.place, names)]

    def structure(self, tables: Sequence[ImportedTable]) -> DatabaseStructure:
        """Return the structure of tables."""
        return read_duckdb(
            self._database,
            {one.source: one.names for one in tables},
            {one.source: boolean_columns(one.table) for one in tables},
        )

    def compare(self, connection: Connection, tables: list[ImportedTable]) -> list[TableCheck]:
        """Compare tables with the source."""
        return compare_duckdb(connection, self._database, tables)


class ServerSource:
    """A database of PostgreSQL, MySQL or MariaDB, whose URL a setting holds."""

    def __init__(self, settings: Settings, place: str, schema: str | None) -> None:
        """Name the database. place: the variable that holds its URL."""
        self._settings = settings
        self._schema = schema
        self.place = place

    def tables(self) -> list[str]:
        """Return the names of its tables."""
        with open_server(self._settings, self.place) as inspector:
            return sorted(inspector.get_table_names(self._schema))

    def source_table(self, table: SourceTable) -> str | None:
        """Return which of its tables a table file reads, None where it reads another source."""
        source = table.source
        if isinstance(source, SqlTable) and source.url_setting == self.place:
            return source.table if source.schema == self._schema else None
        return None

    def files(self, names: Sequence[str]) -> list[TableFile]:
        """Return table files of the named tables, in the order of the names."""
        described = describe_server(self._settings, self.place, self._schema, names)
        return [table_file(one) for one in described]

    def structure(self, tables: Sequence[ImportedTable]) -> DatabaseStructure:
        """Return the structure of tables."""
        with open_server(self._settings, self.place) as inspector:
            return read_server(
                inspector,
                self._schema,
                {one.source: one.names for one in tables},
                {one.source: boolean_columns(one.table) for one in tables},
            )

    def compare(self, connection: Connection, tables: list[ImportedTable]) -> list[TableCheck]:
        """Compare the row counts of tables with the source."""
        with open_server(self._settings, self.place) as inspector:
            return compare_server(connection, inspector, self._schema, tables)


def boolean_columns(table: SourceTable) -> frozenset[str]:
    """Return the boolean columns of a table."""
    return frozenset(c.name for c in table.contract if kind_of(c) == "boolean")


def open_source(settings: Settings, source: str, schema: str | None = None) -> ImportSource:
    """Return the database that SOURCE names.

    Args:
        settings: The settings of the project.
        source: `sqlite:FILE` or `duckdb:FILE`, in the folder of data or as the shell names it, or
            `sql:SETTING`, the variable that holds a server's URL.
        schema: Of sql:SETTING, the schema of the tables.

    Raises:
        ImportSourceError: It is another kind of source, or the file is missing.
    """
    kind, _, place = source.partition(":")
    if kind == "sql" and place:
        return ServerSource(settings, place, schema)
    if kind not in ("sqlite", "duckdb") or not place:
        raise ImportSourceError(
            f"{source!r} cannot be imported. Expected sqlite:FILE, duckdb:FILE or "
            "sql:SETTING, such as sqlite:shop.db"
        )
    opened = SqliteSource if kind == "sqlite" else DuckdbSource
    return opened(*_file_in_data(settings, place))


def _file_in_data(settings: Settings, place: str) -> tuple[Path, str]:
    """Return a database file, and its name for table files: relative to the folder of data."""
    inside = settings.data / place
    if inside.is_file():
        return inside, place
    outside = Path(place)
    if not outside.is_file():
        raise ImportSourceError(
            f"No file {place}, neither in {settings.data} nor in {Path.cwd()}. Name an existing "
            "database file"
        )
    whole = outside.resolve()
    if whole.is_relative_to(settings.data.resolve()):
        return whole, whole.relative_to(settings.data.resolve()).as_posix()
    return whole, str(whole)
