"""Gather the state of one table once; its findings and its checks are judged from it.

It is the present state, not the result of the last run: the rows in the quarantine, the refused
items of the source, the age of the newest row, the columns in PostgreSQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lakebed.ingest.incremental import is_missing, pending_files
from lakebed.ingest.reject_groups import RejectGroup, read_reject_groups
from lakebed.ingest.sources.reader import SourceError
from lakebed.ingest.sources.readers import reader_of
from lakebed.ingest.unfinished import waits_for
from lakebed.monitoring.watch import (
    Coverage,
    Quarantine,
    drift,
    has_age,
    newest_row,
    read_coverage,
    read_quarantine,
)
from lakebed.resources.postgres import Connection
from lakebed.resources.settings import Settings
from lakebed.spec.table import SourceTable
from lakebed.store.refusals import read_refusals


@dataclass(frozen=True)
class SourceState:
    """A table's source compared with the ledger.

    Attributes:
        waiting: Paths of the items that no load has loaded: new ones, and refused ones.
        refused: Path and problem of each refused item that still exists.
        failure: Why the last load failed as a whole; None where it did not.
        problem: Why the source cannot be read; None where it can.
        missing: The place of a required source that is empty and always was.
    """

    waiting: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    failure: str | None = None
    problem: str | None = None
    missing: str | None = None


@dataclass(frozen=True)
class LastLoad:
    """The counts of the last load, and the loads whose counts do not add up.

    Loads that were rolled back are left out.
    """

    rows: dict[str, int]
    unbalanced: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableState:
    """A table at one moment. None or empty means not applicable, or nothing found.

    Attributes:
        now: The moment, by the platform's clock.
        source: Its source compared with the ledger; empty for a table without a source.
        last: Its last load.
        quarantine: How many rows wait in the quarantine.
        groups: The quarantined rows, by the rule that they broke.
        newest: The time of the newest row.
        drift: Where the table in PostgreSQL differs from its contract, in words.
        coverage: Gaps and overlaps of the partitions of a table with tiering.
        waits_for: The tables that must change before its load is complete.
    """

    now: datetime
    source: SourceState
    last: LastLoad
    quarantine: Quarantine
    groups: tuple[RejectGroup, ...] = ()
    newest: datetime | None = None
    drift: tuple[str, ...] = ()
    coverage: Coverage | None = None
    waits_for: tuple[str, ...] = ()


_COUNTS = ("rows_read", "inserted", "updated", "unchanged", "superseded", "marked", "rejected")


def read_table_state(
    connection: Connection, settings: Settings, table: SourceTable, now: datetime
) -> TableState:
    """Read the present state of a table. Changes nothing; a source's failure is in the result."""
    quarantine = read_quarantine(connection, table)
    return TableState(
        now=now,
        source=read_source(connection, settings, table),
        last=_last_load(connection, table),
        quarantine=quarantine,
        groups=tuple(read_reject_groups(connection, table)) if quarantine.waiting else (),
        newest=newest_row(connection, table, now) if has_age(table) else None,
        drift=tuple(drift(connection, table)),
        coverage=read_coverage(connection, table, now) if table.tiering is not None else None,
        waits_for=waits_for(connection, table.name),
    )


def read_source(connection: Connection, settings: Settings, table: SourceTable) -> SourceState:
    """Read which items wait in a table's source, and which of them are refused.

    A refused item that was deleted from the source does not count.
    """
    if table.source is None:
        return SourceState()
    known = read_refusals(connection, table.name)
    failure = next((refusal.problem for refusal in known if refusal.item is None), None)
    recorded = {refusal.item: refusal.problem for refusal in known if refusal.item is not None}
    try:
        reader = reader_of(table, settings)
        found = reader.glance()
    except SourceError as error:
        return SourceState((error.path,), tuple(recorded.items()), failure, str(error))
    if not found and is_missing(connection, table):
        return SourceState(failure=failure, missing=reader.place)
    there = {item.path for item in found}
    if table.load_by == "window":
        refused = {path: problem for path, problem in recorded.items() if path in there}
        return SourceState(tuple(sorted(refused)), tuple(refused.items()), failure)
    pending, by_ledger = pending_files(connection, table, found)
    waiting = {item.file.path for item in pending}
    refused = {path: problem for path, problem in recorded.items() if path in waiting}
    refused |= {item.path: item.problem for item in by_ledger}
    return SourceState(tuple(sorted(waiting | refused.keys())), tuple(refused.items()), failure)


def _last_load(connection: Connection, table: SourceTable) -> LastLoad:
    """Return the last load's counts, and the loads whose counts do not add up."""
    rows = connection.execute(
        "select rows_read, inserted, updated, unchanged, superseded, marked, rejected"
        " from lakebed.load where table_name = %s and rolled_back_at is null"
        " order by committed_at desc limit 1",
        [table.name],
    ).fetchone()
    unbalanced = connection.execute(
        "select load_id from lakebed.load where table_name = %s and rolled_back_at is null"
        " and rows_read <> inserted + updated + unchanged + superseded + marked + rejected"
        " order by committed_at",
        [table.name],
    ).fetchall()
    counts = dict(zip(_COUNTS, rows or (0,) * len(_COUNTS), strict=True))
    return LastLoad(counts, tuple(load_id for (load_id,) in unbalanced))
