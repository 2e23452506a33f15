"""The load of one table: which files are new, through the contract and dlt, into one transaction.

What was loaded is told by the ledger in PostgreSQL alone: a file at one version is loaded once. A
file that cannot be loaded is left out and named in the report; the others go on without it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pyarrow as pa
from psycopg import sql

from platform_assets.catalog import SourceTable, TableError
from platform_assets.ingest.contract import check, columns_to_read, to_arrow
from platform_assets.ingest.incremental import (
    Pending,
    Refused,
    Start,
    last_cursor,
    pending_files,
)
from platform_assets.ingest.sources.reader import Reader, SourceError
from platform_assets.ingest.sources.readers import reader_of
from platform_assets.ingest.transaction import (
    FileRead,
    Package,
    Step,
    commit_package,
    format_cursor,
)
from platform_assets.ingest.writers import Counts
from platform_assets.quality.ddl import ensure_leaves, ensure_leaves_ahead, ensure_table
from resources.clock import Clock
from resources.postgres import Connection, Postgres
from resources.settings import Settings

WAIT_FOR_OTHER_LOAD = "60s"


class LoadBusyError(RuntimeError):
    """Another load of the same table runs and did not end in time."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a load did: read = inserted + updated + unchanged + superseded + rejected.

    load_id is None where there was nothing new. bytes: of the source files. seconds: whole time.
    """

    table: str
    load_id: str | None = None
    files: int = 0
    bytes: int = 0
    rows_read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    rejected: int = 0
    refused: tuple[Refused, ...] = ()
    cursor_from: str | None = None
    cursor_to: str | None = None
    seconds: float = 0.0

    @property
    def balanced(self) -> bool:
        """Whether every row that was read is accounted for."""
        placed = self.inserted + self.updated + self.unchanged + self.superseded + self.rejected
        return self.rows_read == placed


def load_table(
    settings: Settings,
    postgres: Postgres,
    clock: Clock,
    table: SourceTable,
    *,
    on_rows: Callable[[int], None] = lambda rows: None,
    on_step: Step = lambda step: None,
) -> LoadReport:
    """Load what is new in a table's source. on_rows is told the rows of each batch.

    Raises LoadBusyError, DriftError, LoadConflictError, TableError, PostgresUnavailableError; a
    fault of a single file is in the report.
    """
    if table.source is None:
        raise TableError(f"table {table.name}: it has no source; others write it, Lakebed tiers it")
    started = time.monotonic()
    with postgres.connect(autocommit=True) as connection, _alone(connection, table):
        ensure_table(connection, table)
        ensure_leaves_ahead(connection, table, clock.now())
        reader = reader_of(table.source, settings)
        pending, refused = pending_files(connection, table, reader.find())
        pending, more = _readable(table, reader, pending)
        refused += more
        cursor = last_cursor(connection, table)
        while pending:
            load = _Load(
                settings, postgres, clock, table, reader, cursor, pending, on_rows, on_step
            )
            try:
                package, counts = load.run(connection)
            except SourceError as error:
                refused.append(Refused(error.path, error.problem))
                pending = [item for item in pending if item.file.path != error.path]
                continue
            _analyze(connection, table)
            return _report(package, counts, refused, time.monotonic() - started)
        return LoadReport(
            table=table.name,
            refused=tuple(refused),
            cursor_from=format_cursor(cursor),
            cursor_to=format_cursor(cursor),
            seconds=time.monotonic() - started,
        )


class _Load:
    """One package: read, check, extract through dlt, commit."""

    def __init__(
        self,
        settings: Settings,
        postgres: Postgres,
        clock: Clock,
        table: SourceTable,
        reader: Reader,
        cursor: Any,
        pending: list[Pending],
        on_rows: Callable[[int], None],
        on_step: Step,
    ) -> None:
        self.folder = settings.home / "dlt" / table.name
        self.postgres = postgres
        self.table = table
        self.reader = reader
        self.pending = pending
        self.on_rows = on_rows
        self.on_step = on_step
        self.package = Package(uuid.uuid4().hex, table, clock.now(), cursor)

    def run(self, connection: Connection) -> tuple[Package, Counts]:
        # dlt takes more than a second to import; only a load that has work pays for it.
        from resources.dlt_pipelines import run_package

        counts: list[Counts] = []

        def commit(parquet: Path | None) -> None:
            self.on_step("extracted")
            ensure_leaves(connection, self.table, self.package.windows)
            counts.append(commit_package(connection, self.package, parquet, on_step=self.on_step))

        run_package(self.table.name, self.folder, self._rows, commit)
        if not counts:
            # There was no good row: the files and the rejects are committed all the same.
            commit(None)
        return self.package, counts[0]

    def _rows(self) -> Iterator[pa.Table]:
        for item in self.pending:
            start = Start(self.table, self.reader, item)
            before = item.before
            read = FileRead(
                item.file,
                cursor_max=start.value,
                cursor_ties=before.ties if before else 0,
                sha256=self.reader.digest(item.file, item.file.bytes)
                if self.table.changed_files == "grown" and self.table.sourced.resumes == "bytes"
                else None,
            )
            rejected = 0
            for good, rejects in self._batches(item, read, start):
                rejected += rejects
                if good.height:
                    self._note_windows(good)
                    yield to_arrow(self.table, good)
            self.reader.check_unchanged(item.file)
            start.check_the_past()
            self._judge(read, rejected)
            self.package.files.append(read)

    def _batches(
        self, item: Pending, read: FileRead, start: Start
    ) -> Iterator[tuple[pl.DataFrame, int]]:
        """Yield checked batches of one file with the number of their rejects."""
        columns = columns_to_read(self.table, item.file, self.reader.columns(item.file))
        for whole in self.reader.batches(item.file, columns=columns, newer=start.newer):
            batch = start.cut(whole, read)
            checked = check(self.table, item.file, batch)
            self.package.rejects += checked.rejects
            rows = batch.frame.height + len(batch.malformed)
            if rows and len(checked.rejects) == rows and self.table.reject_share < 1:
                raise SourceError(item.file.path, _all_bad(checked.rejects[0].reason, rows))
            read.rows_read += rows
            self.on_rows(rows)
            yield checked.good, len(checked.rejects)

    def _judge(self, read: FileRead, rejected: int) -> None:
        if rejected > self.table.reject_share * read.rows_read:
            first = next(r for r in self.package.rejects if r.source_file == read.file.path)
            raise SourceError(
                read.file.path,
                f"{rejected} of {read.rows_read} rows break the contract, more than the "
                f"{self.table.reject_share:.1%} that {self.table.name} allows; the first, row "
                f"{first.row_number}: {first.reason}. Mend the file, or raise reject_share",
            )

    def _note_windows(self, good: pl.DataFrame) -> None:
        by = self.table.partitioning
        if by is None:
            return
        moments = good[by.column].dt.truncate("1h").unique()
        self.package.windows |= {self.table.window(moment) for moment in moments}


@contextmanager
def _alone(connection: Connection, table: SourceTable) -> Iterator[None]:
    """Hold the table's load lock; wait for another load of it, but not for ever."""
    connection.execute("select set_config('lock_timeout', %s, false)", [WAIT_FOR_OTHER_LOAD])
    key = f"lakebed.load:{table.name}"
    try:
        connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [key])
    except psycopg.errors.LockNotAvailable as error:
        raise LoadBusyError(
            f"another load of {table.name} has been running for {WAIT_FOR_OTHER_LOAD}; "
            "run this one again when it has ended"
        ) from error
    connection.execute("select set_config('lock_timeout', '0', false)")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", [key])


