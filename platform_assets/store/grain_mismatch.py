"""Find cold partitions whose grain differs from the table file's.

Compacting looks for older rows in its own partition's file only. If a file of a month and a file
of one of its days coexist, they could hold rows of the same keys, and a reader would see both. So
nothing changes a partition that a live generation of other bounds overlaps, and no generation of
other bounds becomes live again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg import sql

from lakebed.errors import TieringError
from lakebed.resources.postgres import Connection
from lakebed.spec.partitions import Grain, Window, window_of
from lakebed.spec.table import SourceTable

Ask = Callable[[sql.Composed], list[tuple[Any, ...]]]
"""Returns what PostgreSQL answers, in the transaction that the answer is for."""

NAMED = 3
"""How many partitions are named; the rest are counted."""


class GrainError(TieringError):
    """Rows of a partition are cold under another grain; nothing was changed."""


class Bounds(NamedTuple):
    """What the manifest says of a partition; lower and upper in UTC."""

    key: str
    lower: datetime
    upper: datetime

    @property
    def grain(self) -> Grain | None:
        """The grain of the partition; None if no grain has such bounds."""
        for grain in Grain:
            window = window_of(grain, self.lower)
            if (window.key, window.lower, window.upper) == self:
                return grain
        return None


def query_on(connection: Connection) -> Ask:
    """Return what asks on a connection, in the transaction that it is in."""
    return lambda query: connection.execute(query).fetchall()


def find_grain_mismatches(
    ask: Ask, table: SourceTable, window: Window | None = None
) -> list[Bounds]:
    """Find the live partitions that are not of the table's grain now, in the order of time.

    window: only partitions that overlap it.
    """
    overlapping: sql.Composable = sql.SQL("")
    if window is not None:
        overlapping = sql.SQL(" and lower_bound < {}::timestamptz and upper_bound > {}").format(
            window.upper.isoformat(), window.lower.isoformat()
        )
    return grain_mismatches(table, ask(_BOUNDS.format(sql.Literal(table.name), overlapping)))


_BOUNDS = sql.SQL(
    "select partition_key, extract(epoch from lower_bound)::bigint as lower,"
    " extract(epoch from upper_bound)::bigint as upper from lakebed.cold_file"
    " where table_name = {} and superseded_at is null{} order by lower_bound, upper_bound"
)


def grain_mismatches(table: SourceTable, rows: Iterable[Sequence[Any]]) -> list[Bounds]:
    """Filter partitions: those that are not of the table's grain now. Pure.

    rows: key, and lower and upper bound in seconds since 1970.
    """
    found = [
        Bounds(key, datetime.fromtimestamp(lower, UTC), datetime.fromtimestamp(upper, UTC))
        for key, lower, upper in rows
    ]
    return [bounds for bounds in found if bounds != _now(table, bounds.lower)]


def check_grain(ask: Ask, table: SourceTable, window: Window) -> None:
    """Raise GrainError if rows of the window are cold under another grain."""
    found = find_grain_mismatches(ask, table, window)
    if found:
        raise GrainError(
            f"{table.name} {window.key}: nothing was changed: "
            f"{describe_mismatch(table.require_partitioning.grain, found)}. "
            f"{how_to_fix(table.name, found)}"
        )


def describe_mismatch(now: Grain, found: Sequence[Bounds]) -> str:
    """Say what is wrong with some partitions, for people."""
    named = ", ".join(f"{bounds.key} ({_words(bounds)})" for bounds in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return (
        f"rows are cold under another grain, in {named}{more}, and the table file says {now} now: "
        "a row could exist twice"
    )


def how_to_fix(table: str, found: Sequence[Bounds]) -> str:
    """Return how to fix it, as a sentence."""
    grains = dict.fromkeys(f"grain=Grain.{b.grain.name}" for b in found if b.grain is not None)
    keys = " ".join(f"--partition {bounds.key}" for bounds in found[:NAMED])
    more = ", and so on" if len(found) > NAMED else ""
    return (
        f"Put {' or '.join(grains) or 'the old grain'} back into the table file; or, with the old "
        f"grain, restore the cold partitions (`lakebed restore {table} {keys}`{more}), then change "
        "the grain"
    )


def _words(bounds: Bounds) -> str:
    if bounds.grain is not None:
        return str(bounds.grain)
    return f"{bounds.lower:%Y-%m-%d %H:%M} to {bounds.upper:%Y-%m-%d %H:%M} UTC"


def _now(table: SourceTable, moment: datetime) -> Bounds:
    window = table.window(moment)
    return Bounds(window.key, window.lower, window.upper)
