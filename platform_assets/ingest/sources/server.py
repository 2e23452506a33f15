"""Tables of database servers: what is the same for all, and servers that SQLAlchemy speaks to.

A server-side cursor streams the rows of one statement, which is one snapshot. The driver hands them
out one by one: fetchmany, then column by column (values.py). MySQL and MariaDB are read without the
driver's own conversions: each value as the server wrote it, so that a zero date or an unsigned
number is judged by the contract and not by the driver.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import polars as pl
import sqlalchemy as sa
import sqlglot
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from lakebed.ingest.sources.queried import TimedReader
from lakebed.ingest.sources.reader import Batch, SourceError, SourceItem, row_numbers
from lakebed.ingest.sources.values import column, text_of
from lakebed.resources.extras import install
from lakebed.resources.settings import Settings
from lakebed.spec.queried_sources import SqlTable
from lakebed.spec.table import SourceTable
from lakebed.spec.transforms import PLAIN

ROWS_AT_ONCE = 16_384
MYSQL_FLOAT, MYSQL_BIT = 4, 16


class ServerReader(TimedReader):
    """A table of a server. Its version includes its newest cursor, where it has one."""

    def __init__(self, source: SqlTable, table: SourceTable, settings: Settings) -> None:
        """Read source for a table."""
        path = f"{source.url_setting}:{source.label}"
        super().__init__(path, path, source.every, settings)
        self._source = source
        self._table = table
        how = table.transforms.get(table.cursor or "", PLAIN)
        # A cursor that is shaped on its way has another order in the source.
        self._cursor = how.column or table.cursor if how.only_renames else None

    def find(self) -> list[SourceItem]:
        """Return the table at its version. Raises SourceError."""
        version = self._version()
        return super().find() if version is None else [self._item(version)]

    def glance(self) -> list[SourceItem]:
        """Return the table at its version, or as of the last time that it was due."""
        version = self._version()
        return super().glance() if version is None else [self._item(version)]

    def _item(self, version: str) -> SourceItem:
        return SourceItem(self.path, version, 0, self._name)

    @abstractmethod
    def _version(self) -> str | None:
        """Return a value that changes with the table, or None where that is not cheap.

        Raises SourceError.
        """

    def _url(self) -> sa.URL:
        try:
            url = sa.make_url(self.secret(self._source.url_setting))
        except (ArgumentError, ValueError):  # the latter for a port that is not a number
            raise SourceError(
                self.path,
                f"{self._source.url_setting} is not a URL. Expected one such as "
                "mysql+pymysql://user:password@host/database, with special characters of the "
                "password percent-encoded",
            ) from None
        if url.password:
            self._hidden.add(str(url.password))
        return url

    def _unreachable(self, error: BaseException) -> SourceError:
        return SourceError(self.path, f"the database says: {self.words(error)}")


class SqlReader(ServerReader):
    """Reads SqlTable through SQLAlchemy."""

    def columns(self, item: SourceItem) -> list[str]:
        """Return the names of the columns. Raises SourceError."""
        with self._connection() as connection:
            return list(self._codes(connection))

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows, of a table with a cursor those from it on."""
        with self._connection() as connection:
            codes = self._codes(connection)
            mysql = connection.dialect.name in ("mysql", "mariadb")
            source = self._relation(connection, columns)
            there: list[Any] = [
                # A FLOAT is written with six digits; in an expression it is a DOUBLE.
                (sa.literal_column("0e0") + source.c[name]).label(name)
                if mysql and codes[name] == MYSQL_FLOAT
                else source.c[name]
                for name in columns
            ]
            query = sa.select(*there)
            if newer is not None:
                query = query.where(source.c[newer[0]] >= _bound(newer[1], mysql))
            bits = {name for name in columns if mysql and codes[name] == MYSQL_BIT}
            found = connection.execution_options(
                stream_results=True, max_row_buffer=ROWS_AT_ONCE
            ).execute(query)
            row = 1
            while rows := found.fetchmany(ROWS_AT_ONCE):
                yield Batch(_frame(columns, rows, bits), row_numbers(row, len(rows)))
                row += len(rows)

    def _version(self) -> str | None:
        cursor = self._cursor
        if cursor is None:
            return None
        with self._connection() as connection:
            if cursor not in self._codes(connection):
                return None  # reading it reports the missing column
            source = self._relation(connection, [cursor])
            newest = connection.execute(sa.select(sa.func.max(source.c[cursor]))).scalar()
            if newest is None:
                return "empty"
            near = sa.select(sa.func.count()).where(
                source.c[cursor] >= self._floor(newest, connection.dialect.name)
            )
            return f"{text_of(newest)}/{connection.execute(near).scalar()}"

    def _floor(self, newest: Any, dialect: str) -> Any:
        """Return the newest cursor as the driver has it, less the lag where it can be computed."""
        if not self._table.lag or self._table.cursor is None:
            return newest
        kind = self._table.column(self._table.cursor).polars
        value = pl.Series([text_of(newest)])
        from lakebed.ingest.casts import cast

        typed = cast(value, kind).series[0]
        if typed is None:
            return newest
        return _bound(self._table.floor_of(typed), dialect in ("mysql", "mariadb"))

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        """Open a connection in one read-only snapshot. Raises SourceError."""
        url = self._url()
        try:
            engine = sa.create_engine(url, poolclass=sa.NullPool, **_options(url))
        except (NoSuchModuleError, ImportError) as error:
            raise SourceError(
                self.path,
                f"the driver of {url.drivername} is not installed ({self.words(error)}); for MySQL "
                f"and MariaDB: {install('mysql')} and mysql+pymysql://...",
            ) from None
        try:
            with engine.connect() as connection:
                for statement in _SNAPSHOT.get(engine.dialect.name, ()):
                    connection.exec_driver_sql(statement)
                yield connection
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise self._unreachable(cause) from None
        finally:
            engine.dispose()

    def _codes(self, connection: sa.Connection) -> dict[str, Any]:
        """Return the names of the columns with the driver's codes of their types."""
        query = (
            sa.select(sa.text("*")).select_from(self._relation(connection, [])).where(sa.false())
        )
        described = connection.execute(query).cursor.description
        return {name: code for name, code, *_ in described}

    def _relation(self, connection: sa.Connection, columns: list[str]) -> Any:
        named: list[Any] = [sa.column(name) for name in columns]
        if self._source.query is not None:
            query = in_brackets(self._source.query, connection.dialect.name)
            text = sa.text(query.replace(":", "\\:"))
            return text.columns(*named).subquery("source_rows")
        return sa.table(str(self._source.table), *named, schema=self._source.schema)


