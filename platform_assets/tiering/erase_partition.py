"""Erasing rows of one partition, hot and cold, in its transaction.

    hot       rows that match are deleted
    live      its generation is rewritten without the rows that match, and without the cold rows
              that an erased hot row overrode or a tombstone hid: they would reappear
    older     generations that hold rows that match are superseded; one that a backup or a load
              that can be undone names is rewritten, and the new file named in its place

Each file that is searched must be, byte by byte, the file that was written. Kept rows and erased
rows must add up to the old file, by fingerprint, before anything changes. Nothing of the erased
rows stays in the manifest: their fingerprint would reveal them.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from psycopg import sql

from lakebed.errors import TieringError, VerificationError
from lakebed.resources.tombstones import asked
from lakebed.spec.steps import OnMoveStep
from lakebed.store.fingerprint import Fingerprint
from lakebed.tiering.cold_file import Written, cold_file
from lakebed.tiering.generations import (
    Generation,
    check_bytes,
    generations,
    record,
    rows_of,
    supersede,
    superseded,
    verified,
)
from lakebed.tiering.partition import Partition
from lakebed.tiering.predicate import Predicate
from lakebed.tiering.verified_file import stored_columns

_MASKED = sql.Identifier("lakebed_masked")


@dataclass(frozen=True)
class ErasedPartition:
    """What was erased of a partition. cold: rows of the live generation. files: those given up.

    generation: the last one, when it was done; no generation up to it holds a row that matches.
    """

    partition_key: str
    generation: int
    hot: int = 0
    cold: int = 0
    files: tuple[str, ...] = ()


def erase_partition(
    partition: Partition, predicate: Predicate, erasure_id: int, on_step: OnMoveStep
) -> ErasedPartition:
    """Take all steps between the lock and the commit.

    Steps: counted, copied, verified, renamed, recorded, deleted. Raises TieringError.
    """
    hot = _count_hot(partition, predicate)
    live, last = generations(partition)
    on_step("counted")
    files: list[str] = []
    cold = 0
    with ExitStack() as stack:
        if live is not None:
            kept, gone = _split(partition, live, predicate, hot)
            cold = gone.rows
        if live is not None and cold:
            supersede(partition, live)
            rows = _rows(partition, live, predicate, kept=True, masked=True)
            if kept.rows:
                new = cold_file(partition, rows, lambda: kept, last, on_step)
                record(partition, stack.enter_context(new))
            partition.consume_tombstones()
        for old, pinned in superseded(partition):
            was_live = cold > 0 and live is not None and old.number == live.number
            check_bytes(partition, old)
            if _holds(partition, old, predicate):
                if pinned:
                    _rewrite_pinned(partition, old, predicate, last, stack, on_step)
            elif pinned or not was_live:
                continue
            _give_up(partition, old)
            files.append(str(old.path))
        on_step("recorded")
        if hot:
            _delete_hot(partition, predicate)
        on_step("deleted")
        _enter(partition, erasure_id, hot, cold, files)
        _, last = generations(partition)
    return ErasedPartition(partition.window.key, last, hot, cold, tuple(files))


def _count_hot(partition: Partition, predicate: Predicate) -> int:
    """Count the hot rows that match by both engines. Raises TieringError where they differ."""
    query = sql.SQL("select count(*) as rows from {} where {} and ({})").format(
        partition.hot, partition.in_window, predicate.postgres
    )
    by_postgres = int(partition.ask(query)[0][0])
    by_duckdb = sql.SQL("select count(*) from ({}) where ({})").format(
        _hot_rows(partition), predicate.duckdb
    )
    found = partition.connection.execute(by_duckdb.as_string()).fetchall()[0][0]
    if found != by_postgres:
        raise TieringError(
            f"{partition}: of the hot rows {by_postgres} match in PostgreSQL and {found} in "
            "DuckDB; nothing was erased. Write the condition with = or IN"
        )
    return by_postgres


def _split(
    partition: Partition, live: Generation, predicate: Predicate, hot: int
) -> tuple[Fingerprint, Fingerprint]:
    """Return what is kept and what is erased of the live generation.

    Raises VerificationError if the two do not add up to the old file, or if the file is damaged: a
    damaged row may have matched.
    """
    check_bytes(partition, live)
    _mask(partition, predicate, hot)
    gone = _fingerprint(partition, live, predicate, kept=False, masked=True)
    if gone.rows == 0:
        return live.fingerprint, gone
    verified(partition, live)
    kept = _fingerprint(partition, live, predicate, kept=True, masked=True)
    whole = partition.fingerprint(sql.SQL("({})").format(rows_of(partition, live)))
    wrong = whole.differences(kept + gone)
    if wrong:
        raise VerificationError(
            f"{partition}: kept and erased rows do not add up to the rows of the old file "
            f"({'; '.join(wrong)}); nothing was erased"
        )
    return kept, gone


def _mask(partition: Partition, predicate: Predicate, hot: int) -> None:
    """Gather the keys of hidden cold rows: they go, whether they match or not."""
    table = partition.table
    if not table.key:
        return
    key = sql.SQL(", ").join(map(sql.Identifier, table.key))
    typed = sql.SQL(", ").join(
        sql.SQL("cast({0} as {1}) as {0}").format(
            sql.Identifier(name), sql.SQL(table.column(name).duckdb)
        )
        for name in table.key
    )
    query: sql.Composable = sql.SQL("select {} from ({}) where ({}) and {}").format(
        key, _hot_rows(partition), predicate.duckdb, sql.SQL("true" if hot else "false")
    )
    if partition.count_tombstones():
        query = sql.SQL("{} union all select {} from {}").format(
            query, typed, asked(partition.deleted_keys)
        )
    partition.connection.execute(
        sql.SQL("create or replace temp table {} as {}").format(_MASKED, query).as_string()
    )


def _hot_rows(partition: Partition) -> sql.Composable:
    return sql.SQL("select {} from {} where {}").format(
        stored_columns(partition), partition.hot_in_duckdb, partition.in_window
    )


def _rows(
    partition: Partition, old: Generation, predicate: Predicate, *, kept: bool, masked: bool
) -> sql.Composable:
    """Return the query of the rows of a generation that are kept, or that go.

    masked: whether the keys that were gathered count.
    """
    going: sql.Composable = sql.SQL("coalesce({}, false)").format(predicate.duckdb)
    if masked and partition.table.key:
        same = sql.SQL(" and ").join(
            sql.SQL("m.{0} = c.{0}").format(sql.Identifier(name)) for name in partition.table.key
        )
        going = sql.SQL("({} or exists (select 1 from {} m where {}))").format(going, _MASKED, same)
    columns = sql.SQL(", ").join(map(sql.Identifier, partition.table.column_names))
    return sql.SQL("select {} from ({}) c where {} ({})").format(
        columns, rows_of(partition, old), sql.SQL("not" if kept else ""), going
    )


def _fingerprint(
    partition: Partition, old: Generation, predicate: Predicate, *, kept: bool, masked: bool
) -> Fingerprint:
    rows = _rows(partition, old, predicate, kept=kept, masked=masked)
    return partition.fingerprint(sql.SQL("({})").format(rows))


def _holds(partition: Partition, old: Generation, predicate: Predicate) -> bool:
    """Whether a generation holds rows that match, seen or not."""
    return _fingerprint(partition, old, predicate, kept=False, masked=False).rows > 0


def _rewrite_pinned(
    partition: Partition,
    old: Generation,
    predicate: Predicate,
    last: int,
    stack: ExitStack,
    on_step: OnMoveStep,
) -> None:
    """Write a generation without the rows that match, for the loads and backups that name it."""
    kept = _fingerprint(partition, old, predicate, kept=True, masked=False)
    new: Written | None = None
    if kept.rows:
        rows = _rows(partition, old, predicate, kept=True, masked=False)
        new = stack.enter_context(cold_file(partition, rows, lambda: kept, last, on_step))
        record(partition, new, live=False)
    for pins in ("backup_cold", "load_superseded"):
        _repin(partition, pins, old, new)


def _repin(partition: Partition, pins: str, old: Generation, new: Written | None) -> None:
    """Name the new generation where the old one was named; remove the name if no row is left."""
    change: sql.Composable = sql.SQL("delete from {}").format(sql.Identifier("lakebed", pins))
    if new is not None:
        change = sql.SQL("update {} set generation = {}").format(
            sql.Identifier("lakebed", pins), new.generation
        )
    partition.do(
        sql.SQL("{} where table_name = {} and partition_key = {} and generation = {}").format(
            change, partition.table.name, partition.window.key, old.number
        )
    )


def _give_up(partition: Partition, old: Generation) -> None:
    partition.do(
        sql.SQL(
            "update lakebed.cold_file set removed_at = clock_timestamp(), fingerprint = '{{}}',"
            " time_min = null, time_max = null where table_name = {} and partition_key = {}"
            " and generation = {}"
        ).format(partition.table.name, partition.window.key, old.number)
    )


def _delete_hot(partition: Partition, predicate: Predicate) -> None:
    matching = sql.SQL("{} where {} and ({})").format(
        partition.hot, partition.in_window, predicate.postgres
    )
    partition.do(sql.SQL("delete from {}").format(matching))
    left = partition.ask(sql.SQL("select count(*) as remaining from {}").format(matching))[0][0]
    if left:
        raise TieringError(
            f"{partition}: {left} rows were not deleted, by a trigger or a policy of the table; "
            "nothing was erased"
        )


def _enter(partition: Partition, erasure_id: int, hot: int, cold: int, files: list[str]) -> None:
    """Count the erased rows in the ledger of erasures, in the same transaction."""
    partition.do(
        sql.SQL(
            "update lakebed.erasure set hot_rows = hot_rows + {}, cold_rows = cold_rows + {},"
            " files = files || {}::text[] where erasure_id = {}"
        ).format(hot, cold, sql.Literal(files), erasure_id)
    )
