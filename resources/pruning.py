"""Which times a query can touch: read off the filters that DuckDB itself pushes down.

EXPLAIN of the query shows, at each scan of a hot table, the filters on its time column that
the optimizer derived through views, CTEs, joins and date_trunc. They hold for the cold rows of the
same view too. What cannot be understood bounds nothing, so a file is never left out wrongly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import duckdb

Kind = Literal["integer", "decimal", "text", "uuid"]
"""What the values of a comparison are."""

Parameters = Sequence[Any] | Mapping[str, Any] | None
"""Values for the ? of a query, or for its $names."""

_TICK = timedelta(microseconds=1)
# EXPLAIN does not quote the names of columns: with one of these, a filter on another column could
# read like one on the time.
_MISLEADING = re.compile(r"[\"'<>=!]| AND ")
_COMPARISON = re.compile(
    r"(?P<column>.+?)(?P<operator>>=|<=|>|<|=)"
    r"'(?P<moment>[^']+)'::TIMESTAMP WITH TIME ZONE"
)

# A quote inside of a text is doubled there, and such a text is not taken.
_VALUE = r"(?:-?\d+(?:\.\d+)?|'[^']*'(?:::UUID)?)"
_NAME = r"(?P<column>[^\s'\"<>=!]+)"
_SIMPLE = re.compile(rf"{_NAME}(?P<operator>>=|<=|>|<|=)(?P<values>{_VALUE})")
_CHOICE = re.compile(rf"{_NAME} IN \((?P<values>{_VALUE}(?:, {_VALUE})*)\)")

_STREAMING = {"POSTGRES_SCAN", "PROJECTION", "FILTER", "LIMIT", "STREAMING_LIMIT"}
"""What a plan consists of that hands on each row before it reads the next ones."""


@dataclass(frozen=True)
class Bounds:
    """The hull of the times that a query can touch, both ends included; None is unbounded."""

    first: datetime | None = None
    last: datetime | None = None

    def touches(self, first: datetime, last: datetime) -> bool:
        """Whether any time of first <= t <= last is inside."""
        return (self.last is None or first <= self.last) and (
            self.first is None or last >= self.first
        )

    def covers(self, other: Bounds) -> bool:
        """Whether every time of the other is inside."""
        return (self.first is None or (other.first is not None and self.first <= other.first)) and (
            self.last is None or (other.last is not None and other.last <= self.last)
        )

    def hull(self, other: Bounds) -> Bounds:
        """Return the smallest bounds that hold both."""
        firsts, lasts = (self.first, other.first), (self.last, other.last)
        return Bounds(
            None if None in firsts else min(t for t in firsts if t),
            None if None in lasts else max(t for t in lasts if t),
        )


@dataclass(frozen=True)
class Comparison:
    """A filter that a query puts on the rows of a table, understood for certain.

    Attributes:
        column: The column that is compared.
        operator: One of =, <, >, <=, >= and, with several values, in.
        values: Numbers as they are written, or texts without their quotes.
        kind: What the values are.
    """

    column: str
    operator: str
    values: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True)
class Scan:
    """The part of a table that a query reads: the times, and the columns; None means all columns.

    comparisons: further filters, each of which holds for every row that the query needs.
    ends_early: the query may end before it has read all of these rows.
    """

    bounds: Bounds = Bounds()
    columns: frozenset[str] | None = None
    comparisons: tuple[Comparison, ...] = ()
    ends_early: bool = False

    def reads(self, column: str) -> bool:
        """Whether the column is read."""
        return self.columns is None or column in self.columns

    def with_other(self, other: Scan) -> Scan:
        """Return what both read together."""
        both = None not in (self.columns, other.columns)
        columns = (self.columns or frozenset()) | (other.columns or frozenset())
        return Scan(self.bounds.hull(other.bounds), columns if both else None)


def tells_apart(columns: Iterable[str]) -> bool:
    """Whether EXPLAIN's filters name these columns unambiguously."""
    return not any(map(_MISLEADING.search, columns))


