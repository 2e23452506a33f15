"""Housekeeping: remove what has expired, and create the partition tables that are needed soon.

    expire     cold partitions past their retention
    tables     create missing and upcoming partition tables; vacuum emptied ones, drop by policy
    copies     lake copies beyond the number that their table keeps
    catalog    rewritten, so that a client that opens it finds no file that is about to go
    sweep      superseded generations, orphans and unfinished files, after a grace period

Each step is a transaction of its own, or several; a killed run ends the same when it is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import duckdb

from lakebed.errors import TieringError
from lakebed.resources.lake_files import LakeFileError
from lakebed.resources.postgres import Connection, LockWaitError
from lakebed.schema.ddl import (
    DriftError,
    ensure_partition_tables,
    ensure_upcoming_partition_tables,
    relation_exists,
)
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnHousekeepStep
from lakebed.spec.table import SourceTable
from lakebed.store.grain_mismatch import check_grain, query_on
from lakebed.store.platform import Platform
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.lake_copies import expire_lake_copies
from lakebed.tiering.partition_tables import PartitionTableAction, gaps, partition_tables_of, tidy
from lakebed.tiering.retention import Expired, expire, expired
from lakebed.tiering.superseded import KeptFile, give_up_superseded
from lakebed.tiering.sweep import Swept, remove_nameless


@dataclass
class Housekept:
    """What housekeeping did, or would do, and what it left and why.

    made: how many partition tables, in gaps and of the near future.
    gaps: windows between the first partition table and the last that accept no rows, as table and
    partition key.
    failed: what did not happen, and why.
    """

    dry_run: bool
    expired: list[Expired] = field(default_factory=list)
    partition_tables: list[PartitionTableAction] = field(default_factory=list)
    made: int = 0
    gaps: list[str] = field(default_factory=list)
    swept: list[Swept] = field(default_factory=list)
    spared: list[KeptFile] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain lists, numbers and texts."""
        return asdict(self)


def housekeep(
    platform: Platform,
    tables: Sequence[SourceTable] | None = None,
    *,
    dry_run: bool = False,
    on_step: OnHousekeepStep = lambda step: None,
) -> Housekept:
    """Expire, create, vacuum and sweep for some tables, or for all tables and models.

    A failure of one partition or table goes into the report; the rest is done.
    Raises PostgresUnavailableError, ForeignLakeError.
    """
    platform.lake.owner.check()
    done = Housekept(dry_run)
    now, grace = platform.clock.now(), platform.settings.file_grace
    chosen = platform.tables if tables is None else tables
    with platform.postgres.connect(autocommit=True) as connection:
        for table in chosen:
            if not dry_run:
                expire_lake_copies(connection, table)
            if table.partitioning is None or not relation_exists(connection, table):
                continue
            if table.tiering is not None:
                _expire(platform, connection, table, now, done, on_step)
            if not table.adopted:
                _partition_tables(connection, table, now, done, on_step)
        if not dry_run:
            try:
                write_catalog(platform)
            except (duckdb.Error, LakeFileError) as error:
                why = platform.lake.redact(str(error))
                done.failed.append(f"the catalog file, so that no file was removed: {why}")
                return done
        unread: set[str] = set()
        for name in [None] if tables is None else [table.name for table in tables]:
            going, spared = give_up_superseded(connection, grace, name, dry_run=dry_run)
            on_step("given up")
            done.spared += spared
            unread.update(file.path for file in going)
            if dry_run:
                done.swept += going
        if not dry_run:
            platform.lake.owner.advance()
        done.swept += remove_nameless(
            connection,
            platform.lake.files,
            chosen,
            grace,
            unread=unread,
            models=tables is None,
            dry_run=dry_run,
            readers_may_end=platform.settings.patience.for_readers,
            on_step=on_step,
        )
    return done


def _expire(
    platform: Platform,
    connection: Connection,
    table: SourceTable,
    now: datetime,
    done: Housekept,
    on_step: OnHousekeepStep,
) -> None:
    for window in expired(connection, table, now):
        try:
            if done.dry_run:
                done.expired.append(_would_expire(connection, table, window))
            else:
                done.expired.append(expire(platform.lake, table, window, on_step=on_step))
        except TieringError as error:
            done.failed.append(str(error))


def _would_expire(connection: Connection, table: SourceTable, window: Window) -> Expired:
    check_grain(query_on(connection), table, window)
    ((rows,),) = connection.execute(
        "select rows from lakebed.cold_file"
        " where table_name = %s and partition_key = %s and superseded_at is null",
        [table.name, window.key],
    ).fetchall()
    return Expired(table.name, window.key, rows, 0)


def _partition_tables(
    connection: Connection,
    table: SourceTable,
    now: datetime,
    done: Housekept,
    on_step: OnHousekeepStep,
) -> None:
    try:
        if not done.dry_run:
            done.made += ensure_upcoming_partition_tables(connection, table, now)
        if table.tiering is not None:
            done.partition_tables += tidy(
                connection, table, now, dry_run=done.dry_run, on_step=on_step
            )
    except (DriftError, LockWaitError) as error:
        done.failed.append(f"{table.name}: {error}")
    cold = {
        key
        for (key,) in connection.execute(
            "select distinct partition_key from lakebed.cold_file where table_name = %s",
            [table.name],
        )
    }
    found = gaps(partition_tables_of(connection, table), list(table.windows(now)), cold)
    if not done.dry_run:
        found = [window for window in found if not _fill(connection, table, window, done)]
    done.gaps += [f"{table.name} {window.key}" for window in found]


def _fill(connection: Connection, table: SourceTable, window: Window, done: Housekept) -> bool:
    """Create the partition table of a gap; return whether it exists now."""
    try:
        made = ensure_partition_tables(connection, table, [window])
    except (DriftError, LockWaitError) as error:
        done.failed.append(f"{table.name} {window.key}: {error}")
        return False
    done.made += made
    return made > 0
