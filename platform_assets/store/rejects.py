"""A reject, and its way into the quarantine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lakebed.resources.postgres import Connection


@dataclass(frozen=True)
class Reject:
    """A row that broke the contract.

    row: as it was read, ready for jsonb (`quarantine` says how).  types: of its columns in the
    source, as JSON; None where all are text.
    """

    source_file: str
    row_number: int
    column: str | None
    reason: str
    row: str
    types: str | None = None


def line_key(columns: Collection[str]) -> str:
    """Return the name under which the quarantine keeps a line that was no row at all.

    columns: those of the source, none of which has this name.
    """
    key = "line"
    while key in columns:
        key = f"${key}"
    return key


def write_rejects(
    connection: Connection, table: str, load_id: str, rejects: Sequence[Reject]
) -> None:
    """Put rejects into the quarantine, in the load's transaction."""
    if not rejects:
        return
    statement = (
        "copy lakebed.rejected_row (table_name, load_id, source_file, row_number, column_name,"
        " reason, source_row, source_types) from stdin"
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for r in rejects:
            copy.write_row(
                (table, load_id, r.source_file, r.row_number, r.column, r.reason, r.row, r.types)
            )
