"""Read how fresh and complete a table is, and whether its columns match the contract.

Everything comes from PostgreSQL, and no query counts row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from psycopg import sql

from lakebed.resources.postgres import Connection
from lakebed.schema.ddl import COLUMNS_QUERY, differences, relation_exists
from lakebed.schema.evolved import effective
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable
from lakebed.spec.times import in_utc, read_time_or_utc
from lakebed.store.rejects import RejectKind

_TIME = "timestamp with time zone"

LAST_LOADS = 100
"""How many of the last loads the share of rejected rows is computed over."""


@dataclass(frozen=True)
class Quarantine:
    """How many rows of the last loads are in the quarantine.

    Attributes:
        read: Rows that the last loads read, without retries of rejects.
        rejected: Rows of these loads that are in the quarantine now.
        kinds: Quarantined rows of all loads, by the kind of rule that they broke.
    """

    read: int
    rejected: int
    kinds: Mapping[RejectKind, int] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """The quarantined rows of all loads."""
        return sum(self.kinds.values())

    @property
    def share(self) -> float:
        """The share of rejected rows among the rows read; 0 where no row was read."""
        return self.rejected / self.read if self.read else 0.0


@dataclass(frozen=True)
class Gap:
    """A run of partitions without rows between partitions with rows: first to last."""

    first: str
    last: str
    partitions: int


@dataclass(frozen=True)
class Coverage:
    """Gaps between the partitions of a table, and overlaps of them."""

    partitions: int
    gaps: tuple[Gap, ...]
    overlaps: tuple[str, ...]


def newest_row(connection: Connection, table: SourceTable, now: datetime) -> datetime | None:
    """Return the time of the newest row by the cursor or the time column; None without a row."""
    loaded = connection.execute(
        "select cursor_to from lakebed.load where table_name = %s and rolled_back_at is null"
        " and cursor_to is not null order by committed_at desc limit 1",
        [table.name],
    ).fetchone()
    if loaded is not None and _has_time_cursor(table):
        return read_time_or_utc(loaded[0])
    if table.partitioning is None or not relation_exists(connection, table):
        return None
    windows = windows_with_rows(connection, table, list(table.windows(now)))
    found = connection.execute(
        "select max(time_max) from lakebed.cold_file"
        " where table_name = %s and superseded_at is null",
        [table.name],
    ).fetchall()[0][0]
    if not windows:
        return found if found is None else in_utc(found)
    hot = connection.execute(
        sql.SQL("select max({0}) from {1} where {0} >= {2}").format(
            sql.Identifier(table.partitioning.column),
            table.relation,
            sql.Literal(windows[-1].lower),
        )
    ).fetchall()[0][0]
    return max(in_utc(moment) for moment in (hot, found) if moment is not None)


def read_quarantine(connection: Connection, table: SourceTable) -> Quarantine:
    """Read the share of a table's rows that is in the quarantine. Each row counts once.

    For a source that is always read whole, only the last load counts: it read every row again.
    """
    last = (
        "select load_id, rows_read from lakebed.load where table_name = %(table)s"
        " and rolled_back_at is null and not is_retry order by committed_at desc limit %(loads)s"
    )
    ((read, rejected),) = connection.execute(
        f"with last as ({last}) select"  # noqa: S608
        " (select coalesce(sum(rows_read), 0)::bigint from last),"
        " (select count(*) from lakebed.rejected_row where table_name = %(table)s"
        " and resolved_by is null and load_id in (select load_id from last))",
        {"table": table.name, "loads": 1 if table.loads_whole else LAST_LOADS},
    ).fetchall()
    kinds = connection.execute(
        "select kind, count(*) from lakebed.rejected_row where table_name = %s"
        " and resolved_by is null group by kind order by kind",
        [table.name],
    ).fetchall()
    return Quarantine(read, rejected, {RejectKind(kind): count for kind, count in kinds})


def drift(connection: Connection, table: SourceTable) -> list[str]:
    """Describe how the table in PostgreSQL differs from its contract, extra columns included."""
    if not relation_exists(connection, table):
        return []
    table = effective(connection, table)
    query = sql.SQL(COLUMNS_QUERY).format(table.oid)
    rows = connection.execute(query).fetchall()
    known = set(table.column_names)
    return differences(table, rows) + [
        f"column {name} is not in the contract" for name, *_ in rows if name not in known
    ]


def read_coverage(connection: Connection, table: SourceTable, now: datetime) -> Coverage:
    """Read which partitions are missing between existing ones, and which ones overlap.

    A partition exists when it has a live cold file or any hot row.
    """
    cold = connection.execute(
        "select partition_key, lower_bound, upper_bound, time_min, time_max from lakebed.cold_file"
        " where table_name = %s and superseded_at is null order by lower_bound, upper_bound",
        [table.name],
    ).fetchall()
    overlaps = [
        f"{key} holds rows outside of itself: {first} to {last}"
        for key, lower, upper, first, last in cold
        if first is not None and (first < lower or last >= upper)
    ]
    overlaps += [
        f"{before} and {key} hold the same time"
        for (before, _, end, *_), (key, start, *_) in pairwise(cold)
        if start < end
    ]
    windows = list(table.windows(now))
    there = {key for key, *_ in cold}
    if relation_exists(connection, table):
        there |= {window.key for window in windows_with_rows(connection, table, windows)}
    places = [place for place, window in enumerate(windows) if window.key in there]
    gaps = [
        Gap(windows[before + 1].key, windows[after - 1].key, after - before - 1)
        for before, after in pairwise(places)
        if after > before + 1
    ]
    return Coverage(len(there), tuple(gaps), tuple(overlaps))


def windows_with_rows(
    connection: Connection, table: SourceTable, windows: list[Window]
) -> list[Window]:
    """Return the windows that have any hot row, in order. One query, without counting."""
    query = sql.SQL(
        "select w.lower from unnest({lowers}::timestamptz[], {uppers}::timestamptz[])"
        " as w (lower, upper)"
        " where exists (select from {table} h where h.{time} >= w.lower and h.{time} < w.upper)"
    ).format(
        table=table.relation,
        time=sql.Identifier(table.require_partitioning.column),
        lowers=[window.lower.isoformat() for window in windows],
        uppers=[window.upper.isoformat() for window in windows],
    )
    found = {row[0] for row in connection.execute(query)}
    return [window for window in windows if window.lower in found]


def has_age(table: SourceTable) -> bool:
    """Whether the rows of a table have a time: a cursor, or a time column."""
    return _has_time_cursor(table) or table.partitioning is not None


def _has_time_cursor(table: SourceTable) -> bool:
    return table.cursor is not None and table.column(table.cursor).postgres == _TIME
