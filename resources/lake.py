"""The reading protocol, in one place: hot and cold as one table, each row exactly once.

A session is one DuckDB transaction with PostgreSQL attached read-only, which is one REPEATABLE
READ transaction there. It reads the manifest first and then scans hot rows and the files that the
manifest named; both come from one snapshot, so a move that commits in between changes nothing.

    for every table:   hot rows  +  live cold files  -  cold rows whose key has a hot row
                                                     -  cold rows whose key has a tombstone

The last two terms are only there for partitions in which hot rows or tombstones wait to be folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC

import duckdb
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from resources.extensions import extension_file
from resources.lake_files import LakeFiles
from resources.layouts import (
    cold_layouts,
    evolved_columns,
    hot_columns,
    rewritten_since,
    with_evolved,
)
from resources.postgres import Postgres
from resources.pruning import Bounds, pushed_bounds
from resources.spill import spill_folder
from resources.tiers import ColdFile, LakeTable, all_rows, masked_keys_query, parquet

SNAPSHOTS = 20
"""How many a session takes where a table is written anew (ALTER) between snapshot and reading."""


class LakeReadError(RuntimeError):
    """The lake cannot be read; the text says what is missing and what to do."""


@dataclass(frozen=True)
class Touched:
    """What a query reads of one table's cold tier: files and rows after pruning, of how many."""

    table: str
    files: tuple[str, ...]
    of_files: int
    rows: int


@dataclass(frozen=True)
class ModelTable:
    """A model that is a file of the lake; what DuckDB opens for it."""

    address: str


