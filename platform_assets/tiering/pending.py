"""What waits to be moved: due partitions with hot rows, late rows, deletes, and requests from SQL.

The truth is in PostgreSQL; nothing is remembered between two looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from psycopg import sql

from lakebed.resources.postgres import Connection
from lakebed.schema.ddl import relation_exists
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable
from lakebed.store.policy import due
from lakebed.tiering.holds import holds
from lakebed.tiering.requests import Ended, Request, answer, open_requests


def waiting(
    connection: Connection,
    table: SourceTable,
    now: datetime,
    requests: Sequence[Request] = (),
) -> list[Window]:
    """Return the windows that are due, by policy or by request, and have work; in order.

    A cold partition with late rows or tombstones is due; one that is held after a restore is not.
    """
    windows = set(due(table, now))
    for request in requests:
        windows |= set(request.windows(table, now))
    held = holds(connection, table, now)
    return with_work(connection, table, sorted(w for w in windows if w.key not in held))


def with_work(
    connection: Connection, table: SourceTable, windows: Sequence[Window]
) -> list[Window]:
    """Return the windows with any hot row or tombstone; one query, no counting."""
    if not windows or not relation_exists(connection, table):
        return []
    query = sql.SQL(
        "select w.lower from unnest({lowers}::timestamptz[], {uppers}::timestamptz[])"
        " as w (lower, upper)"
        " where exists (select from {table} h where h.{time} >= w.lower and h.{time} < w.upper)"
        " or exists (select from lakebed.cold_delete d where d.table_name = {name}"
        " and d.moment >= w.lower and d.moment < w.upper)"
    ).format(
        name=sql.Literal(table.name),
        table=table.relation,
        time=sql.Identifier(table.require_partitioning.column),
        lowers=[window.lower.isoformat() for window in windows],
        uppers=[window.upper.isoformat() for window in windows],
    )
    found = {row[0] for row in connection.execute(query)}
    return [window for window in windows if window.lower in found]


def answer_requests(
    connection: Connection, table: SourceTable, now: datetime, ended: Sequence[Ended] = ()
) -> list[Request]:
    """Answer the requests whose moves have ended or have nothing to move; return the open ones.

    ended: the last moves, if no move is running.
    """
    waiting_on = []
    held = holds(connection, table, now)
    for request in open_requests(connection, table, now):
        own = [e.problem for e in ended if request.taken_at and e.since >= request.taken_at]
        if own:
            answer(connection, table, request, now, next(filter(None, own), None))
            continue
        free = [window for window in request.windows(table, now) if window.key not in held]
        if with_work(connection, table, free):
            waiting_on.append(request)
        else:
            answer(connection, table, request, now)
    return waiting_on


def ranges(windows: Sequence[Window]) -> list[tuple[Window, Window]]:
    """Return windows as (first, last) of each stretch without a gap."""
    found: list[tuple[Window, Window]] = []
    for window in windows:
        if found and found[-1][1].upper == window.lower:
            found[-1] = (found[-1][0], window)
        else:
            found.append((window, window))
    return found
