"""The partition tables of a table: vacuum those that moves have emptied, drop them by policy.

PostgreSQL reads the list of partitions from the latest catalog, but rows from the snapshot. A
reader whose snapshot is older than a drop loses rows that it should still see. So a partition table
is dropped only when no snapshot shows a row in it, which is when it has no page left: VACUUM,
which knows every snapshot, has given all pages back. The check runs under the lock of the drop.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import psycopg
from psycopg import sql

from lakebed.resources.locks import load_lock, move_lock
from lakebed.resources.postgres import LOCK_TIMEOUT, Connection
from lakebed.resources.retries import retrying
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnTidyStep
from lakebed.spec.table import SourceTable
from lakebed.tiering.horizon import Stay, StayReason, read_horizon

DROP_ATTEMPTS = 5

BOUND = re.compile(r"FOR VALUES FROM \('([^']+)'\) TO \('([^']+)'\)")


@dataclass(frozen=True)
class PartitionTable:
    """PostgreSQL's table of one partition.

    window: None if it is not a window of the table's grain, such as a DEFAULT partition.
    bytes: of its rows, dead ones too.  detaching: an interrupted DETACH CONCURRENTLY left it so.
    """

    name: str
    schema: str
    window: Window | None
    default: bool
    bytes: int
    detaching: bool

    @property
    def identifier(self) -> sql.Identifier:
        """The partition table in SQL."""
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class PartitionTableAction:
    """What was done with a partition table. stay: why it was left, if it was."""

    table: str
    partition_table: str
    what: Literal["vacuumed", "dropped", "waits"]
    bytes: int = 0
    stay: Stay | None = None

    @property
    def why(self) -> str:
        """Why it waits, as a text."""
        return self.stay.text if self.stay else ""


def partition_tables_of(connection: Connection, table: SourceTable) -> list[PartitionTable]:
    """Return the partition tables of a table by name; none if it is not natively partitioned."""
    rows = connection.execute(
        "select c.relname::text, n.nspname::text, pg_get_expr(c.relpartbound, c.oid),"
        " pg_relation_size(c.oid), i.inhdetachpending"
        " from pg_inherits i join pg_class c on c.oid = i.inhrelid and c.relispartition"
        " join pg_namespace n on n.oid = c.relnamespace"
        " where i.inhparent = to_regclass(%s) order by c.relname",
        [table.relation.as_string()],
    ).fetchall()
    return [
        PartitionTable(name, schema, _window(table, bound), bound == "DEFAULT", size, detaching)
        for name, schema, bound, size, detaching in rows
    ]


def gaps(
    partition_tables: Sequence[PartitionTable], windows: Sequence[Window], cold: Collection[str]
) -> list[Window]:
    """Return the windows between the first partition table and the last that have none and no file.

    Pure. A cold partition without a partition table is not a gap: its table was dropped.
    """
    there = {
        partition_table.window
        for partition_table in partition_tables
        if partition_table.window is not None
    }
    if not there:
        return []
    first, last = min(there), max(there)
    return [w for w in windows if first < w < last and w not in there and w.key not in cold]


def may_drop(table: SourceTable, partition_table: PartitionTable, now: datetime) -> bool:
    """Whether the policy lets an emptied partition table go. Pure."""
    after = table.require_tiering.drop_emptied_after
    return (
        after is not None
        and partition_table.window is not None
        and partition_table.window.upper <= now - after
    )


def tidy(
    connection: Connection,
    table: SourceTable,
    now: datetime,
    *,
    dry_run: bool = False,
    on_step: OnTidyStep = lambda step: None,
) -> list[PartitionTableAction]:
    """Vacuum the partition tables that moves have emptied, and drop those that the policy drops.

    Steps: vacuumed, dropped. The connection must be in autocommit mode.
    """
    moves = _moves(connection, table)
    notes: list[PartitionTableAction] = []
    for partition_table in partition_tables_of(connection, table):
        moved = (
            moves.get(partition_table.window.key) if partition_table.window is not None else None
        )
        if moved is None or partition_table.detaching or not _is_empty(connection, partition_table):
            continue
        drops = may_drop(table, partition_table, now)
        if partition_table.bytes == 0 and not drops:
            continue
        held = read_horizon(connection).why_not(moved)
        if held is not None:
            notes.append(
                PartitionTableAction(
                    table.name, partition_table.name, "waits", partition_table.bytes, held
                )
            )
            continue
        if partition_table.bytes and not dry_run:
            _vacuum(connection, partition_table)
            on_step("vacuumed")
        if partition_table.bytes:
            notes.append(
                PartitionTableAction(
                    table.name, partition_table.name, "vacuumed", partition_table.bytes
                )
            )
        if drops:
            stay = None if dry_run else _drop(connection, table, partition_table)
            what: Literal["waits", "dropped"] = "waits" if stay else "dropped"
            notes.append(PartitionTableAction(table.name, partition_table.name, what, stay=stay))
            on_step("dropped")
    return notes


def _moves(connection: Connection, table: SourceTable) -> dict[str, int]:
    """Return the last transaction that moved rows out of each partition that is cold, or was."""
    rows = connection.execute(
        "select partition_key, max(moved_by_xid)::text from lakebed.cold_file"
        " where table_name = %s group by 1",
        [table.name],
    ).fetchall()
    return {key: int(xid) for key, xid in rows}


def _is_empty(connection: Connection, partition_table: PartitionTable) -> bool:
    query = sql.SQL("select not exists (select from only {})").format(partition_table.identifier)
    return bool(connection.execute(query).fetchall()[0][0])


def _is_bare(connection: Connection, partition_table: PartitionTable) -> bool:
    """Whether the partition table has no page, so that no snapshot shows a row in it."""
    query = sql.SQL("select pg_relation_size({}::regclass)").format(
        sql.Literal(partition_table.identifier.as_string())
    )
    return bool(connection.execute(query).fetchall()[0][0] == 0)


def _vacuum(connection: Connection, partition_table: PartitionTable) -> None:
    connection.execute(
        sql.SQL("vacuum (analyze, skip_locked) {}").format(partition_table.identifier)
    )


def _drop(
    connection: Connection, table: SourceTable, partition_table: PartitionTable
) -> Stay | None:
    """Drop a partition table that holds no row for any snapshot; return why it could not."""
    assert partition_table.window is not None
    window = partition_table.window
    contended = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

    def drop() -> Stay | None:
        with connection.transaction():
            stay = _why_stays(connection, table, partition_table, window)
            if stay is None:
                connection.execute(sql.SQL("drop table {}").format(partition_table.identifier))
        return stay

    try:
        return retrying(DROP_ATTEMPTS, contended, first=0.05, longest=1.0)(drop)
    except contended:
        return Stay(StayReason.BUSY, "other sessions lock the table; see pg_locks")
    except psycopg.errors.DependentObjectsStillExist as error:
        return Stay(StayReason.DEPENDENT, str(error.diag.message_primary))


def _why_stays(
    connection: Connection, table: SourceTable, partition_table: PartitionTable, window: Window
) -> Stay | None:
    """Lock the partition table and check once more; return why it must not be dropped."""
    for lock in (load_lock(table.name), move_lock(table.name, window)):
        if not lock.try_take(connection):
            return Stay(StayReason.BUSY, "a load or a move is at work on it")
    connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
    # In the order in which PostgreSQL takes them, the parent first.
    connection.execute(
        sql.SQL("lock table only {}, only {} in access exclusive mode").format(
            table.relation, partition_table.identifier
        )
    )
    if not _is_empty(connection, partition_table):
        return Stay(StayReason.ROWS, "new rows arrived; the next move compacts them")
    if not _is_bare(connection, partition_table):
        return Stay(
            StayReason.ROWS,
            "a session may still see rows in it, or VACUUM could not give its pages back",
        )
    return None


def _window(table: SourceTable, bound: str) -> Window | None:
    found = BOUND.fullmatch(bound)
    if found is None:
        return None
    try:
        lower, upper = (datetime.fromisoformat(text).astimezone(UTC) for text in found.groups())
    except ValueError:
        return None  # a year beyond Python's datetime
    window = table.window(lower)
    return window if (window.lower, window.upper) == (lower, upper) else None
