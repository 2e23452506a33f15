"""One partition in one transaction: what all that rewrites a partition have in common.

The transaction is one of PostgreSQL, REPEATABLE READ, with DuckDB in front: what DuckDB scans of
the hot tier, what PostgreSQL is asked and what it is told share one snapshot and one commit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import duckdb
import psycopg
from psycopg import sql

from platform_assets.catalog import SourceTable
from platform_assets.keys import move_lock
from platform_assets.partitions import Window
from platform_assets.quality.ddl import COLUMNS_QUERY, differences
from platform_assets.quality.evolved import EVOLVED_QUERY, extended_by
from platform_assets.quality.hindrances import HINDRANCES_QUERY, hindrances
from platform_assets.quality.noted import note_statement, policy_statement
from platform_assets.quality.schema import Column
from platform_assets.tiering.fingerprint import (
    Fingerprint,
    fingerprint_query,
    is_text,
    read_fingerprint,
)
from resources.lake import Lake
from resources.lake_files import LakeFileError, LakeFiles
from resources.postgres import LOCK_TIMEOUT, Connection
from resources.tombstones import deleted_keys

Step = Callable[[str], None]
"""Told the name of each step when it is done."""

T = TypeVar("T")

MOST_GROUPS = 10_000
"""So many combinations of the values of columns with few values are kept apart, by statistics."""

FEW_VALUES = sql.SQL(
    "select s.attname::text as name, max(s.n_distinct)::float8 as n from pg_stats s"
    " join pg_class c on c.relname = s.tablename join pg_namespace m"
    " on m.oid = c.relnamespace and m.nspname = s.schemaname"
    " where c.oid = {0}::regclass or c.oid in"
    " (select inhrelid from pg_inherits where inhparent = {0}::regclass)"
    " group by 1 having min(s.n_distinct) > 0 and max(s.n_distinct) < 1000 order by 2, 1"
)


_AGAIN = (
    "could not serialize access",
    "deadlock detected",
    "canceling statement due to lock timeout",
)
"""What PostgreSQL says where others write to the partition meanwhile."""


class TieringError(RuntimeError):
    """A change of a partition that did not happen. The text says why and what to do."""


class VerificationError(TieringError):
    """A file does not hold what it should; nothing was changed."""


class PartitionBusyError(TieringError):
    """Another process rewrites the partition."""


@dataclass
class Partition:
    """A partition, locked and in a transaction, with the table as it is in PostgreSQL now.

    connection: DuckDB with PostgreSQL attached as pg.  table: with the columns that evolved.
    few: columns that hold few values, so far as PostgreSQL knows; only for speed.
    """

    connection: duckdb.DuckDBPyConnection
    files: LakeFiles
    table: SourceTable
    window: Window
    few: list[str] = field(default_factory=list, kw_only=True)

    def __str__(self) -> str:
        """Return the table and the partition's key."""
        return f"{self.table.name} {self.window.key}"

    @property
    def hot(self) -> sql.Composable:
        """The hot table, as PostgreSQL knows it."""
        return self.table.relation

    @property
    def hot_in_duckdb(self) -> sql.Composable:
        """The hot table, as DuckDB knows it."""
        return sql.Identifier("pg", self.table.schema, self.table.name)

    @property
    def in_window(self) -> sql.Composable:
        """The condition that a row belongs to the partition, for both engines."""
        return sql.SQL("{time} >= {lower}::timestamptz and {time} < {upper}::timestamptz").format(
            time=sql.Identifier(self.table.partitioned.column),
            lower=sql.Literal(self.window.lower.isoformat()),
            upper=sql.Literal(self.window.upper.isoformat()),
        )

    def lock(self) -> None:
        """Take the partition's lock for as long as the transaction lives, and no longer.

        It is bound to the transaction that will commit: who lost it has lost both.
        Raises PartitionBusyError.
        """
        query = sql.SQL("select pg_try_advisory_xact_lock(hashtextextended({}, 0)) as ok").format(
            move_lock(self.table.name, self.window)
        )
        if not self.ask(query)[0][0]:
            raise PartitionBusyError(f"{self}: another mover is at work on it; wait for it to end")

    def take_columns(self) -> None:
        """Take the columns that evolved into the table. Raises TieringError where it differs."""
        evolved = self.ask(sql.SQL(EVOLVED_QUERY).format(sql.Literal(self.table.name)))
        self.table = extended_by(self.table, evolved)
        rows = self.ask(sql.SQL(COLUMNS_QUERY).format(self.table.oid))
        known = set(self.table.column_names)
        if self.table.adopted:
            found = self.ask(sql.SQL(HINDRANCES_QUERY).format(self.table.oid))
            if found:
                raise TieringError(
                    f"{self}: nothing was moved of {self.table.place}: "
                    + "; ".join(hindrances(found))
                )
        wrong = differences(self.table, rows)
        wrong += [f"column {name} is not in the contract" for name, *_ in rows if name not in known]
        if wrong:
            raise TieringError(
                f"{self}: the table differs from its contract: {'; '.join(wrong)}. Nothing was "
                f"moved; `lakebed plan {self.table.name}` shows what mends it"
            )

    @property
    def deleted_keys(self) -> sql.Composed:
        """The query of the keys that have tombstones, for PostgreSQL. The table has a key."""
        window = (self.window.lower, self.window.upper)
        return deleted_keys(self.table.relation, self.table.name, self.table.key, [window])

    def note(self) -> None:
        """Note what PostgreSQL must know of the table for people who have no table file."""
        for statement in (note_statement(self.table), policy_statement(self.table)):
            if statement is not None:
                self.do(statement)

    def count_tombstones(self) -> int:
        """Return how many tombstones of the partition the snapshot shows."""
        query = sql.SQL("select count(*) as tombstones from lakebed.cold_delete where {}")
        return int(self.ask(query.format(self._of_tombstones))[0][0])

    def consume_tombstones(self) -> None:
        """Delete the tombstones that the snapshot shows, and no other.

        Raises duckdb.Error where others have taken some back.
        """
        self.do(sql.SQL("delete from lakebed.cold_delete where {}").format(self._of_tombstones))

    @property
    def _of_tombstones(self) -> sql.Composable:
        return sql.SQL(
            "table_name = {} and moment >= {}::timestamptz and moment < {}::timestamptz"
        ).format(self.table.name, self.window.lower.isoformat(), self.window.upper.isoformat())

    def has_hot_rows(self) -> bool:
        """Whether the snapshot shows any hot row of the partition."""
        query = sql.SQL("select exists (select from {} where {}) as found")
        return bool(self.ask(query.format(self.hot, self.in_window))[0][0])

    def know_few(self) -> None:
        """Take from PostgreSQL's statistics which columns hold few values."""
        query = FEW_VALUES.format(self.table.oid)
        texts = {column.name for column in self.table.columns if is_text(column)}
        groups = 1.0
        for name, distinct in self.ask(query):
            if name not in texts:
                continue
            groups *= distinct + 1
            if groups > MOST_GROUPS:
                break
            self.few.append(name)

    @contextmanager
    def counting(self, lake: Lake) -> Iterator[Future[Fingerprint]]:
        """Count the hot rows of the snapshot in PostgreSQL while the block does other work.

        It is done on a connection beside, which imports the transaction's own snapshot: the
        fingerprint is that of the rows that this transaction sees, and deletes.
        """
        snapshot = self.ask(sql.SQL("select pg_export_snapshot() as name"))[0][0]
        with lake.beside() as connection, ThreadPoolExecutor(1) as thread:
            connection.execute("begin isolation level repeatable read read only")
            connection.execute(sql.SQL("set transaction snapshot {}").format(snapshot))
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
        relation = sql.SQL("{} where {}").format(self.hot, self.in_window)
        return fingerprint_query(self.table.columns, relation, "postgres", self.few)

    def fingerprint(
        self, relation: sql.Composable, columns: Sequence[Column] | None = None
    ) -> Fingerprint:
        """Return the fingerprint of a relation of DuckDB; columns: the table's, unless given."""
        columns = self.table.columns if columns is None else columns
        query = fingerprint_query(columns, relation, "duckdb", self.few)
        return read_fingerprint(columns, self.connection.execute(query.as_string()).fetchall()[0])

    def announce(self, action: str) -> None:
        """Tell whoever decodes the WAL what the changes that follow in the transaction are.

        A delete of rows that were archived looks like any other there.
        """
        told = {
            "action": action,
            "table": self.table.name,
            "partition": self.window.key,
            "lower": self.window.lower.isoformat(),
            "upper": self.window.upper.isoformat(),
        }
        self.ask(
            sql.SQL("select pg_logical_emit_message(true, 'lakebed', {})::text as lsn").format(
                json.dumps(told)
            )
        )

    def delete_hot(self) -> None:
        """Delete the hot rows that the snapshot shows, and no other.

        Raises TieringError where a trigger or a policy keeps some, duckdb.Error where others have
        changed some.
        """
        self.do(sql.SQL("delete from {} where {}").format(self.hot, self.in_window))
        self._check_gone()

    def count_hot(self) -> int:
        """Return how many hot rows the snapshot shows."""
        query = sql.SQL("select count(*) as rows from {} where {}").format(self.hot, self.in_window)
        return int(self.ask(query)[0][0])

    def _check_gone(self) -> None:
        left = self.count_hot()
        if left:
            raise TieringError(
                f"{self}: {left} rows were not deleted, by a trigger or a policy of the table; "
                "nothing was moved"
            )

    def ask(self, query: sql.Composable) -> list[tuple[Any, ...]]:
        """Return what PostgreSQL answers, in the transaction."""
        return self.connection.execute(
            "from postgres_query('pg', $query)", {"query": query.as_string()}
        ).fetchall()

    def do(self, statement: sql.Composable) -> None:
        """Tell PostgreSQL to do something, in the transaction."""
        self.connection.execute(
            "call postgres_execute('pg', $statement)", {"statement": statement.as_string()}
        )