@dataclass(frozen=True)
class Reading:
    """The reads of PostgreSQL in DuckDB's plan of a query.

    Attributes:
        scans: The read part of each table that is scanned, by name. Tables that the plan does not
            scan are missing: the scan may have been optimized away for reasons that hold for hot
            rows only, or a query to PostgreSQL replaces it.
        asked: The columns of PostgreSQL's answers to queries, None for all.
        ends_early: Whether the query may end before all of its rows are read, by its LIMIT.
    """

    scans: Mapping[str, Scan]
    asked: frozenset[str] | None
    ends_early: bool = False


def planned(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    time_columns: Mapping[str, str | None],
    params: Parameters = None,
) -> Reading:
    """Return what a query reads of the tables of time_columns (name -> time column).

    The views must be over hot rows alone when this is called.
    Raises duckdb.Error where the query does not bind.
    """
    row = connection.execute(f"explain (format json) {query}", params).fetchone()
    found: dict[str, Scan] = {}
    asked: frozenset[str] | None = frozenset()
    names: set[str] = set()
    for node in _nodes(json.loads(row[1]) if row else []):
        info, name = node["extra_info"], node["name"].strip()
        names.add(name)
        table, columns = info.get("Table"), _names(info.get("Projections"))
        if name == "POSTGRES_SCAN" and table in time_columns:
            filters = info.get("Filters", [])
            filters = [filters] if isinstance(filters, str) else filters
            scan = Scan(_bounds(filters, time_columns[table]), columns, comparisons(filters))
            found[table] = found[table].with_other(scan) if table in found else scan
        elif name == "POSTGRES_QUERY":
            asked = None if asked is None or columns is None else asked | columns
    # A limit that is pushed down to PostgreSQL is not in the plan.
    limited = any(query[at : at + 5].lower() == "limit" for at, _ in duckdb.tokenize(query))
    return Reading(found, asked, limited and names <= _STREAMING)


def _names(projections: str | list[str] | None) -> frozenset[str] | None:
    if projections is None:
        return None
    names = [projections] if isinstance(projections, str) else projections
    return frozenset(name for name in names if name)


def _nodes(plan: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in plan:
        yield node
        yield from _nodes(node["children"])


def comparisons(filters: Iterable[str]) -> tuple[Comparison, ...]:
    """Return the filters of EXPLAIN, each of one column, that can be read in one way only."""
    found: list[Comparison] = []
    for text in filters:
        # An optional filter narrows a scan by what another node of the plan makes sure of.
        text = text.removeprefix("optional: ")
        chosen = _CHOICE.fullmatch(text)
        parts = [text] if chosen else text.split(" AND ")
        compared = [_CHOICE.fullmatch(part) or _SIMPLE.fullmatch(part) for part in parts]
        if all(compared) and len({part["column"] for part in compared if part}) == 1:
            found += [_comparison(part) for part in compared if part]
    return tuple(found)


def _comparison(found: re.Match[str]) -> Comparison:
    operator = found.groupdict().get("operator") or "in"
    values = tuple(value[0] for value in re.finditer(_VALUE, found["values"]))
    kind: Kind = "decimal" if any("." in value for value in values) else "integer"
    if values[0].startswith("'"):
        kind = "uuid" if values[0].endswith("::UUID") else "text"
    return Comparison(
        found["column"],
        operator,
        tuple(value.removesuffix("::UUID").removeprefix("'").removesuffix("'") for value in values),
        kind,
    )


def _bounds(filters: str | list[str], column: str | None) -> Bounds:
    first: datetime | None = None
    last: datetime | None = None
    for text in [filters] if isinstance(filters, str) else filters:
        for number, part in enumerate(text.split(" AND ")):
            found = _COMPARISON.fullmatch(part.strip())
            if found is None or found["column"] != column:
                if number == 0:
                    break  # all parts are of one column, and the first says which
                continue
            try:
                moment = datetime.fromisoformat(found["moment"]).astimezone(UTC)
                # Microseconds are the finest unit: an open end equals the closed one next to it.
                moment += {">": _TICK, "<": -_TICK}.get(found["operator"], timedelta(0))
            except (ValueError, OverflowError):
                continue  # infinity, or a year that Python has not
            if found["operator"] in (">", ">=", "="):
                first = moment if first is None else max(first, moment)
            if found["operator"] in ("<", "<=", "="):
                last = moment if last is None else min(last, moment)
    return Bounds(first, last)
