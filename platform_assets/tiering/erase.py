"""Erasing: delete the rows that match a predicate from both tiers and destroy their files.

    open        a row in lakebed.erasure, or the row of a run that was killed
    partitions  each cold one in a transaction (erase_partition.py)
    rest        other hot rows, rows kept for a rollback, the quarantine and tombstones: one
                transaction (erase_rest.py); if its snapshot shows a partition that was moved or
                written since, erase that partition and the rest once more
    movers      wait for moves that began earlier and may hold erased rows (movers.py)
    catalog     rewritten without the files that go
    destroy     superseded files, and orphans of the table, at once; readers whose snapshot still
                names them have a few seconds to end, and get an error after that
    close

A run that is killed ends the same when it is repeated: the manifest records every superseded file,
and each file that the manifest names exists.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
import psycopg
from psycopg import sql

from lakebed.errors import TieringError
from lakebed.resources.lake_files import LakeFileError
from lakebed.resources.locks import move_lock
from lakebed.resources.postgres import Connection
from lakebed.schema.evolved import effective
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnEraseStep
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.erasable import check_erasable, disagreement
from lakebed.tiering.erase_copies import other_copies
from lakebed.tiering.erase_partition import ErasedPartition, erase_partition
from lakebed.tiering.erase_rest import (
    count,
    count_rest,
    count_unsearched_lines,
    erase_rest,
)
from lakebed.tiering.lake_copies import forget_older
from lakebed.tiering.movers import let_mover_end, let_older_end
from lakebed.tiering.partition import PartitionBusyError, in_transaction
from lakebed.tiering.predicate import Predicate, predicate_of
from lakebed.tiering.sweep import destroy_nameless


@dataclass(frozen=True)
class Erased:
    """What was erased, or would be.

    cold_rows: of live files, hidden ones too. files: lake files that were destroyed. failed:
    partitions and parts that were not erased, and why. copies: other places that may hold the rows.
    unsearched_lines: quarantined lines that are not rows, so that the condition cannot be
    evaluated.
    """

    table: str
    predicate_sha256: str
    dry_run: bool
    hot_rows: int
    cold_rows: int
    undo_rows: int
    rejected_rows: int
    files: tuple[str, ...]
    failed: tuple[str, ...]
    copies: tuple[str, ...]
    unsearched_lines: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain lists, numbers and texts."""
        return asdict(self)


def erase(
    platform: Platform,
    table: SourceTable,
    where: str,
    *,
    keep_text: bool = False,
    on_step: OnEraseStep = lambda step: None,
) -> Erased:
    """Erase the rows of a table that match. keep_text: the ledger keeps the predicate's text.

    Steps: opened, those of each partition, committed, rest, burnt, removed, closed.
    Raises PredicateError, PostgresUnavailableError, ForeignLakeError.
    """
    platform.lake.owner.check()
    with platform.postgres.connect(autocommit=True) as connection:
        table = effective(connection, table)
        predicate = predicate_of(table, where)
        check_erasable(connection, table)
        number = _open(connection, table, predicate, keep_text)
        on_step("opened")
        failed = _erase_everywhere(platform, connection, table, predicate, number, on_step)
        on_step("rest")
        failed += disagreement(platform, table, predicate)
        failed += _at_work(platform, connection, table)
        if _has_lake_copies(connection, table):
            try:
                forget_older(platform, table, number, on_step)
            except TieringError as error:
                failed.append(str(error))
        failed += _renew_catalog(platform)
        platform.lake.owner.advance()
        failed += _destroy(platform, connection, table, on_step)
        done = _report(platform, connection, table, predicate, number, failed)
        if not failed:
            connection.execute(
                "update lakebed.erasure set finished_at = clock_timestamp() where erasure_id = %s",
                [number],
            )
        on_step("closed")
        return done


def would_erase(platform: Platform, table: SourceTable, where: str) -> Erased:
    """Count what would be erased, and change nothing. Raises PredicateError."""
    for _ in range(platform.settings.patience.erase_passes):
        # A finishing load drops the rows that an older load kept for a rollback: retry with a newer
        # snapshot.
        with suppress(psycopg.errors.UndefinedTable):
            return _would_erase(platform, table, where)
    return _would_erase(platform, table, where)


def _would_erase(platform: Platform, table: SourceTable, where: str) -> Erased:
    with platform.postgres.connect() as connection:
        connection.execute("set transaction isolation level repeatable read read only")
        table = effective(connection, table)
        predicate = predicate_of(table, where)
        check_erasable(connection, table)
        hot = count(connection, table.relation, predicate.postgres)
        undo, rejected = count_rest(connection, table, predicate)
        copies = other_copies(platform, connection, table, predicate)
        lines = count_unsearched_lines(connection, table, predicate)
    with platform.lake.session() as session:
        query = sql.SQL("select count(*) from {} where {}").format(
            sql.Identifier(table.name), predicate.duckdb
        )
        seen = int(session.sql(query.as_string()).fetchall()[0][0])
    return Erased(
        table.name, predicate.sha256, True, hot, seen - hot, undo, rejected, (), (), copies, lines
    )


