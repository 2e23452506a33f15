"""What a load did, for people, checks and metadata."""

from __future__ import annotations

from dataclasses import dataclass

from platform_assets.ingest.incremental import Refused
from platform_assets.ingest.package import Package, format_cursor
from platform_assets.ingest.writers import Counts


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


def report_of(
    package: Package, counts: Counts, refused: list[Refused], seconds: float
) -> LoadReport:
    """Return the report of a load that was committed."""
    return LoadReport(
        table=package.table.name,
        load_id=package.load_id,
        files=len(package.files),
        bytes=package.bytes,
        rows_read=package.rows_read,
        inserted=counts.inserted,
        updated=counts.updated,
        unchanged=counts.unchanged,
        superseded=counts.superseded,
        rejected=package.rejected,
        refused=tuple(refused),
        cursor_from=format_cursor(package.cursor_from),
        cursor_to=format_cursor(package.cursor_to),
        seconds=seconds,
    )
