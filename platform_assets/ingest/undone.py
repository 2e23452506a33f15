"""Loads that stand no more: what the ledger and the quarantine say of them from then on.

A file is loaded by its version and read as it is now, so it is files that are read again, or not.
One that grew is in several loads: where any of those is undone with reload, the next load reads the
file as it is, from where what stands of it ended, whatever was undone before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from platform_assets.catalog import SourceTable
from platform_assets.ingest.incremental import new_files_of
from platform_assets.ingest.sources.reader import SourceItem
from platform_assets.ingest.writers.undo import undo_name
from resources.postgres import Connection

FORGOTTEN = "forgotten with "
"""Stands before the load that was undone and the version of a file that is to be read again."""

# An earlier load of a file may have been undone without reload; its version would hold the file
# back. Of a source that is loaded whole all files are one.
_FORGET = """
update lakebed.loaded_file
set version = %(forgotten)s || undone.load_id || ' ' || version
from (
    select distinct on (f.ctid) f.ctid as row, u.load_id
    from lakebed.loaded_file f join lakebed.load l using (load_id)
        join lakebed.load u on u.load_id = any (%(ids)s) and (u.load_id = f.load_id or %(whole)s
            or exists (select from lakebed.loaded_file g where g.load_id = u.load_id
                and g.table_name = f.table_name and g.path = f.path))
    where f.table_name = %(table)s and l.rolled_back_at is not null
        and not starts_with(f.version, %(forgotten)s)
    order by f.ctid, u.load_id = f.load_id desc, u.committed_at) as undone
where loaded_file.ctid = undone.row
"""


def record_undone(
    connection: Connection, table: SourceTable, load_ids: Sequence[str], *, reload: bool
) -> None:
    """Record loads as rolled back, with their rejects, and drop what they kept.

    reload: their files are forgotten, so that the next load reads them again.
    """
    ids = list(load_ids)
    connection.execute(
        "update lakebed.load set rolled_back_at = clock_timestamp() where load_id = any (%s)", [ids]
    )
    # What they took out of the quarantine, or read again, waits again; the loads' own does not.
    connection.execute(
        "update lakebed.rejected_row set resolved_by = null, resolved_at = null,"
        " superseded = false"
        " where resolved_by = any (%s)",
        [ids],
    )
    connection.execute(
        "update lakebed.rejected_row set resolved_by = load_id, resolved_at = clock_timestamp()"
        " where load_id = any (%s) and resolved_by is null",
        [ids],
    )
    if reload:
        # Not deleted: a backup that holds these loads makes them stand again, files and all.
        connection.execute(
            _FORGET,
            {
                "forgotten": FORGOTTEN,
                "ids": ids,
                "whole": table.loads_whole,
                "table": table.name,
            },
        )
    for load_id in sorted(ids):
        connection.execute(sql.SQL("drop table if exists {}").format(undo_name(load_id)))


@dataclass(frozen=True)
class FilesOfUndone:
    """What becomes of the files of loads that were undone, by their names, as they are now.

    again: the next load reads them.  out: they wait until they change.  gone: they are no more in
    the source.  earlier: those that also wait, of loads that were undone before.
    """

    again: tuple[str, ...]
    out: tuple[str, ...]
    gone: tuple[str, ...]
    earlier: tuple[str, ...]


def files_of_undone(
    connection: Connection, table: SourceTable, load_ids: Sequence[str], found: list[SourceItem]
) -> FilesOfUndone:
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
    return FilesOfUndone(
        again=tuple(path for path in of_these if path in new),
        out=tuple(path for path in of_these if path in there - new),
        gone=tuple(path for path in of_these if path not in there),
        earlier=tuple(
            path
            for path, undone_now, stands in rows
            if not (undone_now or stands or whole) and path in there - new
        ),
    )
