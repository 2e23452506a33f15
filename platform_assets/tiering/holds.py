"""Holds: partitions that were restored stay hot for a time, whatever their policy says."""

from __future__ import annotations

from datetime import datetime

from psycopg import sql

from lakebed.errors import TieringError
from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable
from lakebed.tiering.partition import Partition


class PartitionHeldError(TieringError):
    """A partition is to stay hot, and what was to be moved by policy is left there."""


def hold_partition(partition: Partition, until: datetime) -> None:
    """Keep a partition hot until then, in its transaction."""
    partition.do(
        sql.SQL(
            "insert into lakebed.held_partition (table_name, partition_key, held_until)"
            " values ({}, {}, {}) on conflict (table_name, partition_key) do update set"
            " held_until = excluded.held_until, held_at = clock_timestamp(), held_by = session_user"
        ).format(partition.table.name, partition.window.key, until.isoformat())
    )


def lift_hold(partition: Partition) -> None:
    """Take the hold of a partition away, in its transaction."""
    partition.do(
        sql.SQL(
            "delete from lakebed.held_partition where table_name = {} and partition_key = {}"
        ).format(partition.table.name, partition.window.key)
    )


def leave_if_held(partition: Partition, now: datetime) -> None:
    """Raise PartitionHeldError where the partition is held then, in its transaction."""
    held = partition.ask(
        sql.SQL(
            "select held_until from lakebed.held_partition where table_name = {}"
            " and partition_key = {} and held_until > {}::timestamptz"
        ).format(partition.table.name, partition.window.key, now.isoformat())
    )
    if held:
        raise PartitionHeldError(
            f"{partition}: it was restored and is held until {held[0][0].isoformat()}; nothing was "
            "moved. To move it all the same, materialize it or name it to `lakebed move`"
        )


def holds(connection: Connection, table: SourceTable, now: datetime) -> dict[str, datetime]:
    """Return the partitions of a table that are still held: the end of each hold, by key."""
    return dict(
        connection.execute(
            "select partition_key, held_until from lakebed.held_partition"
            " where table_name = %s and held_until > %s",
            [table.name, now],
        ).fetchall()
    )
