"""The state of one table, gathered once, from which its findings and its checks are judged.

It is that of now, whatever the last run did: rows that wait in the quarantine, items that are
refused, the age of the newest row, the columns that are there.
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
    """What is in a table's source beside what the ledger has.

    Attributes:
        waiting: Paths of the items that no load has taken: new ones, and refused ones.
        refused: Path and problem of each item that is refused, and is still there.
        failure: Why the last load failed as a whole; None where it did not.
        problem: Why the source cannot be asked; None where it can.
        missing: Where nothing is and nothing ever was, though the table wants something there.
    """

    waiting: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    failure: str | None = None
    problem: str | None = None
    missing: str | None = None


@dataclass(frozen=True)
class LastLoad:
    """The counts of the last load that stands, and the loads whose counts do not add up."""

    rows: dict[str, int]
    unbalanced: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableState:
    """A table at one moment. None or empty: there is no such thing, or nothing is wrong.

    Attributes:
        now: The moment, by the platform's clock.
        source: What is in its source; of a table without one, nothing.
        last: Its last load.
        quarantine: How many rows wait.
        groups: The rows that wait, by the rule that they broke.
        newest: The time of the newest row.
        drift: Where the table in PostgreSQL differs from its contract, in words.
        coverage: Gaps and overlaps of the partitions of a table with tiering.
        waits_for: The tables whose rows would finish its load, if it waits for any.
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
    """Read how a table is now; changes nothing. A source that cannot be asked is in the answer."""
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
    """Read what waits in a table's source, and what of it is refused.

    What was refused and is not there any more is not refused any more.
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
    """Return the last load's counts, and every load that stands whose counts do not add up."""
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
