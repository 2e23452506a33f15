"""Report the results of a load, for people, checks and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakebed.ingest.incremental import Refused
from lakebed.ingest.package import Package, format_cursor
from lakebed.ingest.writers import Counts
from lakebed.spec.table import SourceTable


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Counts of a load: read = inserted + updated + unchanged + superseded + marked + rejected."""

    table: str
    load_ids: tuple[str, ...] = ()
    """One for each transaction; empty where nothing was new."""
    files: int = 0
    bytes: int = 0
    """Bytes of the source files."""
    rows_read: int = 0
    rows_expected: int | None = None
    """Rows of the items by their own count, skipped ones included; None where an item has none."""
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    """Rows that a newer row of the same key in the same load replaced."""
    marked: int = 0
    """Rows that mark a row as deleted."""
    rejected: int = 0
    deleted: int = 0
    """Rows that left the table, by a marker or by absence from a full extract."""
    held: int = 0
    """Rows missing from a full extract that stay while rows of other tables refer to them."""
    refused: tuple[Refused, ...] = ()
    evolved: tuple[str, ...] = ()
    """Columns that were added or widened, in words."""
    discarded: tuple[str, ...] = ()
    """Source columns that were skipped."""
    cursor_from: str | None = None
    cursor_to: str | None = None
    seconds: float = 0.0

    @property
    def load_id(self) -> str | None:
        """The id of the last load, or None where nothing was new."""
        return self.load_ids[-1] if self.load_ids else None

    @property
    def balanced(self) -> bool:
        """Whether every row that was read is accounted for."""
        written = self.inserted + self.updated + self.unchanged
        return self.rows_read == written + self.superseded + self.marked + self.rejected


@dataclass(frozen=True)
class Commit:
    """One committed transaction: its package, and the counts of its rows."""

    package: Package
    counts: Counts


def report_of(
    table: SourceTable, commits: Sequence[Commit], refused: Sequence[Refused], seconds: float
) -> LoadReport:
    """Return the report of the transactions of one load, in the order of their commits."""
    packages = [commit.package for commit in commits]
    counts = [commit.counts for commit in commits]
    ends = [package.cursor_to for package in packages if package.cursor_to is not None]
    return LoadReport(
        table=table.name,
        load_ids=tuple(package.load_id for package in packages),
        files=sum(len(package.files) for package in packages),
        bytes=sum(package.bytes for package in packages),
        rows_read=sum(package.rows_read for package in packages),
        rows_expected=_sum([package.rows_expected for package in packages]),
        inserted=sum(count.inserted for count in counts),
        updated=sum(count.updated for count in counts),
        unchanged=sum(count.unchanged for count in counts),
        superseded=sum(count.superseded for count in counts),
        marked=sum(count.marked for count in counts),
        rejected=sum(package.rejected for package in packages)
        + sum(count.rejected for count in counts),
        deleted=sum(count.deleted for count in counts),
        held=sum(count.held for count in counts),
        refused=tuple(refused),
        cursor_from=format_cursor(packages[0].cursor_from) if packages else None,
        cursor_to=format_cursor(max(ends, default=None)),
        seconds=seconds,
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [rows for rows in counts if rows is not None]
    return sum(known) if counts and len(known) == len(counts) else None
