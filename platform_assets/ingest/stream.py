"""Run a load as a stream: read, check and extract rows while earlier ones are copied.

reader -> contract -> dlt package (Parquet)        in the caller's thread
                      -> encode -> COPY            in a second thread, in the load's transaction

The first packages are small, so that copying begins soon; the later ones are bounded, so that
memory does not grow with the source.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from lakebed.ingest.as_read import AsRead
from lakebed.ingest.contract import Checked, check, columns_to_read, expected_types, to_arrow
from lakebed.ingest.incremental import Pending
from lakebed.ingest.package import FileRead, Package
from lakebed.ingest.report import Commit
from lakebed.ingest.resume_point import ResumePoint, canonical_json
from lakebed.ingest.row_violations import check_constraints
from lakebed.ingest.sources.isolation import isolated
from lakebed.ingest.sources.reader import Batch, Reader, SourceError, SourceItem
from lakebed.ingest.transaction import LoadTransaction
from lakebed.ingest.unfinished import Seen
from lakebed.ingest.windows import WindowFilter
from lakebed.pgcopy.background import BackgroundWorker
from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.postgres import Connection, Postgres
from lakebed.resources.spool import Spool
from lakebed.schema.ddl import ensure_partition_tables
from lakebed.spec.partitions import Grain, Window
from lakebed.spec.steps import LoadStep, OnLoadStep
from lakebed.spec.table import SourceTable
from lakebed.store.rejects import Reject, RejectKind

PACKAGE_ROWS = 524_288
FIRST_PACKAGE_ROWS = 131_072
PACKAGE_BYTES = 64 * 2**20
REJECTS_HELD = 10_000
SLOW_ROWS_PER_SECOND = 25_000
"""A load reads a source slower than this to its end before the transaction begins. Copying in
parallel would save little and keep a transaction open for as long as the source takes."""


_EVERY = {
    Grain.HOUR: "1h",
    Grain.DAY: "1d",
    Grain.WEEK: "1w",
    Grain.MONTH: "1mo",
    Grain.YEAR: "1y",
}


class Stream:
    """One load of some pending items. Used once."""

    def __init__(
        self,
        folder: Path,
        lake: LakeFiles,
        postgres: Postgres,
        table: SourceTable,
        reader: Reader,
        *,
        started_at: datetime,
        cursor: Any,
        on_rows: Callable[[int], None],
        on_step: OnLoadStep,
        window: Window | None = None,
        checks_constraints: bool = False,
        again: bool = False,
        seen: Seen | None = None,
    ) -> None:
        """Prepare a load that extracts into its own folder.

        Args:
            folder: Where the folder of the load is created.
            lake: Where the cold files are.
            postgres: The server.
            table: The table.
            reader: Reads the source.
            started_at: The start of the load.
            cursor: The greatest cursor of earlier loads.
            on_rows: Called with the number of rows of each batch.
            on_step: Called after each step.
            window: The window that a load by window replaces.
            checks_constraints: Whether to find rows that PostgreSQL refuses before loading any.
            again: Whether the load reads the whole source, whatever the ledger has.
            seen: The last loads of related tables when this load began.
        """
        self._spool = Spool(folder)
        self.lake = lake
        self.postgres = postgres
        self.table = table
        self.reader = reader
        self.on_rows = on_rows
        self.on_step = on_step
        self.checks_constraints = checks_constraints
        self.package = Package(
            uuid.uuid4().hex,
            table,
            started_at,
            cursor,
            reader,
            window=window,
            again=again,
            seen=seen or {},
        )
        self._started = time.monotonic()
        self._rows_read = 0
        self._rejects: list[Reject] = []
        self._waiting: deque[Path] = deque()
        self._partition_tables: set[Window] = set()
        self._noted: set[str] = set()
        self._has_begun = False
        self.reader.expect(expected_types(table))

    def run(self, connection: Connection, pending: list[Pending]) -> Commit:
        """Load the items in one transaction. The connection must be in autocommit mode.

        Raises SourceError for an item that cannot be loaded, LoadConflictError, LockWaitError.
        """
        # dlt takes more than a second to import; only a load that has work pays for it.
        from lakebed.resources.dlt_pipelines import extract_packages

        with ExitStack() as stack:
            place = self._spool.take("")
            stack.callback(place.release)
            self._folder = place.path
            self._as_read = AsRead(self._folder / "as_read")
            packages = extract_packages(
                self.table.name, self._folder, self._rows(pending), self._is_full
            )
            self._connection, self._stack = connection, stack
            for parquet in packages:
                self._note("extracted")
                self._waiting.append(parquet)
                if not (self.checks_constraints or self._is_slow()):
                    self._send()
            self._note("extracted")
            self._send()
            self._worker.join()
            counts = self._transaction.finish()
        self.on_step("committed")
        return Commit(self.package, counts)

    def _begin(self) -> None:
        """Begin the transaction, in which a second thread copies the packages."""
        self._stack.enter_context(self._connection.transaction())
        self._worker = self._stack.enter_context(BackgroundWorker("lakebed_copy"))
        self._transaction = LoadTransaction(
            self._connection, self.package, self.lake, self._as_read, self.on_step
        )
        self._transaction.begin()
        self._has_begun = True

    def _send(self) -> None:
        """Pass extracted rows and rejects to the transaction."""
        missing = self.package.windows - self._partition_tables
        if missing:
            with self.postgres.connect(autocommit=True) as other:
                ensure_partition_tables(other, self.table, missing)
            self._partition_tables |= missing
        if not self._has_begun:
            self._begin()
        while self._waiting:
            self._worker.submit(self._transaction.copy, self._waiting.popleft())
        if self._rejects:
            self._worker.submit(self._transaction.quarantine, self._rejects)
            self._rejects = []

    def _note(self, step: LoadStep) -> None:
        """Report a step once."""
        if step not in self._noted:
            self._noted.add(step)
            self.on_step(step)

    def _is_full(self, rows: int, size: int) -> bool:
        limit = FIRST_PACKAGE_ROWS if not self._has_begun else PACKAGE_ROWS
        return rows >= limit or size >= PACKAGE_BYTES

    def _is_slow(self) -> bool:
        return self._rows_read < SLOW_ROWS_PER_SECOND * (time.monotonic() - self._started)

    def _rows(self, pending: list[Pending]) -> Iterator[pa.Table]:
        """Yield the good rows of all items, as they go over the wire."""
        for item in pending:
            start = self._start(item)
            read = self._read_of(item, start)
            columns = columns_to_read(self.table, item.file, self.reader.columns(item.file))
            good = map(partial(self._good_rows, read, start), self._batches(item, start, columns))
            # A loop would hold each batch while the next one is read.
            yield from filter(lambda rows: rows is not None, good)
            if self.table.require_source.resumes == "bytes" and self.table.changed_files == "grown":
                read.sha256 = self.reader.digest(item.file, item.file.bytes)  # known by now
            self.reader.check_unchanged(item.file)
            start.verify_already_loaded()
            self._check_count(read)
            self._check_end(read)
            self._judge(read)
            self.package.files.append(read)

    def good_rows(
        self, pending: Sequence[Pending]
    ) -> Iterator[tuple[SourceItem, pl.DataFrame, pl.Series]]:
        """Yield the good rows of the items with their numbers, batch by batch; load nothing."""
        for item in pending:
            start = self._start(item)
            read = self._read_of(item, start)
            columns = columns_to_read(self.table, item.file, self.reader.columns(item.file))
            for whole in self._batches(item, start, columns):
                checked = check(self.table, item.file, start.filter(whole, read))
                if checked.good.height:
                    yield item.file, checked.good, checked.numbers

    def _good_rows(
        self, read: FileRead, start: ResumePoint | WindowFilter, whole: Batch
    ) -> pa.Table | None:
        """Return the rows of a batch that are new and good, as they go over the wire."""
        read.left_out += whole.left_out
        read.rows_seen += whole.frame.height + len(whole.malformed) + whole.left_out
        read.last_line = _last_line(whole, read)
        with isolated(read.file.path, "judging its rows"):
            rest = start.filter(whole, read)
        if not (rest.frame.height or rest.malformed) and _has_rows(whole):
            return None  # all of them are loaded already; a source may have many such batches
        good = self._checked(read, rest, start.waiting).good
        if not good.height:
            return None
        self.package.windows |= self._windows_of(good)
        with isolated(read.file.path, "encoding its rows"):
            return to_arrow(self.table, self._sorted(good))

    def _batches(
        self, item: Pending, start: ResumePoint | WindowFilter, columns: list[str]
    ) -> Iterator[Batch]:
        if start.beginning is not None:
            batches = self.reader.batches_after(item.file, start.beginning, columns=columns)
        else:
            batches = self.reader.batches(item.file, columns=columns, newer=start.newer)
        # A batch of which rows are skipped or read again must have the item's own values.
        whole = not self.checks_constraints and self.package.window is None and item.before is None
        return batches if whole else map(Batch.as_it_is, batches)

    def _sorted(self, good: pl.DataFrame) -> pl.DataFrame:
        """Sort rows by the key, whose index then grows faster; keep the order of equal keys."""
        key = [name for name in self.table.key if name in good.columns]  # without surrogates
        return good.sort(key, maintain_order=True) if key else good

    def _start(self, item: Pending) -> ResumePoint | WindowFilter:
        if self.package.window is not None:
            return WindowFilter(self.table, self.package.window)
        return ResumePoint(self.table, self.reader, item)

    def _read_of(self, item: Pending, start: ResumePoint | WindowFilter) -> FileRead:
        return FileRead(
            item.file,
            cursor_max=start.value,
            boundary=start.boundary,
            cursor_ties=item.before.ties if item.before else 0,
            again=item.again,
        )

    def _checked(self, read: FileRead, batch: Batch, waiting: frozenset[str]) -> Checked:
        """Check a batch, count its rows and keep its rejects.

        Args:
            read: The item's counts.
            batch: The rows.
            waiting: Rows that are in quarantine already and are read again.

        Raises:
            SourceError: Every row of the batch is bad.
        """
        with isolated(read.file.path, "judging its rows"):
            checked = check(self.table, read.file, batch)
            if checked.rejects and batch.plain is not None:
                # Keep rejects with the source's own values.
                checked = check(self.table, read.file, batch.as_it_is())
        if self.checks_constraints:
            windows = self._windows_of(checked.good)
            checked = check_constraints(
                self.postgres, self.table, read.file, batch, checked, windows, self._folder
            )
        if self.table.rejects_missing_parents:
            self._as_read.keep(read.file, batch)
        fresh = [
            r
            for r in checked.rejects
            if not waiting or canonical_json(json.loads(r.row)) not in waiting
        ]
        rows = batch.frame.height + len(batch.malformed) - len(checked.rejects) + len(fresh)
        checked = replace(checked, rejects=fresh)
        has_more = self.package.window is not None and read.rows_seen > read.rows_read + rows
        all_bad = rows and len(checked.rejects) == rows
        if all_bad and not has_more and self.table.reject_share < 1:
            raise SourceError(
                read.file.path,
                f"all {rows} rows of a batch break the contract; the first: "
                f"{checked.rejects[0].message}",
                waits=_waits(checked.rejects[0]),
            )
        if checked.rejects:
            read.first_reject = read.first_reject or checked.rejects[0]
            read.rejected += len(checked.rejects)
            self._rejects += checked.rejects
            if len(self._rejects) > REJECTS_HELD and not self.checks_constraints:
                self._send()
        read.rows_read += rows
        self._rows_read += rows
        self.on_rows(rows)
        return checked

    def _check_count(self, read: FileRead) -> None:
        """Check that the load saw as many rows as the item itself counts."""
        read.rows_expected = self.reader.count(read.file)
        if read.rows_expected is not None and read.rows_expected != read.rows_seen:
            raise SourceError(
                read.file.path,
                f"its own count is {read.rows_expected} rows, but it has {read.rows_seen}; deliver "
                "it again",
            )

    def _check_end(self, read: FileRead) -> None:
        """Check that an item was not cut off, where a load would delete its missing rows."""
        if not self.table.loads_whole and self.package.window is None:
            return
        doubt = read.last_line or self.reader.doubt_of_end(read.file)
        if doubt is not None:
            raise SourceError(
                read.file.path,
                f"it may have been cut off ({doubt}), and the load would delete its missing rows; "
                "nothing was loaded. Deliver the whole file again",
            )

    def _judge(self, read: FileRead) -> None:
        rows = read.rows_read if self.package.window is None else read.rows_seen
        if read.rejected <= self.table.reject_share * rows:
            return
        first = read.first_reject
        assert first is not None
        raise SourceError(
            read.file.path,
            f"{read.rejected} of {rows} rows break the contract, more than the "
            f"{self.table.reject_share:.1%} that {self.table.name} allows; the first, row "
            f"{first.row_number}: {first.message}. Correct the file, or raise reject_share",
            waits=_waits(first),
        )

    def _windows_of(self, good: pl.DataFrame) -> set[Window]:
        by = self.table.partitioning
        if by is None:
            return set()
        moments = good[by.column].dt.truncate(_EVERY[by.grain]).unique()
        return {self.table.window(moment) for moment in moments}


def _waits(reject: Reject) -> bool:
    return reject.kind is RejectKind.MISSING_PARENT


def _last_line(batch: Batch, read: FileRead) -> str | None:
    """Describe what is wrong with the last line so far, or return None."""
    if not _has_rows(batch):
        return read.last_line
    if not batch.malformed:
        return None
    number, problem, _ = batch.malformed[-1]
    return f"its last line: {problem}" if number == read.rows_seen else None


def _has_rows(batch: Batch) -> bool:
    return batch.frame.height + batch.left_out + len(batch.malformed) > 0
