"""DuckDB databases, read by DuckDB itself: columns from end to end.

Types that Arrow and polars would change on the way are handed over as text, nested ones as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from psycopg import sql

from lakebed.ingest.sources.queried import DatabaseFileReader, batches_of, private_duckdb
from lakebed.ingest.sources.reader import (
    BATCH_ROWS,
    Batch,
    SourceError,
    SourceItem,
    first_line,
    listed,
)
from lakebed.resources.settings import Settings
from lakebed.spec.queried_sources import DuckdbTable

AS_THEY_ARE = re.compile(
    "BOOLEAN|U?(TINYINT|SMALLINT|INTEGER|BIGINT)|FLOAT|DOUBLE|VARCHAR|BLOB|DATE|TIME|"
    r"TIMESTAMP(_S|_MS|_NS| WITH TIME ZONE)?|DECIMAL\(\d+,\d+\)"
)


class DuckdbReader(DatabaseFileReader):
    """Reads DuckdbTable."""

    log_suffix = ".wal"

    def __init__(self, source: DuckdbTable, settings: Settings) -> None:
        """Read the table of the databases of source."""
        super().__init__(source.database, f"{source.schema}.{source.table}", settings.data)
        self._source = source

    def columns(self, item: SourceItem) -> list[str]:
        """Return the names of the table's columns. Raises SourceError."""
        with self._attached(item) as connection:
            return list(self._types(connection, item))

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows, of a table with a cursor those from it on."""
        with self._attached(item) as connection:
            types = self._types(connection, item)
            query = sql.SQL("select {} from {}").format(
                sql.SQL(", ").join(_expression(name, types[name]) for name in columns), self._name
            )
            bounds: list[Any] = []
            # Text would be compared as text where the contract has a time or a number.
            if newer is not None and (types[newer[0]] != "VARCHAR" or isinstance(newer[1], str)):
                query += sql.SQL(" where {} >= ?").format(sql.Identifier(newer[0]))
                bounds = [newer[1]]
            try:
                found = connection.execute(query.as_string(), bounds)
                yield from batches_of(found.to_arrow_reader(BATCH_ROWS))
            except duckdb.Error as error:
                raise _unreadable(item, error) from error

    @property
    def _name(self) -> sql.Identifier:
        return sql.Identifier("source", self._source.schema, self._source.table)

    @contextmanager
    def _attached(self, item: SourceItem) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database read-only, in one transaction."""
        with private_duckdb() as connection:
            attach = sql.SQL("attach {} as source (type duckdb, read_only)").format(
                sql.Literal(item.path)
            )
            try:
                connection.execute(attach.as_string())
                connection.execute("begin")
            except duckdb.Error as error:
                raise _unreadable(item, error) from error
            yield connection

    def _types(self, connection: duckdb.DuckDBPyConnection, item: SourceItem) -> dict[str, str]:
        describe = sql.SQL("describe {}").format(self._name)
        try:
            rows = connection.execute(describe.as_string()).fetchall()
        except duckdb.CatalogException:
            tables = connection.execute(
                "select schema_name || '.' || table_name from duckdb_tables()"
                " where database_name = 'source' order by all limit 20"
            ).fetchall()
            there = listed([name for (name,) in tables]) or "none"
            raise SourceError(
                item.path, f"it has no table {self._table!r}; there are: {there}"
            ) from None
        except duckdb.Error as error:
            raise _unreadable(item, error) from error
        return {row[0]: row[1] for row in rows}


def _expression(name: str, kind: str) -> sql.Composable:
    column = sql.Identifier(name)
    if AS_THEY_ARE.fullmatch(kind):
        return column
    if kind == "BLOB[]":
        hexadecimal = "list_transform({0}, lambda x: '\\x' || hex(x))"
        return sql.SQL(f"to_json({hexadecimal})::varchar as {{0}}").format(column)
    if kind.endswith("]") or kind.startswith(("STRUCT(", "MAP(", "UNION(")):
        return sql.SQL("to_json({0})::varchar as {0}").format(column)
    return sql.SQL("{0}::varchar as {0}").format(column)


def _unreadable(item: SourceItem, error: duckdb.Error) -> SourceError:
    problem = f"DuckDB cannot read it ({first_line(error)})"
    if "lock" in str(error):
        problem += "; another process has it open for writing: let that close it"
    return SourceError(item.path, problem)
