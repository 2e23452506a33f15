"""Where reading of an item begins: at the first row, or beyond what is loaded of one that grew."""

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
    """Where reading begins: at the first row, or beyond what is loaded of an item that has changed.

    A CSV file must begin with the very bytes that were loaded; its rows go on after theirs. A
    Parquet file is written anew when it grows: its rows go on beyond the cursor, and there must be
    as many before that as were loaded. A source that is queried is asked for rows from the cursor
    on, less the lag: a merge takes them all, an append those it does not know (boundary.py).
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
        """What is loaded of a file that only grows at its end; None: it is read from the top.

        To a row that was rejected for a quote that was open at the end, what follows may belong:
        only reading from the top can tell.
        """
        if self.before is None or self.by_cursor or self.before.rejected:
            return None
        return Beginning(self.before.size, self.before.rows)

    @cached_property
    def waiting(self) -> frozenset[str]:
        """The rows in quarantine that a query answers with again, each as `told` has it."""
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
        """Whether rows up to a cursor are passed over."""
        return self.by_cursor and self.table.cursor is not None and self.value is not None

    def filter(self, batch: Batch, read: FileRead) -> Batch:
        """Return the rows beyond the start, and note their greatest cursor.

        Rows whose cursor cannot be read are kept: the contract will say what is wrong with them.
        Those that quarantine has already are left out. Raises SourceError for a cursor that is no
        column at all.
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
        """Return the greatest cursor of a row that keeps the contract; None where there is none.

        A source is asked for rows from there on: a row with an absurd time would hide all others.
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
        """Tell which rows without a readable cursor stand in quarantine, as they are."""
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
    """Return what a reader is told of a column's least value, by the source's own name.

    None where the column is shaped on its way: it has another order in the source.
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
                "its packed bytes do not begin as they did when it was loaded: it was changed, or "
                "packed anew, and only what was appended to the packed file can be told (gzip and "
                "zstd files can be joined). Deliver new rows in a new file beside it, or use merge "
                "with changed_files='reload'",
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
