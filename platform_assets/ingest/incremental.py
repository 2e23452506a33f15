"""What is new, by the ledger in PostgreSQL, which is the only memory.

A file at one version is loaded once; a file that changed is read again by its table's policy, from
where start.py says.
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
    """A file that was left out, and why."""

    path: str
    problem: str


@dataclass(frozen=True)
class Loaded:
    """What the ledger says of a file that has changed since.

    rows: how many were read of it.  cursor, ties: its greatest cursor, and how many rows had it.
    sha256, size: of the file as it was.  boundary: the rows that a query would answer with again.
    rejected: the rows in quarantine, by their number; of a file of lines those whose quote was
    still open at its end.
    """

    rows: int
    cursor: str | None
    ties: int
    sha256: str | None
    boundary: bytes | None
    size: int
    rejected: Mapping[int, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Pending:
    """A file to load; of one that has grown, `before` is what is loaded already.

    again: whether it was read before, and is read from its beginning.
    """

    file: SourceItem
    before: Loaded | None = None
    again: bool = False


MISSING = (
    "nothing is there, and nothing was ever loaded from it; mend the table file, deliver the first "
    "file, or say optional=True where there may be nothing yet"
)
"""What is said of a source without an item."""


def is_missing(connection: Connection, table: SourceTable) -> bool:
    """Whether a source in which nothing was found is a fault: it never had anything, and must.

    Where something was loaded before, files may have been taken away after their load.
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
    """Return those of the files that a load would read: new ones, and changed ones by policy.

    A full extract that only waits for other tables is none: nothing of it is new.
    """
    pending, _ = pending_files(connection, table, files, waiting=False)
    return [item.file for item in pending]


def last_load_of(connection: Connection, table: SourceTable) -> str | None:
    """Return the id of the last load that stands, None where there is none."""
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
    """Tell new and changed files from those that are in the ledger.

    Of a source that is loaded whole all are new when any of them changed, came or went, and as long
    as the last load waits for other tables, unless waiting is False.  again: all are, whatever the
    ledger says.
    """
    if again:
        return [Pending(file, again=True) for file in files if _is_text(file.path)], [
            _no_text(file) for file in files if not _is_text(file.path)
        ]
    if table.loads_whole:
        waits = waiting and is_unfinished(connection, table.name)
        return _all_or_nothing(connection, table, files, waits)
    # What was rolled back is not in the table, but is not loaded again by itself either.
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
    """Return what quarantine has of a file that has grown and is needed to go on, by row number.

    The data may have been somewhere else when it was loaded: the file is told by its name. Of a
    source that is queried all that waits is returned, by number of the reject: an answer has no
    fixed order.
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
    """Return all files where they are not just those that the last load of the table read."""
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
    return Refused(shown, "its name is no UTF-8; rename it")


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
    """Whether the ledger has a version, or a later one of those that are moments."""
    if version.startswith(MOMENT):
        return any(known >= version for known in loaded if known.startswith(MOMENT))
    return version in loaded
