"""What a load did, for people, checks and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakebed.ingest.incremental import Refused
from lakebed.ingest.package import Package, format_cursor
from lakebed.ingest.writers import Counts
from lakebed.spec.table import SourceTable


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a load did: read = inserted + updated + unchanged + superseded + marked + rejected.

    marked: rows that said that a row is gone.  deleted: rows that left the table, whatever told so.
    load_ids: of the transactions, one, or one an item where they are loaded apart; none where there
    was nothing new.  bytes: of the source files.  rows_told: how many rows the items of the source
    have by their own word, those passed over included; None where one does not say.  evolved: what
    was added to the table or widened, in words.  held: rows that a full extract lacks and that stay
    until no row of another table refers to them.  discarded: source columns that were left out.
    seconds: whole time.
    """

    table: str
    load_ids: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    rows_read: int = 0
    rows_expected: int | None = None
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    marked: int = 0
    rejected: int = 0
    deleted: int = 0
    held: int = 0
    refused: tuple[Refused, ...] = ()
    evolved: tuple[str, ...] = ()
    discarded: tuple[str, ...] = ()
    cursor_from: str | None = None
    cursor_to: str | None = None
    seconds: float = 0.0

    @property
    def load_id(self) -> str | None:
        """The last of the loads, None where there was nothing new."""
        return self.load_ids[-1] if self.load_ids else None

    @property
    def balanced(self) -> bool:
        """Whether every row that was read is accounted for."""
        written = self.inserted + self.updated + self.unchanged
        return self.rows_read == written + self.superseded + self.marked + self.rejected


@dataclass(frozen=True)
class Commit:
    """One transaction that was committed: what it brought, and what became of its rows."""

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
