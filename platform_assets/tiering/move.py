"""The move: one partition from hot to cold, exactly once, as one PostgreSQL transaction.

    begin                      one REPEATABLE READ transaction, one snapshot, DuckDB in front
    lock                       the partition, against a second mover
    copy                       hot rows (compacting: also the cold rows that stay) to a file
    count                      fingerprint of the hot rows, by PostgreSQL, in the snapshot; during
                               the copy if there is no file yet, before it when compacting
    verify                     fingerprint of the re-read file, by DuckDB, against what was counted
    delete                     hot rows and tombstones, while the file is being verified
    rename                     the file to its final name, made durable
    record                     manifest entry in, older generation superseded
    commit                     the only moment at which anything becomes visible

A move that is killed before the commit leaves an orphaned file; after it, nothing is left to do.
Rows that are inserted during the move are not in its snapshot: they stay hot, and the next move
compacts them into the file. Rows that are updated during the move make its delete fail, and the
move starts again.

For each key a reader sees the hot row; if there is none, the cold row unless the key has a
tombstone. Compacting writes what a reader of its snapshot sees: hot rows, and cold rows whose key
is neither hot nor has a tombstone. It deletes the hot rows and the tombstones of its snapshot only.
For a key that is deleted (hot row out, tombstone in, one commit) and inserted again at that time:

    in the snapshot        then            after compacting
    cold                   deleted         its row is in the new file, its tombstone stays: gone
    cold                   deleted, back   the same, and the hot row that came back: seen
    cold, tombstone        back            it is not in the new file, the hot row stays: seen
    hot                    deleted         the delete of the hot row fails, compacting starts again
    hot, removed here      deleted         the DELETE waits for this commit, finds no hot row, and
                                           its tombstone hides the row of the new file: gone
    tombstone              taken back      the delete of the tombstone fails, it starts again

So a key may have two tombstones, and must: the one that compacting deletes does not cover a row
that was deleted after its snapshot.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from psycopg import sql

from lakebed.resources.lake import Lake
from lakebed.resources.tombstones import asked
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnMoveStep
from lakebed.spec.table import SourceTable
from lakebed.store.fingerprint import Fingerprint
from lakebed.tiering.cold_file import Written, cold_file
from lakebed.tiering.generations import (
    Generation,
    generations,
    record,
    rows_of,
    supersede,
    verified,
)
from lakebed.tiering.holds import leave_if_held, lift_hold
from lakebed.tiering.partition import Partition, in_transaction
from lakebed.tiering.report import Moved
from lakebed.tiering.verified_file import stored_columns


def move(
    lake: Lake,
    table: SourceTable,
    window: Window,
    *,
    unless_held_at: datetime | None = None,
    on_step: OnMoveStep = lambda step: None,
    attempts: int = 5,
) -> Moved:
    """Move one partition's hot rows to the lake, or compact them and deletes into its cold file.

    A partition without rows has no file. A partition that is held after a restore is moved, and its
    hold lifted, unless `unless_held_at` is given.
    Steps: locked, copied, counted (before copied when compacting), deleted and verified in either
    order, renamed, recorded, committed.

    Args:
        lake: The lake to write to.
        table: The spec of the table.
        window: The window of the partition.
        unless_held_at: The time of a move by policy, which skips held partitions.
        on_step: Receives each step.
        attempts: How often to start over if rows change during the move.

    Raises:
        PartitionBusyError: Another move holds the partition.
        PartitionHeldError: The partition is held after a restore.
        VerificationError: The file does not hold the counted rows.
        TieringError: Other sessions changed the rows during each attempt.
    """
    moved, seconds = in_transaction(
        lake,
        table,
        window,
        lambda partition: _move(lake, partition, unless_held_at, on_step),
        on_step=on_step,
        attempts=attempts,
    )
    return replace(moved, seconds=seconds)


def _move(
    lake: Lake, partition: Partition, unless_held_at: datetime | None, on_step: OnMoveStep
) -> Moved:
    """Take all steps between the lock and the commit."""
    if unless_held_at is not None:
        leave_if_held(partition, unless_held_at)
    old, last = generations(partition)
    tombstones = partition.count_tombstones()
    if old is not None or tombstones:
        return _compact(partition, old, last, tombstones, on_step)
    if partition.has_hot_rows():
        return _move_first(lake, partition, last, on_step)
    on_step("counted")
    return Moved(partition.table.name, partition.window.key)


def _move_first(lake: Lake, partition: Partition, last: int, on_step: OnMoveStep) -> Moved:
    """Move a partition that has no file: PostgreSQL counts while DuckDB copies."""
    with partition.counting(lake) as counting:

        def counted() -> Fingerprint:
            found = counting.result()
            on_step("counted")
            return found

        rows = _rows(partition, None, deletes=False)
        take_out = partial(_take_out, partition, on_step, deletes=False)
        with cold_file(partition, rows, counted, last, on_step, take_out) as written:
            _name(partition, None, written, on_step)
    of = written.fingerprint.rows
    done = Moved(partition.table.name, partition.window.key, rows=of, rows_in_file=of, moved=of)
    return _with_file(done, written)


def _compact(
    partition: Partition, old: Generation | None, last: int, tombstones: int, on_step: OnMoveStep
) -> Moved:
    """Write a new file of a partition that has one, or delete tombstones that hide no row."""
    hot = partition.fingerprint_of_hot()
    on_step("counted")
    if hot.rows == 0 and tombstones == 0:
        rows_in_file = old.fingerprint.rows if old is not None else 0
        return Moved(partition.table.name, partition.window.key, rows_in_file=rows_in_file)
    deletes = tombstones > 0
    expected, overridden = _expected(partition, hot, old, deletes=deletes)
    done = Moved(
        partition.table.name,
        partition.window.key,
        rows=expected.rows,
        rows_in_file=expected.rows,
        moved=hot.rows,
        overridden=overridden,
        deletes=tombstones,
    )
    if hot.rows == 0 and overridden == 0:
        partition.consume_tombstones()  # of rows that are not there
        on_step("deleted")
        return replace(done, rows=0)
    if expected.rows == 0:
        _take_out(partition, on_step, deletes=deletes)
        _name(partition, old, None, on_step)
        return done
    rows = _rows(partition, old, deletes=deletes)
    take_out = partial(_take_out, partition, on_step, deletes=deletes)
    with cold_file(partition, rows, lambda: expected, last, on_step, take_out) as written:
        _name(partition, old, written, on_step)
    return _with_file(done, written)


def _with_file(done: Moved, written: Written) -> Moved:
    return replace(
        done,
        generation=written.generation,
        path=str(written.file.path),
        bytes=written.bytes,
        fingerprint=written.fingerprint,
    )


def _take_out(partition: Partition, on_step: OnMoveStep, *, deletes: bool) -> None:
    """Delete the rows that go into the new file, after a WAL message that announces the move."""
    partition.announce("move")
    partition.delete_hot()
    if deletes:
        partition.consume_tombstones()
    lift_hold(partition)
    on_step("deleted")


def _name(
    partition: Partition, old: Generation | None, new: Written | None, on_step: OnMoveStep
) -> None:
    """Replace the old file by the new one in the manifest. new: None if no row is left."""
    if old is not None:
        supersede(partition, old)
    if new is not None:
        record(partition, new)
    on_step("recorded")


def _expected(
    partition: Partition, hot: Fingerprint, old: Generation | None, *, deletes: bool
) -> tuple[Fingerprint, int]:
    """Return the fingerprint that the new file must have, and how many cold rows it drops."""
    if old is None:
        return hot, 0
    before = verified(partition, old)
    kept = partition.fingerprint(sql.SQL("({}) c").format(_kept(partition, old, deletes=deletes)))
    return hot + kept, before.rows - kept.rows


def _rows(partition: Partition, old: Generation | None, *, deletes: bool) -> sql.Composable:
    """Return the query of the new file's rows: hot ones, and cold ones that stay.

    It is for DuckDB, which scans the hot table in the transaction's snapshot.
    """
    rows = sql.SQL("select {} from {} where {}").format(
        stored_columns(partition), partition.hot_in_duckdb, partition.in_window
    )
    if old is None:
        return rows
    columns = sql.SQL(", ").join(map(sql.Identifier, partition.table.column_names))
    kept = _kept(partition, old, deletes=deletes)
    return sql.SQL("{} union all select {} from ({})").format(rows, columns, kept)


def _kept(partition: Partition, old: Generation, *, deletes: bool) -> sql.Composable:
    """Return the query of the cold rows that no hot row overrides and no tombstone hides."""
    table = partition.table
    rows = sql.SQL("from ({})").format(rows_of(partition, old))
    if not table.key:
        return rows
    key = sql.SQL(", ").join(sql.Identifier(name) for name in table.key)
    typed = sql.SQL(", ").join(
        sql.SQL("cast({0} as {1}) as {0}").format(
            sql.Identifier(name), sql.SQL(table.column(name).duckdb)
        )
        for name in table.key
    )
    masked: sql.Composable = sql.SQL("select {} from {} where {}").format(
        typed, partition.hot_in_duckdb, partition.in_window
    )
    if deletes:
        masked = sql.SQL("{} union all select {} from {}").format(
            masked, typed, asked(partition.deleted_keys)
        )
    return sql.SQL("{} anti join ({}) using ({})").format(rows, masked, key)