def _open(connection: Connection, table: SourceTable, predicate: Predicate, keep_text: bool) -> int:
    """Return the number of the unfinished erasure, or of a new one."""
    ((number,),) = connection.execute(
        "insert into lakebed.erasure (table_name, predicate_sha256, predicate) values (%s, %s, %s)"
        " on conflict (table_name, predicate_sha256) where finished_at is null"
        " do update set predicate = coalesce(excluded.predicate, erasure.predicate)"
        " returning erasure_id",
        [table.name, predicate.sha256, predicate.text if keep_text else None],
    ).fetchall()
    return int(number)


def _erase_everywhere(
    platform: Platform,
    connection: Connection,
    table: SourceTable,
    predicate: Predicate,
    number: int,
    on_step: OnEraseStep,
) -> list[str]:
    """Erase in partitions and in the rest until one snapshot shows no match; return the failures.

    A partition that failed keeps all its rows, so that no older version of a row reappears.
    """
    done: dict[str, int] = {}
    failed: dict[str, str] = {}
    for _ in range(platform.settings.patience.erase_passes):
        try:
            due = erase_rest(
                connection,
                table,
                predicate,
                number,
                done,
                failed,
                seconds=platform.settings.patience.for_movers,
            )
        except TieringError as error:
            return [*failed.values(), str(error)]
        if not due:
            return list(failed.values())
        for window in due:
            try:
                erased = _erase_in(platform, connection, table, window, predicate, number, on_step)
            except TieringError as error:
                failed[window.key] = str(error)
            else:
                done[window.key] = erased.generation
    keys = ", ".join(window.key for window in due)
    return [*failed.values(), f"{table.name} {keys}: other sessions keep adding rows that match"]


def _has_lake_copies(connection: Connection, table: SourceTable) -> bool:
    ((there,),) = connection.execute(
        "select exists (select from lakebed.lake_copy"
        " where table_name = %s and removed_at is null)",
        [table.name],
    ).fetchall()
    return bool(there)


def _erase_in(
    platform: Platform,
    connection: Connection,
    table: SourceTable,
    window: Window,
    predicate: Predicate,
    number: int,
    on_step: OnEraseStep,
) -> ErasedPartition:
    """Erase in one partition; wait for a mover that is at work there, but not for ever."""
    patience = platform.settings.patience
    until = time.monotonic() + patience.for_movers
    while True:
        try:
            done, _ = in_transaction(
                platform.lake,
                table,
                window,
                lambda partition: erase_partition(partition, predicate, number, on_step),
                on_step=on_step,
                attempts=patience.attempts,
            )
            return done
        except PartitionBusyError:
            if time.monotonic() > until:
                raise
            let_mover_end(connection, move_lock(table.name, window))


def _at_work(platform: Platform, connection: Connection, table: SourceTable) -> list[str]:
    """Wait for the movers that may have seen what was erased; say which of them have not ended."""
    return [
        f"{table.name}: {mover} began before, and its file may hold what was erased"
        for mover in let_older_end(
            connection, platform.lake.files, table, platform.settings.patience.for_movers
        )
    ]


def _renew_catalog(platform: Platform) -> list[str]:
    """Write the catalog file without the files that go; say so where that cannot be had.

    They go all the same: an erasure is for those whose rows they hold.
    """
    try:
        write_catalog(platform)
    except (duckdb.Error, LakeFileError, OSError) as error:
        why = platform.lake.redact(str(error))
        return [f"the catalog file, which may name files that are gone: {why}"]
    return []


def _destroy(
    platform: Platform,
    connection: Connection,
    table: SourceTable,
    on_step: OnEraseStep,
) -> list[str]:
    """Destroy unnamed files of any age; return those in partitions that are being written."""
    files, patience = platform.lake.files, platform.settings.patience
    until = time.monotonic() + patience.for_movers
    left: set[str] | None = None
    while left is None or (left and time.monotonic() < until):
        now = {
            str(path)
            for path in destroy_nameless(connection, files, table, patience.for_readers, on_step)
        }
        left = now if left is None else left & now  # newer files belong to newer writers
    return [f"{path}: a running move may still write erased rows there" for path in sorted(left)]


def _report(
    platform: Platform,
    connection: Connection,
    table: SourceTable,
    predicate: Predicate,
    number: int,
    failed: list[str],
) -> Erased:
    ((hot, cold, undo, rejected, files),) = connection.execute(
        "select hot_rows, cold_rows, undo_rows, rejected_rows, files from lakebed.erasure"
        " where erasure_id = %s",
        [number],
    ).fetchall()
    return Erased(
        table.name,
        predicate.sha256,
        False,
        hot,
        cold,
        undo,
        rejected,
        tuple(files),
        tuple(failed),
        other_copies(platform, connection, table, predicate),
        count_unsearched_lines(connection, table, predicate),
    )
