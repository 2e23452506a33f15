"""Compute the figures of a table in SQLite, in one pass over its rows.

Moments are text of many forms, which SQLite's own functions round to milliseconds: an aggregate
function in Python reads them exactly.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime, time
from typing import Any

import polars as pl
from psycopg import sql

from lakebed.importing.figures import ColumnFigures, ComparedColumn, TableFigures

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE = (
    "sum({0} >> 32), sum({0} & 4294967295), min({0}), max({0}),"
    " sum(typeof({1}) not in ('integer', 'null'))"
)
_PARTS = {
    "integer": _WHOLE,
    "float": (
        "sum({0}), null, min({0}), max({0}), sum(typeof({1}) not in ('integer', 'real', 'null'))"
    ),
    "boolean": "sum({0}), null, null, null, sum(typeof({1}) not in ('integer', 'null'))",
    "text": (
        "sum(length(cast({0} as blob))), null, min(cast({0} as text) collate binary),"
        " max(cast({0} as text) collate binary), sum(typeof({1}) in ('real', 'blob'))"
    ),
    "bytes": (
        "sum(length(cast({0} as blob))), null, null, null, sum(typeof({1}) not in ('blob', 'null'))"
    ),
}
_EXACT_DIGITS = 15


def sqlite_figures(
    connection: sqlite3.Connection, table: str, columns: list[ComparedColumn]
) -> TableFigures:
    """Return the figures of a table of a SQLite database."""
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    parts = ["count(*)"]
    for number, column in enumerate(columns):
        name = sql.Identifier(column.source).as_string()
        parts.append(f"count({name})")
        if column.kind == "moment":
            function = f"lakebed_moments_{number}"
            connection.create_aggregate(function, 1, _moments(column.dtype))
            parts.append(f"{function}({name}), null, null, null, null")
        elif column.kind == "decimal":
            scaled = f"cast(round({name} * {10**column.scale}) as integer)"
            unlike = (
                f"sum(typeof({name}) not in ('integer', 'real', 'null')"
                f" or abs({name}) >= 1e{_EXACT_DIGITS - column.scale})"
            )
            parts.append(_WHOLE.rpartition(", sum(")[0].format(scaled) + ", " + unlike)
        else:
            parts.append(_PARTS[column.kind].format(name, name))
    relation = sql.Identifier(table).as_string()
    (row,) = connection.execute(f"select {', '.join(parts)} from {relation}").fetchall()  # noqa: S608
    found = {
        column.name: _figures(column, row[1 + 6 * number : 7 + 6 * number])
        for number, column in enumerate(columns)
    }
    return TableFigures(row[0], found)


def _figures(column: ComparedColumn, row: tuple[Any, ...]) -> ColumnFigures:
    values, total, low, least, greatest, unlike = row
    if column.kind == "moment":
        total, least, greatest, unlike = (
            None if part == "" else int(part) for part in total.split(",")
        )
    elif low is not None:
        total = (total << 32) + low
    if column.kind == "float":
        total, least, greatest = (
            None if part is None or isinstance(part, str | bytes) else float(part)
            for part in (total, least, greatest)
        )
    return ColumnFigures(values, total, least, greatest, unlike or 0)


def _moments(dtype: pl.DataType) -> type:
    """Return an aggregate function of the moments of a type."""

    class Moments:
        """Adds up moments, and counts the values that it cannot read."""

        def __init__(self) -> None:
            self.total, self.unlike = 0, 0
            self.least: int | None = None
            self.greatest: int | None = None

        def step(self, value: Any) -> None:
            if value is None:
                return
            micros = _micros(value, dtype)
            if micros is None:
                self.unlike += 1
                return
            self.total += micros
            self.least = micros if self.least is None else min(self.least, micros)
            self.greatest = micros if self.greatest is None else max(self.greatest, micros)

        def finalize(self) -> str:
            total = "" if self.least is None else str(self.total)
            ends = ("" if end is None else str(end) for end in (self.least, self.greatest))
            return ",".join((total, *ends, str(self.unlike)))

    return Moments


def _micros(value: Any, dtype: pl.DataType) -> int | None:
    """Return a moment in microseconds, None where the value is not ISO 8601."""
    if not isinstance(value, str):
        return None
    try:
        if dtype == pl.Time:
            at = time.fromisoformat(value)
            return ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000_000 + at.microsecond
        if dtype == pl.Date:
            return (date.fromisoformat(value) - _EPOCH.date()).days * 86_400_000_000
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
