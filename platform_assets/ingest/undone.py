"""Loads that stand no more: what the ledger and the quarantine say of them from then on."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from platform_assets.ingest.writers.undo import undo_name
from resources.postgres import Connection

FORGOTTEN = "forgotten with "
"""Stands before the load and the version of a file that is to be read again."""


def record_undone(connection: Connection, load_ids: Sequence[str], *, reload: bool) -> None:
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
            "update lakebed.loaded_file set version = %s || load_id || ' ' || version"
            " where load_id = any (%s)",
            [FORGOTTEN, ids],
        )
    for load_id in sorted(ids):
        connection.execute(sql.SQL("drop table if exists {}").format(undo_name(load_id)))
