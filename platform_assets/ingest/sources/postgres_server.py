"""PostgreSQL as a source, read by DuckDB's postgres extension: columns from end to end.

One COPY BINARY of one statement, which is one snapshot, in a read-only transaction. Types that the
extension would damage (numeric without a precision, times beyond the year 9999, intervals) are
handed over as PostgreSQL writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lakebed.ingest.sources.queried import batches_of, private_duckdb
from lakebed.ingest.sources.reader import BATCH_ROWS, Batch, SourceItem
from lakebed.ingest.sources.server import ServerReader, in_brackets
from lakebed.resources.postgres import Connection

SESSION = (
    "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1"
    " -c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read"
)
AS_THEY_ARE = frozenset({16, 20, 21, 23, 700, 701, 17})
"""OIDs of bool, int8, int2, int4, float4, float8, bytea."""
TEXT = frozenset({25, 1042, 1043})
TIMES = frozenset({1082, 1114, 1184})
"""OIDs of date, timestamp, timestamptz: handed over where every engine holds them."""


class PostgresReader(ServerReader):
    """Reads SqlTable of PostgreSQL."""

    def columns(self, item: SourceItem) -> list[str]:
        """Return the names of the columns. Raises SourceError."""
        with self._connection() as connection:
            return list(self._oids(connection))

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows, of a table with a cursor those from it on."""
        with self._connection() as connection:
            oids = self._oids(connection)
            any_bytes = connection.info.parameter_status("server_encoding") == "SQL_ASCII"
        query = sql.SQL("select {} from {}").format(
            sql.SQL(", ").join(_expression(name, oids[name], any_bytes) for name in columns),
            self._relation,
        )
        if newer is not None and (oids[newer[0]] not in TEXT or isinstance(newer[1], str)):
            query += sql.SQL(" where {} >= {}").format(sql.Identifier(newer[0]), newer[1])
        with self._attached() as reading:
            try:
                found = reading.execute(
                    "select * from postgres_query('source', ?)", [query.as_string()]
                )
                yield from batches_of(found.to_arrow_reader(BATCH_ROWS))
            except duckdb.Error as error:
                raise self._unreachable(error) from None

    def _version(self) -> str | None:
        with self._connection() as connection:
            if self._cursor is None:
                return self._activity(connection)
            if self._cursor not in self._oids(connection):
                return None  # reading it reports the missing column
            cursor = sql.Identifier(self._cursor)
            newest = sql.SQL("select max({}) from {}").format(cursor, self._relation)
            ((value,),) = connection.execute(newest).fetchall()
            if value is None:
                return "empty"
            floor = value if isinstance(value, str) else self._table.floor_of(value)
            near = sql.SQL("select count(*) from {} where {} >= {}").format(
                self._relation, cursor, floor
            )
            ((count,),) = connection.execute(near).fetchall()
            return f"{value}/{count}"

    def _activity(self, connection: Connection) -> str | None:
        """Return PostgreSQL's own counts of a table's changes.

        They appear after the commit that they count, so a change may be read twice, never missed.
        """
        if self._source.query is not None:
            return None
        row = connection.execute(
            "select concat_ws('/', pg_postmaster_start_time(), d.stats_reset, c.oid,"
            " pg_relation_filenode(c.oid), s.n_tup_ins, s.n_tup_upd, s.n_tup_del)"
            " from pg_class c join pg_stat_all_tables s on s.relid = c.oid"
            " join pg_stat_database d on d.datname = current_database()"
            " where c.relkind = 'r' and c.oid = to_regclass(%s)"
            " and current_setting('track_counts')::boolean",
            [self._relation.as_string()],
        ).fetchone()
        return row[0] if row else None

    @property
    def _relation(self) -> sql.Composable:
        source = self._source
        if source.query is not None:
            text = in_brackets(source.query, "postgresql")
            return sql.Composed([sql.SQL("("), sql.SQL(text), sql.SQL(") source_rows")])
        return sql.Identifier(*filter(None, (source.schema, source.table)))

    def _oids(self, connection: Connection) -> dict[str, int]:
        query = sql.SQL("select * from {} limit 0").format(self._relation)
        return {c.name: c.type_code for c in connection.execute(query).description or ()}

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Open a read-only transaction. Raises SourceError."""
        try:
            with psycopg.connect(**self._conninfo()) as connection:
                yield connection
        except psycopg.Error as error:
            raise self._unreachable(error) from None

    @contextmanager
    def _attached(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open DuckDB with the server attached, in a read-only transaction. Raises SourceError."""
        server = {name: str(value) for name, value in self._conninfo().items()}
        secret = sql.SQL("create temporary secret source (type postgres, password {})").format(
            sql.Literal(server.pop("password", ""))
        )
        attach = sql.SQL("attach {} as source (type postgres, secret source, read_only)").format(
            sql.Literal(make_conninfo("", **server))
        )
        with private_duckdb("postgres_scanner") as connection:
            connection.execute(secret.as_string())
            try:
                connection.execute(attach.as_string())
                connection.execute("begin")
            except duckdb.Error as error:
                raise self._unreachable(error) from None
            yield connection

    def _conninfo(self) -> dict[str, Any]:
        url = self._url().set(drivername="postgresql")
        given = conninfo_to_dict(url.render_as_string(hide_password=False))
        return {"connect_timeout": 10, "application_name": "lakebed"} | given | {"options": SESSION}


def _expression(name: str, oid: int, any_bytes: bool) -> sql.Composable:
    column = sql.Identifier(name)
    if oid in AS_THEY_ARE:
        return column
    if oid in TIMES:
        # What is outside becomes a time that the contract rejects as such.
        return sql.SQL(
            "case when {0} < '0001-01-01' then '0001-12-31 BC'"
            " when {0} < '10000-01-01' then {0}"
            " when {0} is not null then '10000-01-01' end as {0}"
        ).format(column)
    if any_bytes:
        return sql.SQL("convert_to({0}::text, 'SQL_ASCII') as {0}").format(column)
    return sql.SQL("{0}::text as {0}").format(column)