def in_transaction(
    lake: Lake,
    table: SourceTable,
    window: Window,
    work: Callable[[Partition], T],
    *,
    on_step: Step,
    attempts: int,
) -> tuple[T, float]:
    """Do work on a locked partition and commit; again where others changed its rows meanwhile.

    Steps it tells itself: locked, committed. Returns what work returned, and the seconds.
    Raises PartitionBusyError, or TieringError where others kept changing the rows; and what work
    raises. Nothing has happened then.
    """
    started = time.monotonic()
    for attempt in range(attempts):
        try:
            with lake.attached(read_only=False) as connection:
                partition = Partition(connection, lake.files, table, window)
                partition.note()  # on its own, so that no mover waits for another's
                with _transaction(connection):
                    # Who waits with rows in hand makes others wait for these.
                    wait = sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
                    partition.do(wait)
                    partition.lock()
                    on_step("locked")
                    partition.take_columns()
                    partition.know_few()
                    done = work(partition)
            on_step("committed")
            return done, time.monotonic() - started
        except duckdb.Error as error:
            text = str(error)
            if not any(said in text for said in _AGAIN):
                raise TieringError(f"{table.name} {window.key}: {_said(lake, error)}") from None
            time.sleep(0.1 * 2**attempt)
        except psycopg.Error as error:
            raise TieringError(f"{table.name} {window.key}: {lake.redact(str(error))}") from None
        except LakeFileError as error:
            raise TieringError(
                f"{table.name} {window.key}: nothing was moved: {lake.redact(str(error))}"
            ) from error
    raise TieringError(
        f"{table.name} {window.key}: rows of the partition were changed or held during each of "
        f"{attempts} "
        "attempts; nothing was moved. Move it when nobody writes there."
    )


def _said(lake: Lake, error: duckdb.Error) -> str:
    text = lake.redact(str(error))
    if isinstance(error, duckdb.HTTPException):
        # Behind the first line stands the statement, which is none of the user's.
        return f"nothing was moved: {text.splitlines()[0]}. Run it again when the store answers"
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
