"""Undone loads: what the ledger and the quarantine record of them, and which files return.

A file is loaded by its version but read in its present state, so whole files are read again, or
not. A file that grew is in several loads. If one of them is undone with reload, the next load reads
the file from the end of its valid part, whatever was undone before and after.
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
    """The files of undone loads by what happens to each, by their present names.

    again: the next load reads them. out: they wait until they change. gone: the source no longer
    has them. earlier: files of loads undone before, which also wait.
    """

    again: tuple[str, ...]
    out: tuple[str, ...]
    gone: tuple[str, ...]
    earlier: tuple[str, ...]


def rolled_back_files(
    connection: Connection, table: SourceTable, load_ids: Sequence[str], found: list[SourceItem]
) -> RolledBackFiles:
    """Decide which files of undone loads the next load reads.

    found: the source's files now. Rows that a retry read from the quarantine are not files.
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
    whole = table.loads_whole  # its files are read together or not at all
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
