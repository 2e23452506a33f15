"""Decide where a load starts to read an item: at the first row, or after the rows loaded before."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from typing import Any

import polars as pl

from lakebed.ingest.boundary import Boundary
from lakebed.ingest.contract import check
from lakebed.ingest.incremental import Loaded, Pending
from lakebed.ingest.package import FileRead, parse_cursor
from lakebed.ingest.quarantine import encode
from lakebed.ingest.sources.reader import Batch, Beginning, Reader, SourceError, SourceItem
from lakebed.ingest.sources.streams import codec_of
from lakebed.ingest.transform import transform
from lakebed.spec.table import SourceTable
from lakebed.spec.transforms import PLAIN


class ResumePoint:
    """The place where a load starts to read an item: its first row, or the first new one.

    A CSV file must begin with the bytes that were loaded; the load reads the bytes after them. A
    Parquet file is rewritten when it grows: the load reads rows beyond the cursor, and the number
    of earlier rows must be unchanged. A load queries a database or an API for rows from the cursor
    on, less the lag: a merge takes all of them, an append the unknown ones (boundary.py).
    """

    def __init__(self, table: SourceTable, reader: Reader, item: Pending) -> None:
        self.table = table
        self.item = item
        self.moves_cursor = reader.moves_cursor
        self.before = item.before
        self.by_cursor = table.require_source.resumes != "bytes" and item.before is not None
        self.value = parse_cursor(table, item.before.cursor) if item.before else None
        self.queried = table.require_source.resumes == "query"
        self.floor = None if self.value is None else table.floor_of(self.value)
        self.ties_left = item.before.ties if item.before else 0
        self.passed_over = 0
        self.unreadable = 0
        self.boundary: Boundary | None = None
        if self.queried and table.write_mode == "append" and table.cursor is not None:
            packed = item.before.boundary if item.before else None
            self.boundary = Boundary(table, item.file, packed, self.value)
        if item.before is not None and not self.by_cursor:
            _check_beginning(reader, item.file, item.before)

    @property
    def beginning(self) -> Beginning | None:
        """The loaded part of a file that only grows at its end; None to read it from the top.

        After a reject whose quote was open at the end, new lines may belong to that row. Only
        reading from the top can decide.
        """
        if self.before is None or self.by_cursor or self.before.rejected:
            return None
        return Beginning(self.before.size, self.before.rows)

    @cached_property
    def waiting(self) -> frozenset[str]:
        """The rejects that a query returns again, each as canonical JSON."""
        rows = self.before.rejected.values() if self.queried and self.before else ()
        return frozenset(map(canonical_json, rows))

    @property
    def newer(self) -> tuple[str, Any] | None:
        """The column and the value below which row groups need not be read."""
        if not self.beyond_cursor or self.table.cursor is None:
            return None
        return below(self.table, self.table.cursor, self.floor)

    @property
    def beyond_cursor(self) -> bool:
        """Whether the load skips rows up to a cursor."""
        return self.by_cursor and self.table.cursor is not None and self.value is not None

    def filter(self, batch: Batch, read: FileRead) -> Batch:
        """Return the rows beyond the start, and record their greatest cursor.

        Keep rows with an unreadable cursor, which the contract will reject, except those that are
        in quarantine already.

        Raises:
            SourceError: No cast can convert the cursor column.
        """
        self.passed_over += batch.left_out
        if self.before is not None and not self.by_cursor:
            self._check_open(batch, self.before)
            batch = _after(batch, self.before.rows)
        column = self.table.cursor
        if column is None or batch.frame.height == 0:
            return batch
        cursors = transform(self.table, self.item.file, batch.frame, column)[column].series
        if self.queried:
            newest = self._newest_of_good(batch, cursors)
            batch, cursors = self._not_loaded(batch, cursors, newest)
            cursors = cursors.filter(cursors <= newest) if newest is not None else cursors.clear()
        elif self.beyond_cursor:
            batch, cursors = self._beyond_cursor(batch, cursors)
        if self.moves_cursor:
            record_cursor(read, cursors)
        return batch

    def _check_open(self, batch: Batch, before: Loaded) -> None:
        """Make sure that no row that was rejected for its open quote has become a good one."""
        closed = batch.numbers.filter(batch.numbers.is_in(list(before.rejected)))
        if len(closed):
            raise SourceError(
                self.item.file.path,
                f"row {closed[0]} is in quarantine because its quote was not closed, and what was "
                "added closes it. Deliver it whole, and the rest, in a new file, or use merge",
            )

    def _beyond_cursor(self, batch: Batch, cursors: pl.Series) -> tuple[Batch, pl.Series]:
        keep = (cursors >= self.value).fill_null(True)
        ties = keep & (cursors == self.value).fill_null(False)
        skip = ties & (ties.cum_sum() <= self.ties_left)
        self.ties_left -= int(skip.sum())
        again = self._in_quarantine(batch, cursors.is_null())
        keep &= ~skip & ~again
        self.passed_over += int((~keep).sum())
        self.unreadable += cursors.null_count() - int(again.sum())
        return _those(batch, cursors, keep)

    def _newest_of_good(self, batch: Batch, cursors: pl.Series) -> Any:
        """Return the greatest cursor of a row that satisfies the contract, or None.

        The next load queries rows from there on: a bad row with a far-off time would hide them all.
        """
        order = cursors.arg_sort(descending=True, nulls_last=True)
        for count in (1, 100, len(order)):
            first = order.head(count)
            those = replace(batch, frame=batch.frame[first], numbers=batch.numbers[first])
            good = check(self.table, self.item.file, those).numbers
            newest = cursors.filter(batch.numbers.is_in(good.implode())).max()
            if newest is not None:
                return newest
        return None

    def _not_loaded(self, batch: Batch, cursors: pl.Series, newest: Any) -> tuple[Batch, pl.Series]:
        """Leave out rows before the floor, and of an append those that are loaded already."""
        keep = pl.Series([True]).new_from_index(0, len(cursors))
        if self.floor is not None:
            keep = (cursors >= self.floor).fill_null(True)
        if self.boundary is not None:
            batch, cursors = _those(batch, cursors, keep)
            keep = self.boundary.is_new(batch.frame, cursors, newest)
        return _those(batch, cursors, keep)

    def _in_quarantine(self, batch: Batch, unreadable: pl.Series) -> pl.Series:
        """Return which rows without a readable cursor are in quarantine unchanged."""
        known = self.before.rejected if self.before else {}
        indexes = (unreadable & batch.numbers.is_in(list(known))).arg_true()
        again = [
            index
            for index, row in zip(indexes, encode(batch.frame[indexes])[0], strict=True)
            if known[batch.numbers[index]] == row
        ]
        return pl.int_range(len(unreadable), eager=True).is_in(again)

    def verify_already_loaded(self) -> None:
        """Make sure that what was passed over is what was loaded. Raises SourceError.

        A file that was not only added to would lose rows without a word.
        """
        if (
            not self.beyond_cursor
            or self.before is None
            or self.table.require_source.resumes == "query"
        ):
            return
        loaded = self.before.rows
        if not loaded - self.unreadable <= self.passed_over <= loaded:
            raise _not_only_added_to(
                self.item.file,
                f"up to the cursor {self.before.cursor} it has {self.passed_over} rows where "
                f"{loaded} were loaded",
            )


def below(table: SourceTable, column: str, value: Any) -> tuple[str, Any] | None:
    """Return a column's least value for a reader, by the source's own name of the column.

    Return None where transforms change the column, which may have another order in the source.
    """
    how = table.transforms.get(column, PLAIN)
    return (how.column or column, value) if how.only_renames else None


def canonical_json(row: Any) -> str:
    """Return a row of the quarantine as a text, by which two of them are compared."""
    return json.dumps(row, sort_keys=True)


def record_cursor(read: FileRead, cursors: pl.Series) -> None:
    """Note the greatest cursor that was read, and how many rows have it."""
    newest = cursors.max()
    if newest is None:
        return
    ties = int((cursors == newest).sum())
    if read.cursor_max is None or newest > read.cursor_max:
        read.cursor_max, read.cursor_ties = newest, ties
    elif newest == read.cursor_max:
        read.cursor_ties += ties


def _those(batch: Batch, cursors: pl.Series, keep: pl.Series) -> tuple[Batch, pl.Series]:
    if keep.all():
        return batch, cursors
    rest = replace(batch, frame=batch.frame.filter(keep), numbers=batch.numbers.filter(keep))
    return rest, cursors.filter(keep)


def _check_beginning(reader: Reader, item: SourceItem, before: Loaded) -> None:
    if item.bytes < before.size or reader.digest(item, before.size) != before.sha256:
        if codec_of(item.path) is not None:
            raise SourceError(
                item.path,
                "its compressed bytes no longer begin with those that were loaded: it was changed "
                "or compressed again. Append new rows as a further gzip or zstd stream, deliver "
                "them in a new file, or use merge with changed_files='reload'",
            )
        raise _not_only_added_to(item, "it does not begin as it did when it was loaded")
    if not reader.ends_a_line(item, before.size):
        raise _not_only_added_to(
            item, f"row {before.rows} was loaded when its line was not yet finished"
        )


def _not_only_added_to(file: SourceItem, what: str) -> SourceError:
    return SourceError(
        file.path,
        f"{what}: it was not only added to. Deliver new rows in a new file, or use merge",
    )


def _after(batch: Batch, rows: int) -> Batch:
    keep = batch.numbers > rows
    malformed = tuple(line for line in batch.malformed if line[0] > rows)
    return replace(
        batch,
        frame=batch.frame.filter(keep),
        numbers=batch.numbers.filter(keep),
        malformed=malformed,
    )
