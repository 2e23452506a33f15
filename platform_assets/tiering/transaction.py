"""A hot table in one transaction: what every process that writes its rows to the lake shares.

The transaction is one of PostgreSQL, REPEATABLE READ, with DuckDB in front: DuckDB's scans of the
hot tier, and all statements and queries of PostgreSQL, share one snapshot and one commit.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, TypeVar

import duckdb
import psycopg
from psycopg import sql

from lakebed.errors import TieringError
from lakebed.resources.lake import Lake
from lakebed.resources.lake_files import LakeFileError, LakeFiles
from lakebed.resources.layouts import ask
from lakebed.resources.locks import AdvisoryLock
from lakebed.resources.postgres import LOCK_TIMEOUT, Connection
from lakebed.resources.sqlstate import CONTENTION, UNKNOWN
from lakebed.resources.tiers import hot_scan
from lakebed.schema.ddl import COLUMNS_QUERY, differences
from lakebed.schema.evolved import EVOLVED_QUERY, extended_by
from lakebed.schema.tiering_blockers import TIERING_BLOCKERS_QUERY, tiering_blockers
from lakebed.spec.schema import Column
from lakebed.spec.steps import OnTransactionStep
from lakebed.spec.table import SourceTable
from lakebed.store.fingerprint import Fingerprint, fingerprint_query, is_text, read_fingerprint
from lakebed.store.platform import lake_table
from lakebed.tiering.movers import at_work, lock_statement

MOST_GROUPS = 10_000
"""The most combinations of low-cardinality values that are counted apart, by statistics."""

LOW_CARDINALITY_VALUES = sql.SQL(
    "select s.attname::text as name, max(s.n_distinct)::float8 as n from pg_stats s"
    " join pg_class c on c.relname = s.tablename join pg_namespace m"
    " on m.oid = c.relnamespace and m.nspname = s.schemaname"
    " where c.oid = {0}::regclass or c.oid in"
    " (select inhrelid from pg_inherits where inhparent = {0}::regclass)"
    " group by 1 having min(s.n_distinct) > 0 and max(s.n_distinct) < 1000 order by 2, 1"
)


@dataclass
class HotTable(ABC):
    """A hot table in a transaction, or a part of it, with its columns in PostgreSQL now.

    connection: DuckDB with PostgreSQL attached as pg.  table: with the columns that evolved.
    few: columns with few distinct values, as far as PostgreSQL knows; only for speed.
    unchanged: what an error says was not changed.  again: the advice on how to retry.
    """

    unchanged: ClassVar[str]
    again: ClassVar[str]

    connection: duckdb.DuckDBPyConnection
    files: LakeFiles
    table: SourceTable
    low_cardinality: list[str] = field(default_factory=list, kw_only=True)

    def note(self) -> None:
        """Note what PostgreSQL must know of the table, in a transaction of its own; nothing."""
        return

    @abstractmethod
    def lock(self) -> None:
        """Take the lock of what is written for as long as the transaction lives, and no longer.

        Raises BusyError.
        """

    @property
    @abstractmethod
    def relation(self) -> sql.Composable:
        """The hot rows, as PostgreSQL knows them; it follows FROM."""

    def __str__(self) -> str:
        """Return what it is, for people."""
        return self.table.name

    @property
    def hot(self) -> sql.Composable:
        """The hot table, as PostgreSQL knows it."""
        return self.table.relation

    @property
    def hot_in_duckdb(self) -> sql.Composable:
        """The hot table, as DuckDB reads it without damage."""
        return hot_scan(lake_table(self.table), self.table.column_names)

    def try_lock(self, lock: AdvisoryLock) -> bool:
        """Take an advisory lock if it is free, bound to the transaction that will commit.

        A session that loses the lock has lost the transaction.
        """
        return bool(self.ask(lock.try_query)[0][0])

    def take_columns(self) -> None:
        """Take the columns that evolved into the table. Raises TieringError where it differs."""
        evolved = self.ask(sql.SQL(EVOLVED_QUERY).format(sql.Literal(self.table.name)))
        self.table = extended_by(self.table, evolved)
        rows = self.ask(sql.SQL(COLUMNS_QUERY).format(self.table.oid))
        known = set(self.table.column_names)
        if self.table.adopted:
            found = self.ask(sql.SQL(TIERING_BLOCKERS_QUERY).format(self.table.oid))
            if found:
                raise TieringError(
                    f"{self}: {self.unchanged} of {self.table.place}: "
                    + "; ".join(tiering_blockers(found))
                )
        wrong = differences(self.table, rows)
        wrong += [f"column {name} is not in the contract" for name, *_ in rows if name not in known]
        if wrong:
            raise TieringError(
                f"{self}: the table differs from its contract: {'; '.join(wrong)}; "
                f"{self.unchanged}. `lakebed plan {self.table.name}` shows how to fix it"
            )

    def find_low_cardinality(self) -> None:
        """Take from PostgreSQL's statistics which columns hold few values."""
        query = LOW_CARDINALITY_VALUES.format(self.table.oid)
        texts = {column.name for column in self.table.columns if is_text(column)}
        groups = 1.0
        for name, distinct in self.ask(query):
            if name not in texts:
                continue
            groups *= distinct + 1
            if groups > MOST_GROUPS:
                break
            self.low_cardinality.append(name)

    @contextmanager
    def counting(self, lake: Lake) -> Iterator[Future[Fingerprint]]:
        """Count the hot rows of the snapshot in PostgreSQL while the block does other work.

        It runs on a second connection, which imports the transaction's own snapshot: the
        fingerprint is of the rows that this transaction sees and deletes.
        """
        snapshot = self.ask(sql.SQL("select pg_export_snapshot() as name"))[0][0]
        with lake.second_connection() as connection, ThreadPoolExecutor(1) as thread:
            connection.execute("begin isolation level repeatable read read only")
            connection.execute(sql.SQL("set transaction snapshot {}").format(snapshot))
            # It ends before the copy even so; parallel workers would take the copy's processors.
            connection.execute("set local max_parallel_workers_per_gather = 0")
            try:
                yield thread.submit(self._count_by, connection)
            except BaseException:
                connection.cancel_safe()
                raise

    def fingerprint_of_hot(self) -> Fingerprint:
        """Return the fingerprint of the hot rows in the snapshot, by PostgreSQL."""
        return read_fingerprint(self.table.columns, self.ask(self._count_query)[0])

    def _count_by(self, connection: Connection) -> Fingerprint:
        (row,) = connection.execute(self._count_query).fetchall()
        return read_fingerprint(self.table.columns, row)

    @property
    def _count_query(self) -> sql.Composed:
        return fingerprint_query(
            self.table.columns, self.relation, "postgres", self.low_cardinality
        )

    def fingerprint(
        self, relation: sql.Composable, columns: Sequence[Column] | None = None
    ) -> Fingerprint:
        """Return the fingerprint of a relation of DuckDB. columns: default those of the table."""
        columns = self.table.columns if columns is None else columns
        query = fingerprint_query(columns, relation, "duckdb", self.low_cardinality)
        return read_fingerprint(columns, self.connection.execute(query.as_string()).fetchall()[0])

    @contextmanager
    def aside(self) -> Iterator[Self]:
        """Read files in another thread, outside of the transaction."""
        with self.connection.cursor() as cursor:
            yield replace(self, connection=cursor)

    def ask(self, query: sql.Composable) -> list[tuple[Any, ...]]:
        """Return what PostgreSQL answers, in the transaction."""
        return ask(self.connection, query)

    def do(self, statement: sql.Composable) -> None:
        """Tell PostgreSQL to do something, in the transaction."""
        self.connection.execute(
            "call postgres_execute('pg', $statement)", {"statement": statement.as_string()}
        )