def in_brackets(query: str, dialect: str) -> str:
    """Return a query in a form for use in brackets.

    The semicolons at its end are left out, with the comments behind them, and a line break ends a
    comment that the query itself ends with.

    Args:
        query: What a table file has.
        dialect: The name of the server's dialect, as SQLAlchemy has it.
    """
    try:
        tokens = sqlglot.tokenize(query, read=_DIALECTS.get(dialect))
    except (SqlglotError, ValueError):  # a dialect that sqlglot does not know, or a fault
        return query.rstrip().rstrip(";") + "\n"
    end = len(query)
    for token in reversed(tokens):
        if token.token_type != TokenType.SEMICOLON:
            break
        end = token.start
    return query[:end] + "\n"


_DIALECTS = {
    "postgresql": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
    "oracle": "oracle",
    "mssql": "tsql",
}

_SNAPSHOT = {
    name: (
        "set session time_zone = '+00:00'",
        "set session transaction isolation level repeatable read",
        "start transaction with consistent snapshot, read only",
    )
    for name in ("mysql", "mariadb")
}


def _options(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() not in ("mysql", "mariadb") or url.get_driver_name() != "pymysql":
        return {}
    from pymysql.converters import conversions

    encoders: Mapping[Any, Any] = {k: v for k, v in conversions.items() if not isinstance(k, int)}
    return {"connect_args": {"conv": encoders, "connect_timeout": 10}}


def _bound(value: Any, mysql: bool) -> Any:
    """Return a value as the server compares it: MySQL's times have no zone."""
    if mysql and getattr(value, "tzinfo", None) is not None:
        return value.replace(tzinfo=None)
    return value


def _frame(columns: list[str], rows: Any, bits: set[str]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            column(
                name,
                [None if value is None else int.from_bytes(value) for value in values]
                if name in bits
                else values,
            )
            for name, values in zip(columns, zip(*rows, strict=True), strict=True)
        ]
    )
