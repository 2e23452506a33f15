"""The move: one partition from hot to cold, exactly once, as one PostgreSQL transaction.

    begin                      one REPEATABLE READ transaction, one snapshot, DuckDB in front
    lock                       the partition, against a second mover
    copy                       hot rows (in a fold also the cold rows they leave standing) to a file
    count                      fingerprint of the hot rows, by PostgreSQL, in the snapshot; done
                               beside the copy where there is no file yet, before it in a fold
    verify                     fingerprint of the re-read file, by DuckDB, against what was counted
    delete                     hot rows and tombstones out, while the file is being verified
    rename                     the file to its final name, made durable
    record                     manifest entry in, older generation superseded
    commit                     the only moment at which anything becomes visible

Killed before the commit it leaves a file that nobody names; after it, nothing to do. Rows that
others insert meanwhile are not in the snapshot: they stay hot and are folded in by the next run.
Rows that others change meanwhile make the delete fail, and the move starts again.

A reader sees of a key its hot row; else its cold row, if the key has no tombstone. A fold makes a
file of what a reader of its snapshot sees: hot rows, and cold ones whose key is neither hot nor
has a tombstone. It takes out the hot rows and the tombstones of its snapshot, and no others. Of a
key that others delete (hot row out, tombstone in, one commit) and insert again meanwhile:

    in the snapshot        then            after the fold
    cold                   deleted         its row is in the new file, its tombstone stays: gone
    cold                   deleted, back   the same, and the hot row that came back: seen
    cold, tombstone        back            it is not in the new file, the hot row stays: seen
    hot                    deleted         the delete of the hot row fails, the fold starts again
    hot, out by the fold   deleted         who deletes waits for the fold, finds no hot row, and
                                           its tombstone hides the row of the new file: gone
    tombstone              taken back      the delete of the tombstone fails, it starts again

So tombstones may stand twice, and must: one that the fold takes out does not count for what was
deleted after its snapshot.
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
    """Move one partition's hot rows to the lake, or fold them and deletes into its cold file.

    A partition of which no row is left has no file. One that is held after a restore is moved all
    the same, and held no more, unless the time of a move by policy is given.
    Steps: locked, copied, counted (in a fold the other way round), deleted and verified in either
    order, renamed, recorded, committed.
    Raises PartitionBusyError, PartitionHeldError, VerificationError, or TieringError where others
    kept changing the rows.
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
        return _settle(lake, partition, last, on_step)
    on_step("counted")
    return Moved(partition.table.name, partition.window.key)


def _settle(lake: Lake, partition: Partition, last: int, on_step: OnMoveStep) -> Moved:
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
    """Make a new file of a partition that has one, or take out tombstones of no row."""
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
    """Take out what goes into the new file, and tell beforehand whoever decodes the WAL."""
    partition.announce("move")
    partition.delete_hot()
    if deletes:
        partition.consume_tombstones()
    lift_hold(partition)
    on_step("deleted")


def _name(
    partition: Partition, old: Generation | None, new: Written | None, on_step: OnMoveStep
) -> None:
    """Put the new file into the manifest for the old one. new: None where no row is left."""
    if old is not None:
        supersede(partition, old)
    if new is not None:
        record(partition, new)
    on_step("recorded")


def _expected(
    partition: Partition, hot: Fingerprint, old: Generation | None, *, deletes: bool
) -> tuple[Fingerprint, int]:
    """Return what the new file must come to, and how many cold rows do not go into it."""
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
