"""Find new items of a source by the ledger in PostgreSQL, the only memory of loads.

A version of a file is loaded once. A load reads a changed file again by its table's policy, from
the place that resume_point.py determines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lakebed.ingest.package import parse_cursor
from lakebed.ingest.sources.reader import MOMENT, SourceItem
from lakebed.ingest.sources.records import NEVER_CLOSED
from lakebed.ingest.unfinished import is_unfinished
from lakebed.resources.postgres import Connection
from lakebed.spec.sources import RejectedRows
from lakebed.spec.table import SourceTable


@dataclass(frozen=True)
class Refused:
    """A file that a load refused, and why."""

    path: str
    problem: str


@dataclass(frozen=True)
class Loaded:
    """The ledger's entry of a file that has changed since it was loaded."""

    rows: int
    """How many rows loads have read from it."""
    cursor: str | None
    """Its greatest cursor."""
    ties: int
    """How many rows had the greatest cursor."""
    sha256: str | None
    """The digest of the earlier version."""
    boundary: bytes | None
    """The rows that a query would return again."""
    size: int
    """The size of the earlier version, in bytes."""
    rejected: Mapping[int, Any] = field(default_factory=dict, repr=False)
    """The rows in quarantine by their number; for a file of lines, those whose quote was still open
    at its end."""


@dataclass(frozen=True)
class Pending:
    """A file to load."""

    file: SourceItem
    before: Loaded | None = None
    """The part of a grown file that is loaded already."""
    again: bool = False
    """Whether the load reads an item that was read before again from its beginning."""


MISSING = (
    "the source is empty, and nothing was ever loaded from it; correct the table file, deliver the "
    "first file, or declare optional=True for a source that may still be empty"
)
"""The problem of a source without an item."""


def is_missing(connection: Connection, table: SourceTable) -> bool:
    """Whether an empty source is a fault: it must not be empty and never had an item.

    Files that were loaded before may have been removed since.
    """
    if table.optional or isinstance(table.source, RejectedRows):
        return False
    rows = connection.execute(
        "select from lakebed.load where table_name = %s and not is_retry limit 1", [table.name]
    ).fetchall()
    return not rows


def new_files_of(
    connection: Connection, table: SourceTable, files: list[SourceItem]
) -> list[SourceItem]:
    """Return the files that a load would read: new ones, and changed ones by policy.

    An unchanged full extract that only waits for other tables does not count as new.
    """
    pending, _ = pending_files(connection, table, files, waiting=False)
    return [item.file for item in pending]


def last_load_of(connection: Connection, table: SourceTable) -> str | None:
    """Return the id of the last load that was not rolled back, or None."""
    row = connection.execute(
        "select load_id from lakebed.load where table_name = %s and rolled_back_at is null"
        " order by committed_at desc limit 1",
        [table.name],
    ).fetchone()
    return row[0] if row else None


