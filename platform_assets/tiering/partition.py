"""One partition in one transaction: what all that rewrites a partition have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from psycopg import sql

from lakebed.errors import BusyError
from lakebed.errors import TieringError as TieringError
from lakebed.errors import VerificationError as VerificationError
from lakebed.resources.lake import Lake
from lakebed.resources.locks import move_lock
from lakebed.resources.tombstones import deleted_keys
from lakebed.schema.registry import key_blocker_query, upsert_policy, upsert_tiered_table
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnTransactionStep
from lakebed.spec.table import SourceTable
from lakebed.tiering import transaction
from lakebed.tiering.transaction import HotTable

T = TypeVar("T")


class PartitionBusyError(BusyError):
    """Another process rewrites the partition."""


@dataclass
class Partition(HotTable):
    """A partition, locked and in a transaction, with the table's definition in PostgreSQL now."""

    unchanged = "nothing was moved"
    again = "Run `lakebed move` again"

    window: Window

    def __str__(self) -> str:
        """Return the table and the partition's key."""
        return f"{self.table.name} {self.window.key}"

    @property
    def relation(self) -> sql.Composable:
        """The hot rows of the partition, as PostgreSQL knows them."""
        return sql.SQL("{} where {}").format(self.hot, self.in_window)

    @property
    def in_window(self) -> sql.Composable:
        """The condition that a row belongs to the partition, for both engines."""
        return sql.SQL("{time} >= {lower}::timestamptz and {time} < {upper}::timestamptz").format(
            time=sql.Identifier(self.table.require_partitioning.column),
            lower=sql.Literal(self.window.lower.isoformat()),
            upper=sql.Literal(self.window.upper.isoformat()),
        )

    def lock(self) -> None:
        """Take the partition's lock for as long as the transaction lives, and no longer.

        Raises PartitionBusyError.
        """
        if not self.try_lock(move_lock(self.table.name, self.window)):
            raise PartitionBusyError(
                f"{self}: another move of it is running; run it again when that has ended"
            )

    @property
    def deleted_keys(self) -> sql.Composed:
        """The query of the keys that have tombstones, for PostgreSQL. The table has a key."""
        window = (self.window.lower, self.window.upper)
        return deleted_keys(self.table.relation, self.table.name, self.table.key, [window])

    def note(self) -> None:
        """Record what PostgreSQL must know of the table for clients without its table file.

        Raises TieringError if deletes by another key are pending: under this key they hide nothing.
        """
        ((why,),) = self.ask(key_blocker_query(self.table))
        if why is not None:
            raise TieringError(f"{self}: {self.unchanged}: {why}")
        for statement in (upsert_tiered_table(self.table), upsert_policy(self.table)):
            if statement is not None:
                self.do(statement)

    def count_tombstones(self) -> int:
        """Return how many tombstones of the partition the snapshot shows."""
        query = sql.SQL("select count(*) as tombstones from lakebed.cold_delete where {}")
        return int(self.ask(query.format(self._of_tombstones))[0][0])

    def consume_tombstones(self) -> None:
        """Delete the tombstones that the snapshot shows, and no other.

        Raises duckdb.Error if another session has taken some back.
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

    def announce(self, action: str) -> None:
        """Emit a logical-decoding message that announces the change that follows.

        CDC consumers can thereby tell moved rows from deleted rows.
        """
        message = {
            "action": action,
            "table": self.table.name,
            "partition": self.window.key,
            "lower": self.window.lower.isoformat(),
            "upper": self.window.upper.isoformat(),
        }
        self.ask(
            sql.SQL("select pg_logical_emit_message(true, 'lakebed', {})::text as lsn").format(
                json.dumps(message)
            )
        )

    def delete_hot(self) -> None:
        """Delete the hot rows that the snapshot shows, and no other.

        Raises TieringError if a trigger or a policy keeps some, duckdb.Error if another session has
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


def in_transaction(
    lake: Lake,
    table: SourceTable,
    window: Window,
    work: Callable[[Partition], T],
    *,
    on_step: OnTransactionStep,
    attempts: int,
) -> tuple[T, float]:
    """Do work on a locked partition and commit; retry if other sessions changed its rows.

    Steps of its own: locked, committed. Returns the result of the work, and the seconds.
    Raises PartitionBusyError, TieringError if the rows changed during each attempt, and the errors
    of the work. Nothing is changed in these cases.
    """
    return transaction.in_transaction(
        lake,
        f"{table.name} {window.key}",
        partial(Partition, files=lake.files, table=table, window=window),
        work,
        contended=(
            f"rows of the partition were changed or locked during each of {attempts} attempts; "
            "nothing was moved. Run `lakebed move` again when its writers have ended"
        ),
        on_step=on_step,
        attempts=attempts,
    )