@dataclass
class ReadSession:
    """One snapshot of everything, as DuckDB views named like the tables and models.

    `connection` is a DuckDB connection for anything that DuckDB can do; `sql` also prunes cold
    files by the manifest before DuckDB opens them. hot: the columns of each hot table that is
    there. unreadable: models that do not bind, and why.
    """

    connection: duckdb.DuckDBPyConnection
    lake: LakeFiles
    tables: Mapping[str, LakeTable]
    hot: Mapping[str, frozenset[str]]
    cold: Mapping[str, tuple[ColdFile, ...]]
    models: Mapping[str, ModelTable | str]
    unreadable: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Define every view over every live file."""
        for name, files in self.cold.items():
            keys = masked_keys_query(self.tables[name], files)
            if keys is not None:
                self.connection.execute(keys.as_string())
        self._define_tables({name: self.cold.get(name, ()) for name in self.tables})
        self._define_models()

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Run one statement with its cold files pruned; its result is held.

        Raises duckdb.Error as DuckDB does, LakeReadError for several statements.
        """
        with self._pruned(query):
            relation = self.connection.sql(query)
            if relation is not None:
                # A relation binds its views when it runs: run it before they change again.
                relation.execute()
            return relation

    @contextmanager
    def stream(self, query: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """Run one statement with its cold files pruned, for a result that need not fit in memory.

        Yields what has fetchmany() and description. Raises duckdb.Error, LakeReadError.
        """
        with self._pruned(query):
            yield self.connection.execute(query)

    @contextmanager
    def _pruned(self, query: str) -> Iterator[None]:
        texts = [statement.query for statement in self.connection.extract_statements(query)]
        # A PIVOT that finds its columns itself comes back as several statements without a text,
        # which EXPLAIN does not take for one: it reads every file.
        pivot = not all(texts)
        count = sum(map(bool, texts)) + pivot
        if count != 1:
            raise LakeReadError(f"one statement at a time, please; these are {count}")
        try:
            if not pivot:
                with suppress(duckdb.Error):
                    self.prune(query)  # what EXPLAIN refuses reads every file, or is refused below
            yield
        finally:
            # After an error the transaction may be over; the error is the one to show.
            with suppress(duckdb.Error):
                self._define_tables(self.cold)

    def prune(self, query: str) -> list[Touched]:
        """Narrow the views to the files that the query can need; say which those are.

        The views are good for this query alone, until `sql` or `prune` is called again.
        A statement that is no query (CREATE TABLE ... AS, COPY) is pruned all the same.
        """
        times = {name: t.time for name, t in self.tables.items() if t.time and name in self.cold}
        self._define_tables(dict.fromkeys(self.cold, ()))
        try:
            bounds = pushed_bounds(self.connection, query, times)
        finally:
            with suppress(duckdb.Error):
                self._define_tables(self.cold)
        kept = {
            name: tuple(
                file
                for file in self.cold[name]
                if bounds.get(name, Bounds()).touches(file.time_min, file.time_max)
            )
            for name in bounds
        }
        self._define_tables(kept)
        return [
            Touched(
                name,
                tuple(file.path for file in files),
                len(self.cold[name]),
                sum(file.rows for file in files),
            )
            for name, files in kept.items()
        ]

    def _define_tables(self, cold: Mapping[str, Sequence[ColdFile]]) -> None:
        for name, files in cold.items():
            body = all_rows(self.tables[name], self.lake, self.hot.get(name), files)
            _define(self.connection, name, body)

    def _define_models(self) -> None:
        waiting = dict(self.models)
        while waiting:
            errors: dict[str, str] = {}
            for name, target in waiting.items():
                body = (
                    parquet([target.address]) if isinstance(target, ModelTable) else sql.SQL(target)
                )
                try:
                    _define(self.connection, name, body)
                except duckdb.Error as error:
                    errors[name] = str(error)
            if len(errors) == len(waiting):
                # A view over a table that is gone must not keep everybody from all the others.
                self.unreadable |= errors
                return
            waiting = {name: waiting[name] for name in errors}


class Lake:
    """The cold tier and the way to read it together with the hot tier."""

    def __init__(self, files: LakeFiles, postgres: Postgres, tables: Sequence[LakeTable]) -> None:
        """Remember where things are; open nothing."""
        self.files = files
        self._postgres = postgres
        self._tables = {table.name: table for table in tables}

    @contextmanager
    def session(self) -> Iterator[ReadSession]:
        """Open one snapshot of all tables and models; see ReadSession."""
        with self.attached(read_only=True) as connection:
            hot = self._snapshot(connection)
            evolved = evolved_columns(connection)
            tables = {
                name: replace(table, columns=with_evolved(table.columns, evolved.get(name, ())))
                for name, table in self._tables.items()
            }
            cold = {
                name: files
                for name, table in tables.items()
                if (files := _live_files(connection, table, name in hot))
            }
            models = self._models(connection)
            yield ReadSession(connection, self.files, tables, hot, cold, models)

    @contextmanager
    def attached(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open an in-memory DuckDB with PostgreSQL attached as `pg`; always closed.

        Raises PostgresUnavailableError where the server does not answer.
        """
        # A plain connection first: it brings the schema up to date and says clearly what is wrong.
        self._postgres.connect().close()
        with spill_folder(self.files.spill) as spill, _in_memory() as connection:
            connection.execute(
                sql.SQL("load {}")
                .format(sql.Literal(str(extension_file("postgres_scanner"))))
                .as_string()
            )
            connection.execute("set TimeZone = 'UTC'")
            self.files.make_readable(connection)
            # What does not fit in memory goes beside the lake, not into the working folder.
            setting = sql.SQL("set temp_directory = {}").format(sql.Literal(str(spill)))
            connection.execute(setting.as_string())
            # Parallel ctid scans may run on different snapshots when sharing one fails.
            connection.execute("set pg_use_ctid_scan = false")
            # The password as a secret: the rest of the URL is there for every query to see.
            server = {k: str(v) for k, v in conninfo_to_dict(self._postgres.url).items()}
            secret = sql.SQL("create temporary secret lakebed (type postgres, password {})").format(
                sql.Literal(server.pop("password", ""))
            )
            connection.execute(secret.as_string())
            attach = sql.SQL("attach {} as pg (type postgres, secret lakebed{})").format(
                sql.Literal(make_conninfo("", **server)),
                sql.SQL(", read_only" if read_only else ""),
            )
            try:
                connection.execute(attach.as_string())
            except duckdb.Error as error:
                raise LakeReadError(self._postgres.redact(str(error))) from None
            yield connection

    def redact(self, text: str) -> str:
        """Return the text without the database's password and what opens the lake."""
        return self.files.redact(self._postgres.redact(text))

    def _snapshot(self, connection: duckdb.DuckDBPyConnection) -> dict[str, frozenset[str]]:
        """Begin the transaction, with a snapshot that sees the rows of every hot table."""
        rewritten: list[str] = []
        for _ in range(SNAPSHOTS):
            connection.execute("begin")
            hot = self._hot_tables(connection)
            there = [(table.schema, name) for name, table in self._tables.items() if name in hot]
            rewritten = rewritten_since(connection, there)
            if not rewritten:
                return hot
            connection.execute("rollback")
            connection.execute("call pg_clear_cache()")
        raise LakeReadError(
            f"{rewritten[0]} is written anew again and again (ALTER TABLE, TRUNCATE); "
            "read when that has ended"
        )

    def _hot_tables(self, connection: duckdb.DuckDBPyConnection) -> dict[str, frozenset[str]]:
        """Return the columns of the hot tables that are there."""
        places = {(table.schema, name): name for name, table in self._tables.items()}
        found = hot_columns(connection, places)
        return {places[place]: columns for place, columns in found.items()}

    def _models(self, connection: duckdb.DuckDBPyConnection) -> dict[str, ModelTable | str]:
        rows = connection.execute(
            "select model, sql, path from pg.lakebed.model_version where superseded_at is null "
            "order by built_at"
        ).fetchall()
        return {
            name: ModelTable(self.files.address(path)) if path else text
            for name, text, path in rows
        }


def _live_files(
    connection: duckdb.DuckDBPyConnection, table: LakeTable, hot: bool
) -> tuple[ColdFile, ...]:
    """Read one table's part of the manifest, and where hot rows or deletes wait to be folded."""
    late: sql.Composable = sql.SQL("false")
    deleted: sql.Composable = sql.SQL("false")
    if table.key:
        deleted = sql.SQL(
            "exists (select from lakebed.cold_delete d where d.table_name = f.table_name"
            " and d.moment >= f.lower_bound and d.moment < f.upper_bound)"
        )
    if hot and table.time:
        late = sql.SQL(
            "exists (select from {table} h where h.{time} >= f.lower_bound"
            " and h.{time} < f.upper_bound)"
        ).format(table=sql.Identifier(table.schema, table.name), time=sql.Identifier(table.time))
    query = sql.SQL(
        "select partition_key, path, rows, lower_bound, upper_bound,"
        " coalesce(time_min, lower_bound) as first, coalesce(time_max, upper_bound) as last,"
        " {late} as late, {deleted} as deleted, md5(columns::text) as layout"
        " from lakebed.cold_file f where table_name = {name} and superseded_at is null"
        " order by lower_bound"
    ).format(late=late, deleted=deleted, name=sql.Literal(table.name))
    rows = connection.execute(
        "from postgres_query('pg', $query)", {"query": query.as_string()}
    ).fetchall()
    if not hot and any(row[-2] for row in rows):
        raise LakeReadError(
            f"public.{table.name} is gone, whose columns tell the types of lakebed.cold_delete; "
            f"`lakebed apply {table.name}` makes it again"
        )
    layouts = cold_layouts(connection, table.name) if rows else {}
    return tuple(
        ColdFile(
            key,
            path,
            count,
            lower=lower.astimezone(UTC),
            upper=upper.astimezone(UTC),
            time_min=first.astimezone(UTC),
            time_max=last.astimezone(UTC),
            late=late,
            deleted=deleted,
            layout=layouts[layout],
        )
        for key, path, count, lower, upper, first, last, late, deleted, layout in rows
    )


@contextmanager
def _in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:")
    try:
        yield connection
    finally:
        # Closing waits for a query that still runs, for one that was stopped with Ctrl-C too.
        connection.interrupt()
        connection.close()


def _define(connection: duckdb.DuckDBPyConnection, name: str, body: sql.Composable) -> None:
    view = sql.SQL("create or replace temp view {} as {}").format(sql.Identifier(name), body)
    connection.execute(view.as_string())
