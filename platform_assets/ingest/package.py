"""Describe what one load commits apart from rows: the items read, their cursors and windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

import polars as pl

from lakebed.ingest.boundary import Boundary
from lakebed.ingest.sources.reader import Reader, SourceItem
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable
from lakebed.store.rejects import Reject


@dataclass
class FileRead:
    """What was read of one item. cursor_ties: how many of its rows have cursor_max.

    sha256: of the whole file, kept where the file may grow.  rows_seen: with those that were
    passed over.  rows_told: how many there are, as the item itself says.  first_reject: the first
    row of it that broke the contract.  boundary: the rows that the next load must know again.
    again: whether an earlier version was read, and this one from its beginning.  left_out: rows
    that the reader did not give, being older than asked for.  last_line: what is wrong with the
    last line that was read, where it is not a row.
    """

    file: SourceItem
    rows_read: int = 0
    cursor_max: Any = None
    cursor_ties: int = 0
    sha256: str | None = None
    rows_seen: int = 0
    rows_expected: int | None = None
    rejected: int = 0
    first_reject: Reject | None = None
    boundary: Boundary | None = None
    again: bool = False
    left_out: int = 0
    last_line: str | None = None


@dataclass
class Package:
    """Everything that one transaction commits, except the rows themselves.

    windows: the partitions that the rows belong to; empty for a table without time.  window: the
    one that is replaced by a load by window.  again: whether all items are read again, whatever the
    ledger says.  seen: the last loads of the tables that this one is related to, before any item
    was read.
    """

    load_id: str
    table: SourceTable
    started_at: datetime
    cursor_from: Any
    reader: Reader
    files: list[FileRead] = field(default_factory=list)
    windows: set[Window] = field(default_factory=set)
    window: Window | None = None
    again: bool = False
    seen: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def rows_read(self) -> int:
        """How many rows were read."""
        return sum(read.rows_read for read in self.files)

    @property
    def rows_expected(self) -> int | None:
        """How many rows the items say that they have; None where one does not say."""
        expected = [read.rows_expected for read in self.files]
        return None if None in expected else sum(rows for rows in expected if rows is not None)

    @property
    def rejected(self) -> int:
        """How many of them broke the contract."""
        return sum(read.rejected for read in self.files)

    @property
    def bytes(self) -> int:
        """The size of the items in the source."""
        return sum(read.file.bytes for read in self.files)

    @property
    def cursor_to(self) -> Any:
        """The greatest cursor that was read, or the one from before."""
        found = [self.cursor_from, *(read.cursor_max for read in self.files)]
        return max((value for value in found if value is not None), default=None)


def format_cursor(value: Any) -> str | None:
    """Return the text that the ledger keeps of a cursor's value."""
    if value is None:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def parse_cursor(table: SourceTable, text: str | None) -> Any:
    """Return the value that `format_cursor` wrote, in the type of the table's cursor column."""
    if text is None or table.cursor is None:
        return None
    dtype = table.column(table.cursor).polars
    if isinstance(dtype, pl.Datetime):
        return datetime.fromisoformat(text)
    if dtype == pl.Date:
        return date.fromisoformat(text)
    if dtype == pl.Time:
        return time.fromisoformat(text)
    return pl.Series([text]).cast(dtype)[0]
