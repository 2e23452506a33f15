"""The restore: one partition from cold back to hot, exactly once, as one PostgreSQL transaction.

    make        the partition table, where it is missing
    begin       one REPEATABLE READ transaction, one snapshot
    lock        the partition, against movers
    check       the cold file, by DuckDB, against the manifest
    copy        its rows into a temporary table, compared with what the file holds
    write       the rows that no hot row overrides and no tombstone hides into the hot table
    verify      hot rows now are the hot rows before and the written rows, by fingerprint
    record      the generation superseded, the partition held
    close       block new tombstones; check that those present are the ones of the snapshot
    commit      the only moment at which anything becomes visible

A restore that is killed before the commit has changed nothing; after it, nothing is left to do. The
file stays in its place, as that of a superseded generation.

An INSERT of a key that the restore also writes waits for the restore, or the restore waits for it:
one of the two finds the other's row, and the restore then starts again. Without a unique index (a
table that Lakebed did not create) the restore blocks writers of the table. A DELETE enters the
tombstone first and deletes the hot rows then. So either the tombstone is in before the close, which
sees it, and the restore starts again; or it waits for the commit, and the delete finds the row hot.
The close blocks other sessions no longer than LOCK_TIMEOUT.

Restoring a whole table from a backup is in recovery/restore_backup.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import psycopg
from psycopg import sql

from lakebed.errors import LakebedError, TieringError, VerificationError
from lakebed.pgcopy.cold_rows import copy_cold_rows
from lakebed.resources.lake import Lake
from lakebed.resources.postgres import LOCK_TIMEOUT, Connection, Postgres
from lakebed.resources.retries import retrying
from lakebed.schema.ddl import ensure_partition_tables, lacks_partition_table
from lakebed.schema.parents import has_unique_index
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnRestoreStep
from lakebed.spec.table import SourceTable
from lakebed.store.fingerprint import Fingerprint, fingerprint_query, read_fingerprint
from lakebed.tiering.generations import Generation, generations, rows_of, supersede, verified
from lakebed.tiering.holds import hold_partition
from lakebed.tiering.missing_columns import check_labels, fill_defaults
from lakebed.tiering.partition import Partition

HELD_FOR = timedelta(days=7)
CLOSINGS = 10
"""How often the close is tried before the restore starts again."""
STAGE = sql.Identifier("lakebed_restored")


@dataclass(frozen=True)
class Restored:
    """What a restore did.

    generation: the one that was restored, 0 if the partition has no cold file.
    rows: rows that are hot again.  overridden: rows of the file that are not, as a hot row of the
    same key replaced them or a tombstone hid them.
    """

    table: str
    partition_key: str
    generation: int = 0
    rows: int = 0
    overridden: int = 0
    held_until: datetime | None = None
    seconds: float = 0.0

    @property
    def line(self) -> str:
        """What happened, for people."""
        where = f"{self.table} {self.partition_key}"
        if not self.generation or self.held_until is None:
            return f"{where}: not cold, nothing to restore"
        return (
            f"{where}: {self.rows:,} rows are hot again, verified in {self.seconds:.2f} s; held "
            f"until {self.held_until:%Y-%m-%d %H:%M}"
        )


class _OvertakenError(LakebedError, RuntimeError):
    """Another session deleted rows of the partition during the restore."""


_AGAIN = (
    _OvertakenError,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UniqueViolation,
)


@dataclass
class RestoredPartition(Partition):
    """A partition in a transaction of psycopg's, which can copy; DuckDB only reads files."""

    postgres: Connection

    def ask(self, query: sql.Composable) -> list[tuple[Any, ...]]:
        """Return what PostgreSQL answers, in the transaction."""
        return self.postgres.execute(sql.Composed([query])).fetchall()

    def do(self, statement: sql.Composable) -> None:
        """Run a statement in PostgreSQL, in the transaction."""
        self.postgres.execute(sql.Composed([statement]))


