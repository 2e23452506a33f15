"""SQLite: each value has a type of its own, whatever its column was declared as.

Values come as SQLite stores them: integer, real, text or blob. A column of one storage class gets
that type; in any other each value is written as text, for the contract to judge row by row. Text
comes as bytes, so that broken UTF-8 rejects single rows.

One statement is one snapshot. The driver hands out rows: see values.py for what that costs.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import polars as pl
from psycopg import sql

from lakebed.ingest.sources.queried import DatabaseFileReader
from lakebed.ingest.sources.reader import (
    Batch,
    SourceError,
    SourceItem,
    first_line,
    listed,
    row_numbers,
    without_doubles,
)
from lakebed.ingest.sources.values import column, dated, number_of
from lakebed.resources.settings import Settings
from lakebed.spec.queried_sources import SqliteTable

ROWS_AT_ONCE = 32_768
HIDDEN_COLUMN = 1
PATIENCE = 10.0


class SqliteReader(DatabaseFileReader):
    """Reads SqliteTable."""

    log_suffix = "-wal"

    def __init__(self, source: SqliteTable, settings: Settings) -> None:
        """Read the table of the databases of source."""
        super().__init__(source.database, source.table, settings.data)
        self._source = source

    def columns(self, item: SourceItem) -> list[str]:
        """Return the names of the table's columns. Raises SourceError."""
        with closing(_open(item)) as connection:
            return without_doubles(item, [name for name, _ in self._columns(connection, item)])

    def types(self, item: SourceItem) -> dict[str, pl.DataType | None]:
        """Return the types of the first rows; what is not declared as blob is text in bytes."""
        with closing(_open(item)) as connection:
            declared = dict(self._columns(connection, item))
        return {
            name: None if dtype == pl.Binary and "BLOB" not in declared[name].upper() else dtype
            for name, dtype in super().types(item).items()
        }

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows, of a table with a cursor those that may lie beyond it."""
        with closing(_open(item)) as connection:
            query = sql.SQL("select {} from {}").format(
                sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(self._source.table)
            )
            bounds: list[Any] = []
            if newer is not None:
                declared = dict(self._columns(connection, item))[newer[0]]
                condition, bounds = self._condition(newer[0], newer[1], declared)
                query = sql.SQL("{} {}").format(query, condition)
            try:
                found = connection.execute(query.as_string(), bounds)
                row = 1
                while rows := found.fetchmany(ROWS_AT_ONCE):
                    yield Batch(self._frame(columns, rows), row_numbers(row, len(rows)))
                    row += len(rows)
            except sqlite3.Error as error:
                raise _unreadable(item, error) from error

    def _frame(self, columns: list[str], rows: list[tuple[Any, ...]]) -> pl.DataFrame:
        series = []
        for name, values in zip(columns, zip(*rows, strict=True), strict=True):
            epoch = self._source.dates.get(name)
            series.append(column(name, dated(values, epoch) if epoch else values))
        return pl.DataFrame(series)

    def _columns(self, connection: sqlite3.Connection, item: SourceItem) -> list[tuple[str, str]]:
        """Return the names and declared types, generated columns among them."""
        try:
            rows = connection.execute(
                "select name, type, hidden from pragma_table_xinfo(?)", [self._source.table]
            ).fetchall()
            if not rows:
                tables = connection.execute(
                    "select name from sqlite_master where type in ('table', 'view')"
                    " and name not like 'sqlite\\_%' escape '\\' order by name limit 20"
                ).fetchall()
                there = listed([name.decode(errors="replace") for (name,) in tables]) or "none"
                raise SourceError(
                    item.path, f"it has no table {self._source.table!r}; there are: {there}"
                )
        except sqlite3.Error as error:
            raise _unreadable(item, error) from error
        return [
            (name.decode(errors="replace"), declared.decode(errors="replace"))
            for name, declared, hidden in rows
            if hidden != HIDDEN_COLUMN
        ]

    def _condition(self, name: str, value: Any, declared: str) -> tuple[sql.Composable, list[Any]]:
        """Return a condition that holds for all rows from value on, and for few earlier ones.

        SQLite sorts numbers before text before blobs; where the cursor may be of several classes,
        those that it cannot compare with value are taken along. Two ranges: an index serves both.
        """
        epoch = self._source.dates.get(name)
        there = sql.Identifier(name)
        if isinstance(value, datetime | date):
            # A day early: the text may be in another zone, and may have a T or a space after it.
            day = (value - timedelta(days=1)).isoformat()[:10]
            if epoch is None or not isinstance(value, datetime):
                return sql.SQL("where {0} >= ? or {0} < ''").format(there), [day]
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            number = math.floor(number_of(moment - timedelta(seconds=1), epoch))
            if _is_text(declared):
                return sql.SQL(""), []
            return sql.SQL("where ({0} >= ? and {0} < '') or {0} >= ?").format(there), [number, day]
        if isinstance(value, int | float | Decimal):
            if _is_text(declared):
                return sql.SQL(""), []  # it would compare as text: '10' < '9'
            exact = isinstance(value, int) and abs(value) < 2**63
            low = value if exact else math.nextafter(float(value), -math.inf)
            return sql.SQL("where {} >= ?").format(there), [low]
        if isinstance(value, str):
            # Compared byte by byte, as the contract does, whatever the column's collation.
            return sql.SQL("where {0} >= ? collate binary or {0} < ''").format(there), [value]
        return sql.SQL(""), []


def _open(item: SourceItem) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            f"file:{quote(item.path)}?mode=ro",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,
            check_same_thread=False,  # a load reads ahead in a thread, one at a time
        )
        connection.text_factory = bytes
    except sqlite3.Error as error:
        raise _unreadable(item, error) from error
    return connection


def _is_text(declared: str) -> bool:
    """Whether a column has the affinity TEXT, as SQLite finds it from the declared type."""
    kind = declared.upper()
    return "INT" not in kind and any(part in kind for part in ("CHAR", "CLOB", "TEXT"))


def _unreadable(item: SourceItem, error: sqlite3.Error) -> SourceError:
    return SourceError(item.path, f"SQLite cannot read it ({first_line(error)})")
