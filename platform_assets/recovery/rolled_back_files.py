"""Loads that stand no more: what the ledger and the quarantine say of them from then on.

A file is loaded by its version and read as it is now, so it is files that are read again, or not.
One that grew is in several loads: where any of those is undone with reload, the next load reads the
file as it is, from where what stands of it ended, whatever was undone before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakebed.ingest.incremental import new_files_of
from lakebed.ingest.sources.reader import SourceItem
from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable


@dataclass(frozen=True)
class RolledBackFiles:
    """What becomes of the files of loads that were undone, by their names, as they are now.

    again: the next load reads them.  out: they wait until they change.  gone: they are no more in
    the source.  earlier: those that also wait, of loads that were undone before.
    """

    again: tuple[str, ...]
    out: tuple[str, ...]
    gone: tuple[str, ...]
    earlier: tuple[str, ...]


def rolled_back_files(
    connection: Connection, table: SourceTable, load_ids: Sequence[str], found: list[SourceItem]
) -> RolledBackFiles:
    """Tell which files of loads that were undone the next load reads. found: those that are there.

    Rows that a retry read out of the quarantine are no files.
    """
    rows: list[tuple[str, bool, bool]] = connection.execute(
        "select path, bool_or(load_id = any (%s)), bool_or(l.rolled_back_at is null)"
        " from lakebed.loaded_file f join lakebed.load l using (load_id) where f.table_name = %s"
        " and not (path like 'quarantine/%%' and version ~ '(^| )0-[0-9a-f]{32}$')"
        " group by path order by path",
        [list(load_ids), table.name],
    ).fetchall()
    new = {file.name for file in new_files_of(connection, table, found)}
    there = {file.name for file in found}
    whole = table.loads_whole  # its files are read together, or none of them
    of_these = sorted(there) if whole else [path for path, undone_now, _ in rows if undone_now]
    return RolledBackFiles(
        again=tuple(path for path in of_these if path in new),
        out=tuple(path for path in of_these if path in there - new),
        gone=tuple(path for path in of_these if path not in there),
        earlier=tuple(
            path
            for path, undone_now, stands in rows
            if not (undone_now or stands or whole) and path in there - new
        ),
    )