def restore(
    postgres: Postgres,
    lake: Lake,
    table: SourceTable,
    window: Window,
    now: datetime,
    *,
    hold: timedelta = HELD_FOR,
    on_step: OnRestoreStep = lambda step: None,
    attempts: int = 5,
) -> Restored:
    """Bring the cold rows of a partition back to hot, and hold them there for a time.

    now: the platform's time (UTC).  hold: how long no policy moves the partition again.
    Steps: locked, checked, copied, written, verified, recorded, closed, committed.
    Raises PartitionBusyError, VerificationError, or TieringError if other sessions kept writing or
    the table refuses the rows. Nothing is changed in these cases.
    """
    started = time.monotonic()
    lake.owner.check()

    def bring_back() -> Restored | None:
        with postgres.connect(autocommit=True) as connection, lake.reader() as reader:
            partition = RestoredPartition(reader, lake.files, table, window, connection)
            if generations(partition)[0] is None:
                return None
            ensure_partition_tables(connection, table, [window])
            with _transaction(partition):
                done = _Restore(partition, postgres, on_step).run(now, hold)
        on_step("committed")
        return done

    try:
        done = retrying(attempts, _AGAIN)(bring_back)
    except _AGAIN as error:
        raise TieringError(
            f"{table.name} {window.key}: other sessions wrote to the partition during each of "
            f"{attempts} attempts; nothing was restored ({str(error).strip()}). Run `lakebed "
            "restore` again when they have ended"
        ) from None
    except (psycopg.Error, duckdb.Error, ValueError) as error:
        text = lake.redact(str(error)).strip()
        raise TieringError(f"{table.name} {window.key}: nothing was restored: {text}") from None
    if done is None:
        return Restored(table.name, window.key)
    return replace(done, seconds=time.monotonic() - started)


