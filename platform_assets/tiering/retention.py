"""Retention: drop cold partitions that are older than their table keeps, with all their rows.

One transaction a partition: its generation is superseded, and the hot rows of its window (late
rows) and its tombstones are deleted. The file follows after the grace period, as any superseded
file does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lakebed.resources.lake import Lake
from lakebed.resources.postgres import Connection
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnExpireStep
from lakebed.spec.table import SourceTable
from lakebed.tiering.generations import generations, supersede
from lakebed.tiering.partition import Partition, in_transaction


@dataclass(frozen=True)
class Expired:
    """A partition that was dropped, or would be. late: how many of its rows were hot."""

    table: str
    partition_key: str
    rows: int
    late: int


def expired(connection: Connection, table: SourceTable, now: datetime) -> list[Window]:
    """Return the cold partitions that are older than the table keeps them, in order."""
    keep = table.require_tiering.keep_cold_for
    if keep is None:
        return []
    rows = connection.execute(
        "select lower_bound from lakebed.cold_file"
        " where table_name = %s and superseded_at is null order by 1",
        [table.name],
    ).fetchall()
    windows = dict.fromkeys(table.window(row[0]) for row in rows)
    return [window for window in windows if is_past(window, table, now)]


def is_past(window: Window, table: SourceTable, now: datetime) -> bool:
    """Whether a window's end is older than the table keeps its cold rows. Pure."""
    keep = table.require_tiering.keep_cold_for
    return keep is not None and window.upper <= now - keep


def expire(
    lake: Lake,
    table: SourceTable,
    window: Window,
    *,
    on_step: OnExpireStep = lambda step: None,
    attempts: int = 5,
) -> Expired:
    """Drop a partition. Raises PartitionBusyError, or TieringError where it did not happen.

    Steps: locked, superseded, deleted, committed.
    """
    done, _ = in_transaction(
        lake,
        table,
        window,
        lambda partition: _expire(partition, on_step),
        on_step=on_step,
        attempts=attempts,
    )
    return done


def _expire(partition: Partition, on_step: OnExpireStep) -> Expired:
    old, _ = generations(partition)
    late = partition.count_hot()
    if old is not None:
        supersede(partition, old)
    on_step("superseded")
    partition.delete_hot()
    partition.consume_tombstones()
    on_step("deleted")
    rows = old.fingerprint.rows if old is not None else 0
    return Expired(partition.table.name, partition.window.key, rows, late)