def _readable(
    table: SourceTable, reader: Reader, pending: list[Pending]
) -> tuple[list[Pending], list[Refused]]:
    """Look at the head of each file, so that a broken one is found before anything is read."""
    readable, refused = [], []
    for item in pending:
        try:
            columns_to_read(table, item.file, reader.columns(item.file))
        except SourceError as error:
            refused.append(Refused(error.path, error.problem))
        else:
            readable.append(item)
    return readable, refused


def _analyze(connection: Connection, table: SourceTable) -> None:
    connection.execute(sql.SQL("analyze {}").format(sql.Identifier("public", table.name)))


def _all_bad(reason: str, rows: int) -> str:
    return f"all {rows} rows of a batch break the contract; the first: {reason}"


def _report(package: Package, counts: Counts, refused: list[Refused], seconds: float) -> LoadReport:
    return LoadReport(
        table=package.table.name,
        load_id=package.load_id,
        files=len(package.files),
        bytes=sum(read.file.bytes for read in package.files),
        rows_read=sum(read.rows_read for read in package.files),
        inserted=counts.inserted,
        updated=counts.updated,
        unchanged=counts.unchanged,
        superseded=counts.superseded,
        rejected=len(package.rejects),
        refused=tuple(refused),
        cursor_from=format_cursor(package.cursor_from),
        cursor_to=format_cursor(package.cursor_to),
        seconds=seconds,
    )
