"""The reading protocol, in one place: hot and cold as one table, each row exactly once.

    from lakebed import connect

    with connect() as lake:
        lake.sql("select count(*) from flights").show()

A session is one DuckDB transaction with PostgreSQL attached read-only, which is one REPEATABLE
READ transaction there. It reads the manifest first, and then scans hot rows and the files that the
manifest named. Both come from one snapshot, so a move that commits in between changes nothing.
session.py describes what a session answers, and from which files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import duckdb
from psycopg import sql
from psycopg.conninfo import make_conninfo

from lakebed.resources.extensions import in_memory
from lakebed.resources.hot_columns import Hot, hot_columns
from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.lake_owner import LakeOwner
from lakebed.resources.lake_sessions import LakeSessions
from lakebed.resources.layouts import evolved_columns, rewritten_since, with_evolved
from lakebed.resources.live_models import ModelTable, live_models, needed
from lakebed.resources.manifest import Manifest, take_manifest
from lakebed.resources.missing_files import explain_missing
from lakebed.resources.postgres import Connection, Postgres
from lakebed.resources.session import LakeReadError, ReadSession
from lakebed.resources.spill import spill_folder
from lakebed.resources.sqlstate import sqlstate_of
from lakebed.resources.tiers import LakeTable

READER_OPTIONS = "-c default_transaction_read_only=on -c constraint_exclusion=on"
"""PostgreSQL refuses what a reading session would change, however it is asked, and answers without
reading a row where a CHECK forbids the values that it is asked for (exactness.py)."""

SNAPSHOT_ATTEMPTS = 20
"""How many snapshots a session tries if a table is rewritten (ALTER) before it reads."""


class Lake:
    """The cold tier and the way to read it together with the hot tier."""

    def __init__(self, files: LakeFiles, postgres: Postgres, tables: Sequence[LakeTable]) -> None:
        """Remember where things are; open nothing."""
        self.files = files
        self.owner = LakeOwner(files, postgres)
        self._postgres = postgres
        self._tables = {table.name: table for table in tables}

    @property
    def tables(self) -> tuple[LakeTable, ...]:
        """What is known of the tables that a session can read."""
        return tuple(self._tables.values())

    @contextmanager
    def session(self, names: Collection[str] | None = None) -> Iterator[ReadSession]:
        """Open one snapshot of all tables and models, or of named ones and what these read.

        See ReadSession.
        """
        with self.sessions() as sessions, sessions.open(names) as session:
            yield session

    @contextmanager
    def sessions(self) -> Iterator[LakeSessions]:
        """Open one DuckDB for many sessions."""
        with self.attached(read_only=True) as connection:
            yield LakeSessions(self, connection)

    @contextmanager
    def attached(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open an in-memory DuckDB with PostgreSQL attached as `pg`; always closed.

        Raises PostgresUnavailableError where the server does not answer.
        """
        # A plain connection first: it brings the schema up to date and says clearly what is wrong.
        self._postgres.connect().close()
        with self.reader("postgres_scanner") as connection:
            # Parallel ctid scans may run on different snapshots when sharing one fails. Settings
            # are global, so that each of many sessions has them.
            connection.execute("set global pg_use_ctid_scan = false")
            # The password as a secret: every query can see the rest of the URL.
            server = self._postgres.server_in_english
            if read_only:
                server["options"] += f" {READER_OPTIONS}"
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
            try:
                yield connection
            finally:
                # Closed in a transaction whose server has gone, DuckDB would end the whole process.
                with suppress(duckdb.Error):
                    connection.execute("rollback")

    @contextmanager
    def reader(self, *extensions: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open an in-memory DuckDB that reads files of the lake; always closed."""
        wanted = (*self.files.extensions, *extensions)
        with spill_folder(self.files.spill) as spill, _in_memory(wanted) as connection:
            connection.execute("set global TimeZone = 'UTC'")
            # DuckDB's bar would be written to standard output, between the rows.
            connection.execute("set enable_progress_bar = false")
            self.files.make_readable(connection)
            # DuckDB spills into a folder of the lake, not into the working folder.
            setting = sql.SQL("set temp_directory = {}").format(sql.Literal(str(spill)))
            connection.execute(setting.as_string())
            yield connection

    def second_connection(self) -> Connection:
        """Open a plain connection to PostgreSQL. Raises PostgresUnavailableError."""
        return self._postgres.connect(autocommit=True)

    def sqlstate(self, error: duckdb.Error) -> str | None:
        """Return which error of PostgreSQL DuckDB passes on; see sqlstate.py."""
        return sqlstate_of(error, translated=self._postgres.translates)

    def redact(self, text: str) -> str:
        """Return the text without the database's password and what opens the lake."""
        return self.files.redact(self._postgres.redact(text))

    def snapshot(
        self,
        connection: duckdb.DuckDBPyConnection,
        names: Collection[str] | None,
        *,
        define: bool,
    ) -> ReadSession:
        """Begin a transaction whose snapshot sees the rows of every hot table that is needed."""
        rewritten: list[str] = []
        for _ in range(SNAPSHOT_ATTEMPTS):
            connection.execute("begin")
            models, read = needed(live_models(connection), names, self.files)
            tables = {name: t for name, t in self._tables.items() if read is None or name in read}
            hot = _hot_tables(connection, tables)
            there = [(table.schema, name) for name, table in tables.items() if name in hot]
            rewritten = rewritten_since(connection, there)
            if not rewritten:
                return self._session(connection, tables, hot, models, define)
            connection.execute("rollback")
            connection.execute("call pg_clear_cache()")
        raise LakeReadError(
            f"{rewritten[0]} is being rewritten repeatedly (ALTER TABLE, TRUNCATE). Run the query "
            "again when that has ended"
        )

    def _session(
        self,
        connection: duckdb.DuckDBPyConnection,
        tables: Mapping[str, LakeTable],
        hot: Mapping[str, Hot],
        models: Mapping[str, ModelTable | str],
        define: bool,
    ) -> ReadSession:
        evolved = evolved_columns(connection) if tables else {}
        tables = {
            name: _as_found(
                replace(table, columns=with_evolved(table.columns, evolved.get(name, ()))),
                hot.get(name, {}),
            )
            for name, table in tables.items()
        }
        manifest = take_manifest(connection, self.files, tables.keys())
        if manifest.tables or any(isinstance(model, ModelTable) for model in models.values()):
            self.owner.check_readable()
        for name in manifest.tables:
            if tables[name].key and tables[name].time:
                _find_masked(manifest, tables[name], hot.get(name))
        session = ReadSession(
            connection, self.files, tables, hot, manifest, models, self._explained
        )
        if define:
            try:
                session.define()
            except duckdb.Error as error:
                raise self._explained(error) or error from None
        return session

    def _explained(self, error: duckdb.Error) -> Exception | None:
        """Return the error to raise where a file of the lake is missing; see missing_files.py."""
        return explain_missing(error, self._postgres, self.owner)


def _hot_tables(
    connection: duckdb.DuckDBPyConnection, tables: Mapping[str, LakeTable]
) -> dict[str, Hot]:
    """Return the columns of the hot tables that are there."""
    places = {(table.schema, name): name for name, table in tables.items()}
    found = hot_columns(connection, places)
    return {places[place]: columns for place, columns in found.items()}


def _as_found(table: LakeTable, hot: Hot) -> LakeTable:
    """Return a table with what its columns in PostgreSQL say about how to read them."""
    opaque = {name for name, kind in table.columns if name in hot and hot[name].is_opaque(kind)}
    return replace(
        table,
        opaque=table.opaque | opaque,
        asked=any(column.is_list and column.dimensions > 1 for column in hot.values()),
    )


def _find_masked(manifest: Manifest, table: LakeTable, hot: Hot | None) -> None:
    if not manifest.find_masked(table, hot):
        raise LakeReadError(
            f"{table.schema}.{table.name} does not exist, but its columns define the types of "
            f"lakebed.cold_delete. `lakebed apply {table.name}` creates it"
        )


@contextmanager
def _in_memory(extensions: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = in_memory(extensions)
    try:
        yield connection
    finally:
        # Closing waits for a running query, even for one that was stopped with Ctrl-C.
        connection.interrupt()
        connection.close()
