"""Where else erased rows may be: the places that an erasure does not search, for its report."""

from __future__ import annotations

from lakebed.resources.postgres import Connection
from lakebed.resources.spill import left_spilled
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.erase_rest import (
    count_tombstones,
    count_unsearched_lines,
    kept_by_loads,
    searches_tombstones,
)
from lakebed.tiering.predicate import Predicate


def other_copies(
    platform: Platform, connection: Connection, table: SourceTable, predicate: Predicate
) -> tuple[str, ...]:
    """Name the other places that may hold the rows, and what to do there."""
    return (
        *_kept(connection, table, predicate),
        *_not_searched(connection, table, predicate),
        *_elsewhere(platform, connection, table),
    )


def _kept(connection: Connection, table: SourceTable, predicate: Predicate) -> list[str]:
    """Name backups, and rows that loads keep for a rollback."""
    found = [
        f"backup {backup_id}: LAKEBED_HOME/{path} holds the hot rows of its day; to delete it: "
        f"lakebed backup delete {table.name} {backup_id}"
        for backup_id, path in connection.execute(
            "select backup_id, path from lakebed.backup where table_name = %s order by taken_at",
            [table.name],
        )
    ]
    found += [
        f"lakebed_undo.{load_id!r}: rows that a load of other columns keeps for a rollback were "
        "not searched; drop that table"
        for load_id, columns in kept_by_loads(connection, table)
        if not predicate.columns <= set(columns)
    ]
    return found


def _not_searched(connection: Connection, table: SourceTable, predicate: Predicate) -> list[str]:
    """Name tombstones and rejects that the condition cannot search."""
    found = []
    tombstones = count_tombstones(connection, table)
    if tombstones and not searches_tombstones(table, predicate):
        found.append(
            f"tombstones: {tombstones:,} keys of deleted rows were not searched, because the "
            "condition uses columns outside of the key. `lakebed move` deletes those in "
            "lakebed.cold_delete; those that a load or a backup keeps end with it"
        )
    ((rejected,),) = connection.execute(
        "select count(*) from lakebed.rejected_row where table_name = %s", [table.name]
    ).fetchall()
    if rejected:
        how = (
            "was not searched, because its texts cannot be compared by this condition"
            if predicate.quarantine is None
            else "was searched by the texts of the source only; lines that are not rows, by the "
            "values of the condition"
            if predicate.line is not None
            else "was searched by the texts of the source alone"
        )
        found.append(f"quarantine: {rejected:,} rejected rows; it {how}: `lakebed rejects`")
    lines = count_unsearched_lines(connection, table, predicate)
    if lines:
        found.append(
            f"quarantine: {lines:,} lines that are not rows were not searched: that needs a "
            "condition of = and IN with texts and numbers only. Erase by such a condition, or "
            "inspect them with `lakebed rejects`"
        )
    return found


def _elsewhere(platform: Platform, connection: Connection, table: SourceTable) -> list[str]:
    """Name copies outside of the hot tier, the lake and the quarantine."""
    found = []
    models = [
        name
        for (name,) in connection.execute(
            "select model from lakebed.model_version where path is not null and removed_at is null"
            " union select model from lakebed.model_file where removed_at is null order by 1"
        )
    ]
    if models:
        found.append(
            f"models built before ({', '.join(models)}): `lakebed build`, then `lakebed housekeep` "
            "when LAKEBED_FILE_GRACE is over"
        )
    if table.source is not None:
        found.append(
            "the source: rows that it still holds return when a load reads them again (a changed "
            "file, a replace, a window)"
        )
    spilled = len(left_spilled(platform.lake.files.spill))
    if spilled:
        found.append(
            f"{platform.lake.files.spill}: {spilled} running queries spill there what does not fit "
            "in memory, until they end"
        )
    found.append(
        "exports, and copies of the lake or of the catalog's tables that other programs made"
    )
    found.append(
        "PostgreSQL's dead rows until VACUUM, its WAL, replicas, dumps and point-in-time backups; "
        "versions and snapshots of the disk or bucket of the lake"
    )
    return found