@contextmanager
def _transaction(partition: RestoredPartition) -> Iterator[None]:
    """Begin with the snapshot of all steps, and wait for no lock longer than LOCK_TIMEOUT."""
    connection, key = partition.postgres, partition.table.key
    unique = not key or has_unique_index(connection, partition.table.relation, key, or_fewer=True)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with connection.transaction():
        partition.do(sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
        if not unique:
            partition.do(sql.SQL("lock table {} in share row exclusive mode").format(partition.hot))
        yield


@dataclass
class _Restore:
    """One restore, in a transaction."""

    partition: RestoredPartition
    postgres: Postgres
    on_step: OnRestoreStep

    def run(self, now: datetime, hold: timedelta) -> Restored:
        partition = self.partition
        partition.lock()
        self._check_partition_table()
        self.on_step("locked")
        partition.take_columns()
        old, _ = generations(partition)
        if old is None:
            return Restored(partition.table.name, partition.window.key)
        in_file = verified(partition, old)
        self.on_step("checked")
        self.tombstones = partition.count_tombstones()
        before = partition.fingerprint_of_hot()
        self._copy(old, in_file)
        self.on_step("copied")
        kept = self._write()
        self.on_step("written")
        self._verify(before + kept)
        self.on_step("verified")
        supersede(partition, old)
        hold_partition(partition, now + hold)
        self.on_step("recorded")
        self._close()
        self.on_step("closed")
        return Restored(
            partition.table.name,
            partition.window.key,
            old.number,
            kept.rows,
            in_file.rows - kept.rows,
            now + hold,
        )

    def _check_partition_table(self) -> None:
        """Start again if housekeeping has dropped the emptied partition table by now.

        It drops no partition table while the lock is held. Another connection checks this, because
        the snapshot may be older than the lock.
        """
        with self.postgres.connect(autocommit=True) as connection:
            if lacks_partition_table(connection, self.partition.table, self.partition.window):
                raise _OvertakenError("housekeeping has dropped the emptied partition table")

    def _copy(self, old: Generation, in_file: Fingerprint) -> None:
        """Copy the file's rows into the stage. Raises VerificationError, TieringError."""
        partition, columns = self.partition, self.partition.table.columns
        rows = rows_of(partition, old)
        if old.columns != {column.name: column.postgres for column in columns}:
            in_file = partition.fingerprint(sql.SQL("({}) c").format(rows))
        partition.do(
            sql.SQL("create temporary table {} on commit drop as select {} from {} limit 0").format(
                STAGE, self._columns, partition.hot
            )
        )
        check_labels(partition, rows)
        copy_cold_rows(partition.postgres, STAGE, columns, partition.connection, rows)
        wrong = self._staged().differences(in_file)
        if wrong:
            raise VerificationError(
                f"{partition}: what came over is not what the cold file holds "
                f"({'; '.join(wrong)}); nothing was restored"
            )
        fill_defaults(partition, STAGE)

    def _write(self) -> Fingerprint:
        """Write the visible rows into the hot table; return their fingerprint."""
        partition, key = self.partition, self.partition.table.key
        if key:
            partition.do(sql.SQL("analyze {}").format(STAGE))
            hot = sql.SQL("(select * from {} where {})").format(partition.hot, partition.in_window)
            self._leave_out(hot)
            if self.tombstones:
                self._leave_out(sql.SQL("({})").format(partition.deleted_keys))
        kept = self._staged()
        partition.do(
            sql.SQL(
                "insert into {} ({columns}) overriding system value select {columns} from {}"
            ).format(partition.hot, STAGE, columns=self._written)
        )
        return kept

    def _leave_out(self, keys: sql.Composable) -> None:
        same = sql.SQL(" and ").join(
            sql.SQL("{} = {}").format(sql.Identifier("cold", name), sql.Identifier("other", name))
            for name in self.partition.table.key
        )
        self.partition.do(
            sql.SQL("delete from {} as cold using {} as other where {}").format(STAGE, keys, same)
        )

    def _verify(self, expected: Fingerprint) -> None:
        wrong = self.partition.fingerprint_of_hot().differences(expected)
        if wrong:
            raise VerificationError(
                f"{self.partition}: the hot rows would not be the earlier ones plus those of the "
                f"cold file ({'; '.join(wrong)}); nothing was restored. Check the triggers and "
                "rules of the table"
            )

    def _close(self) -> None:
        """Block new tombstones until the commit, and check that none was added."""
        lock = sql.SQL("lock table lakebed.cold_delete in share row exclusive mode")
        for closing in range(CLOSINGS):
            try:
                with self.partition.postgres.transaction():
                    self.partition.do(lock)
                break
            except psycopg.errors.LockNotAvailable:
                if closing == CLOSINGS - 1:
                    raise
                time.sleep(0.05 * closing)
        if self._tombstones_now() != self.tombstones:
            raise _OvertakenError("rows of the partition were deleted during the restore")
        if self.tombstones:
            self.partition.consume_tombstones()

    def _tombstones_now(self) -> int:
        """Return how many tombstones the partition has now, whatever the snapshot shows."""
        with self.postgres.connect() as connection:
            return replace(self.partition, postgres=connection).count_tombstones()

    @property
    def _columns(self) -> sql.Composable:
        return sql.SQL(", ").join(map(sql.Identifier, self.partition.table.column_names))

    @property
    def _written(self) -> sql.Composable:
        """Return the columns that PostgreSQL does not generate itself."""
        query = sql.SQL(
            "select attname::text from pg_attribute where attrelid = to_regclass({})"
            " and attnum > 0 and attgenerated <> ''"
        ).format(self.partition.table.oid)
        generated = {name for (name,) in self.partition.ask(query)}
        names = [name for name in self.partition.table.column_names if name not in generated]
        return sql.SQL(", ").join(map(sql.Identifier, names))

    def _staged(self) -> Fingerprint:
        columns = self.partition.table.columns
        return read_fingerprint(
            columns, self.partition.ask(fingerprint_query(columns, STAGE, "postgres"))[0]
        )
