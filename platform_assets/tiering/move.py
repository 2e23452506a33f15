"""The move: one partition from hot to cold, exactly once, as one PostgreSQL transaction.

    begin                      one REPEATABLE READ transaction, one snapshot, DuckDB in front
    lock                       the partition, against a second mover
    count                      fingerprint of the hot rows, by PostgreSQL, in the snapshot
    copy                       hot rows (in a fold also the cold rows they leave standing) to a file
    verify                     fingerprint of the re-read file, by DuckDB, against what was counted
    rename                     the file to its final name, made durable
    record, delete             manifest entry in, older generation superseded, hot rows out
    commit                     the only moment at which anything becomes visible

Killed before the commit it leaves a file that nobody names; after it, nothing to do. Rows that
others insert meanwhile are not in the snapshot: they stay hot and are folded in by the next run.
Rows that others change meanwhile make the delete fail, and the move starts again.
"""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from platform_assets.catalog import SourceTable
from platform_assets.partitions import Window
from platform_assets.tiering.cold_file import cold_file, stored_columns
from platform_assets.tiering.fingerprint import Fingerprint
from platform_assets.tiering.generations import (
    Generation,
    generations,
    record,
    rows_of,
    supersede,
    verified,
)
from platform_assets.tiering.partition import Partition, Step, in_transaction
from platform_assets.tiering.report import Moved
from resources.lake import Lake


def move(
    lake: Lake,
    table: SourceTable,
    window: Window,
    *,
    on_step: Step = lambda step: None,
    attempts: int = 5,
) -> Moved:
    """Move one partition's hot rows to the lake, or fold them into its cold file.

    Steps: locked, counted, copied, verified, renamed, recorded, deleted, committed.
    Raises PartitionBusyError, VerificationError, or TieringError where others kept changing the
    rows.
    """
    moved, seconds = in_transaction(
        lake,
        table,
        window,
        lambda partition: _move(partition, on_step),
        on_step=on_step,
        attempts=attempts,
    )
    return replace(moved, seconds=seconds)


def _move(partition: Partition, on_step: Step) -> Moved:
    """Take all steps between the lock and the commit."""
    old, last = generations(partition)
    hot = partition.fingerprint_of_hot()
    on_step("counted")
    if hot.rows == 0:
        return Moved(partition.table.name, partition.window.key)
    expected, overridden = _expected(partition, hot, old)
    with cold_file(partition, _rows(partition, old), expected, last, on_step) as written:
        if old is not None:
            supersede(partition, old)
        record(partition, written)
        on_step("recorded")
        partition.delete_hot()
        on_step("deleted")
    return Moved(
        partition.table.name,
        partition.window.key,
        written.generation,
        str(written.file.path),
        expected.rows,
        hot.rows,
        overridden,
        written.bytes,
        fingerprint=expected,
    )


def _expected(
    partition: Partition, hot: Fingerprint, old: Generation | None
) -> tuple[Fingerprint, int]:
    """Return what the new file must come to, and how many cold rows hot ones override."""
    if old is None:
        return hot, 0
    before = verified(partition, old)
    kept = partition.fingerprint(sql.SQL("({}) c").format(_kept(partition, old)))
    return hot + kept, before.rows - kept.rows


def _rows(partition: Partition, old: Generation | None) -> sql.Composable:
    """Return the query of the new file's rows: hot ones, and cold ones that these leave standing.

    It is for DuckDB, which scans the hot table in the transaction's snapshot.
    """
    rows = sql.SQL("select {} from {} where {}").format(
        stored_columns(partition), partition.hot_in_duckdb, partition.in_window
    )
    if old is None:
        return rows
    columns = sql.SQL(", ").join(map(sql.Identifier, partition.table.column_names))
    return sql.SQL("{} union all select {} from ({})").format(rows, columns, _kept(partition, old))


def _kept(partition: Partition, old: Generation) -> sql.Composable:
    """Return the query of the cold rows that no hot row overrides by key."""
    table = partition.table
    rows = sql.SQL("from ({})").format(rows_of(partition, old))
    if not table.key:
        return rows
    key = sql.SQL(", ").join(sql.Identifier(name) for name in table.key)
    hot = sql.SQL(", ").join(
        sql.SQL("cast({0} as {1}) as {0}").format(
            sql.Identifier(name), sql.SQL(table.column(name).duckdb)
        )
        for name in table.key
    )
    return sql.SQL("{} anti join (select {} from {} where {}) using ({})").format(
        rows, hot, partition.hot_in_duckdb, partition.in_window, key
    )