def pending_files(
    connection: Connection,
    table: SourceTable,
    files: list[SourceItem],
    *,
    again: bool = False,
    waiting: bool = True,
) -> tuple[list[Pending], list[Refused]]:
    """Return the new and changed files, and the files that are refused.

    Args:
        connection: Reads the ledger.
        table: The table. If its loads read the whole source, all files are new as soon as one of
            them changed, appeared or disappeared.
        files: All files of the source.
        again: Whether to read all files, whatever the ledger has.
        waiting: Whether a load that waits for other tables makes the files of a whole source new.
    """
    if again:
        return [Pending(file, again=True) for file in files if _is_text(file.path)], [
            _no_text(file) for file in files if not _is_text(file.path)
        ]
    if table.loads_whole:
        waits = waiting and is_unfinished(connection, table.name)
        return _all_or_nothing(connection, table, files, waits)
    # Files of a rolled back load are not in the table, but no load reads them again by itself.
    rows = connection.execute(
        "select distinct on (f.path) f.path, array_agg(f.version) over same_path,"
        " l.rolled_back_at is null,"
        " (sum(f.rows_read) filter (where l.rolled_back_at is null) over same_path)::bigint,"
        " f.cursor_max, f.cursor_ties, f.sha256, f.boundary,"
        " coalesce(substring(f.version from '^([0-9]{1,18})-'), '0')::bigint"
        " from lakebed.loaded_file f join lakebed.load l using (load_id)"
        " where f.table_name = %s window same_path as (partition by f.path)"
        " order by f.path, l.rolled_back_at is not null, l.committed_at desc",
        [table.name],
    ).fetchall()
    known = {
        path: (versions, Loaded(*before) if stands else None)
        for path, versions, stands, *before in rows
    }
    pending: list[Pending] = []
    refused: list[Refused] = []
    for file in files:
        if not _is_text(file.path):
            refused.append(_no_text(file))
            continue
        versions, before = known.get(file.name, ([], None))
        if is_loaded(file.version, versions):
            continue
        if before is None or table.changed_files == "reload":
            pending.append(Pending(file, again=bool(versions)))
        elif table.changed_files == "grown":
            rejected = _rejected(connection, table, file)
            pending.append(Pending(file, replace(before, rejected=rejected)))
        else:
            refused.append(
                Refused(
                    file.path,
                    "it was loaded before and has changed since; "
                    + (
                        "declare a cursor that new rows grow beyond, or use merge with a key"
                        if table.require_source.resumes == "query"
                        else "deliver new rows in a new file, or set changed_files in the table "
                        "file"
                    ),
                )
            )
    return pending, refused


def _rejected(connection: Connection, table: SourceTable, file: SourceItem) -> dict[int, Any]:
    """Return the rejects that continuing a grown file needs, by row number.

    The folder of the data may have moved since, so the name identifies the file. For a queried
    source, whose rows have no fixed order, return all open rejects by their id.
    """
    queried = table.require_source.resumes == "query"
    rule = NEVER_CLOSED.rule if table.require_source.resumes == "bytes" else None
    return dict(
        connection.execute(
            "select case when %(queried)s then rejected_row_id else row_number end, source_row"
            " from lakebed.rejected_row where table_name = %(table)s and not superseded"
            " and load_id in (select load_id from lakebed.loaded_file"
            " join lakebed.load l using (load_id) where l.rolled_back_at is null"
            " and loaded_file.table_name = %(table)s and path = %(name)s)"
            " and (%(queried)s"
            " or right('/' || source_file, length(%(name)s) + 1) = '/' || %(name)s)"
            " and (%(rule)s::text is null or rule = %(rule)s)",
            {"table": table.name, "name": file.name, "rule": rule, "queried": queried},
        ).fetchall()
    )


def _all_or_nothing(
    connection: Connection, table: SourceTable, files: list[SourceItem], waits: bool
) -> tuple[list[Pending], list[Refused]]:
    """Return all files if they differ from those that the last load of the table read."""
    rows = connection.execute(
        "select path, version from lakebed.loaded_file where load_id = ("
        " select load_id from lakebed.load where table_name = %s"
        " order by committed_at desc limit 1)",
        [table.name],
    ).fetchall()
    pending = [Pending(file) for file in files if _is_text(file.path)]
    refused = [_no_text(file) for file in files if not _is_text(file.path)]
    known: dict[str, str] = dict(rows)
    same = {file.name for file in files} == known.keys() and all(
        is_loaded(file.version, [known[file.name]]) for file in files
    )
    if same and not refused and not waits:
        return [], []
    return pending, refused


def _no_text(file: SourceItem) -> Refused:
    shown = file.path.encode(errors="surrogateescape").decode(errors="replace")
    return Refused(shown, "its name is not UTF-8; rename it")


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def last_cursor(connection: Connection, table: SourceTable) -> Any:
    """Return the greatest cursor that was committed, in its column's type, or None."""
    row = connection.execute(
        "select cursor_to from lakebed.load where table_name = %s and cursor_to is not null"
        " and rolled_back_at is null order by committed_at desc limit 1",
        [table.name],
    ).fetchone()
    return parse_cursor(table, row[0]) if row else None


def is_loaded(version: str, loaded: list[str]) -> bool:
    """Whether the ledger has a version, or a later one where versions are moments."""
    if version.startswith(MOMENT):
        return any(known >= version for known in loaded if known.startswith(MOMENT))
    return version in loaded
