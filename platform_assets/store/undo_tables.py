"""The tables that keep what a load updated or deleted, and the ledger of loads that were undone."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable

FORGOTTEN = "forgotten with "
"""Prefix of a forgotten file's version; the undone load and the old version follow it."""


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


def undo_name(load_id: str) -> sql.Identifier:
    """Return the table that keeps the rows which a load updated or deleted."""
    return sql.Identifier("lakebed_undo", load_id)


def record_rollback(
    connection: Connection, table: SourceTable, load_ids: Sequence[str], *, reload: bool
) -> None:
    """Record loads as rolled back, with their rejects, and drop their kept rows.

    reload: their files are forgotten, so that the next load reads them again.
    """
    ids = list(load_ids)
    connection.execute(
        "update lakebed.load set rolled_back_at = clock_timestamp() where load_id = any (%s)", [ids]
    )
    # Rejects that they resolved, or read again, are open again; their own rejects are not.
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
        # Not deleted: a restore from a backup with these loads makes them valid again, with files.
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