H = TypeVar("H", bound=HotTable)
T = TypeVar("T")


def in_transaction(
    lake: Lake,
    title: str,
    begin: Callable[[duckdb.DuckDBPyConnection], H],
    work: Callable[[H], T],
    *,
    contended: str,
    on_step: OnTransactionStep,
    attempts: int,
) -> tuple[T, float]:
    """Do work on the table or partition that begin makes, locked, and commit; retry on conflicts.

    title: names the object.  contended: what the error says if each attempt met a conflict.
    Steps of its own: locked, committed. Returns the result of the work, and the seconds.
    Raises BusyError, TieringError, and the errors of the work. Nothing is changed in these cases.
    """
    started = time.monotonic()
    detail = ""
    for attempt in range(attempts):
        hot: HotTable | None = None
        try:
            with lake.attached(read_only=False) as connection:
                hot = begin(connection)
                lake.owner.check()
                hot.note()  # in its own transaction, so that no session waits for it
                with at_work(hot.files, hot.table), _transaction(connection):
                    # A session that waits while it locks rows blocks the writers of these rows.
                    wait = sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
                    hot.do(wait)
                    hot.do(lock_statement(hot.table))
                    hot.lock()
                    on_step("locked")
                    hot.take_columns()
                    hot.find_low_cardinality()
                    done = work(hot)
                    lake.owner.advance()
            on_step("committed")
            return done, time.monotonic() - started
        except duckdb.Error as error:
            state = lake.sqlstate(error)
            if state not in CONTENTION:
                raise TieringError(f"{title}: {_describe_failure(lake, hot, error)}") from None
            if state == UNKNOWN:
                detail = f" ({lake.redact(str(error)).strip()})"
            time.sleep(0.1 * 2**attempt)
        except psycopg.Error as error:
            if error.sqlstate not in CONTENTION:
                raise TieringError(f"{title}: {lake.redact(str(error))}") from None
            time.sleep(0.1 * 2**attempt)
        except LakeFileError as error:
            unchanged = hot.unchanged if hot else "nothing was done"
            text = lake.redact(str(error))
            raise TieringError(f"{title}: {unchanged}: {text}") from error
    raise TieringError(f"{title}: {contended}{detail}")


def _describe_failure(lake: Lake, hot: HotTable | None, error: duckdb.Error) -> str:
    text = lake.redact(str(error))
    if hot is not None and isinstance(error, duckdb.HTTPException):
        # After the first line follows the statement, which is not the user's.
        return f"{hot.unchanged}: {text.splitlines()[0]}. Run it again when the store answers"
    return text


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("begin")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        # A transaction that died with its connection cannot; the first error is the one to show.
        with suppress(duckdb.Error):
            connection.execute("rollback")
        raise
