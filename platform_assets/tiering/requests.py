"""Moves that people ask for by `lakebed.request_move`: what is asked, and what is answered.

A request is open until it is answered, in its row, with what was moved or why not. It is taken when
moves are started for it, and answered when these have ended, or at once where nothing waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lakebed.resources.postgres import Connection
from lakebed.schema.registry import upsert_policy
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable
from lakebed.store.policy import due
from lakebed.tiering.holds import holds

LONGEST = 2000
"""How much of a problem an answer repeats, in characters."""


@dataclass(frozen=True)
class Request:
    """A request: everything that ended `older_than` ago is to be moved."""

    number: int
    older_than: timedelta
    requested_at: datetime
    taken_at: datetime | None

    def windows(self, table: SourceTable, now: datetime) -> list[Window]:
        """Return what is asked for, whether anything waits there or not."""
        return due(table, now, self.older_than)


@dataclass(frozen=True)
class Ended:
    """Moves that have ended. since: when they were taken.  problem: why they failed."""

    since: datetime
    problem: str | None = None


def open_requests(connection: Connection, table: SourceTable, now: datetime) -> list[Request]:
    """Return the requests for a table that wait for an answer, oldest first."""
    # PostgreSQL knows how long a month ago is.
    rows = connection.execute(
        "select tier_request_id, %s::timestamptz - (%s::timestamptz - older_than), requested_at,"
        " taken_at from lakebed.tier_request where table_name = %s and answered_at is null"
        " order by tier_request_id",
        [now, now, table.name],
    )
    return [Request(*row) for row in rows]


def take(connection: Connection, requests: Sequence[Request]) -> datetime:
    """Note that moves are started for requests; return when, by PostgreSQL's clock."""
    moment: datetime
    ((moment,),) = connection.execute("select clock_timestamp()")
    connection.execute(
        "update lakebed.tier_request set taken_at = %s where tier_request_id = any(%s)",
        [moment, [request.number for request in requests]],
    )
    return moment


def answer(
    connection: Connection,
    table: SourceTable,
    request: Request,
    now: datetime,
    problem: str | None = None,
) -> str:
    """Answer a request with what was moved since it was made, or the problem; return the answer."""
    windows = request.windows(table, now)
    keys = [window.key for window in windows]
    ((moved, first, last, rows),) = connection.execute(
        "select count(*), min(partition_key), max(partition_key), sum(rows)"
        " from lakebed.cold_file where table_name = %s and partition_key = any(%s)"
        " and moved_at >= %s and superseded_at is null",
        [table.name, keys, request.requested_at],
    )
    text = _words(moved, first, last, rows, windows[-1].upper if windows else None)
    held = sorted(holds(connection, table, now).keys() & set(keys))
    if held:
        text += f"; restored and held, so not moved: {', '.join(held)}"
    if problem is not None:
        text = f"not all was moved: {problem[:LONGEST]}; {text}"
    connection.execute(
        "update lakebed.tier_request set answered_at = clock_timestamp(), answer = %s"
        " where tier_request_id = %s and answered_at is null",
        [text, request.number],
    )
    connection.execute("select pg_notify('lakebed_answer', %s)", [str(request.number)])
    return text


def record_heartbeat(connection: Connection, table: SourceTable) -> None:
    """Record the policy of a table, and that a service looks for due moves."""
    note = upsert_policy(table)
    assert note is not None
    connection.execute(note)
    connection.execute(
        "update lakebed.tier_policy set looked_at = clock_timestamp() where table_name = %s",
        [table.name],
    )


def _words(moved: int, first: str, last: str, rows: int, until: datetime | None) -> str:
    if moved:
        keys = first if moved == 1 else f"{first} to {last}"
        noun = "partition" if moved == 1 else "partitions"
        return f"moved {moved} {noun}: {keys}, {rows:,} rows in the lake"
    if until is None:
        return "nothing moved: no partition of the table ended that long ago"
    return f"nothing moved: no hot row before {until:%Y-%m-%d %H:%M} UTC waits"
