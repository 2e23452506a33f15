"""Python values, as drivers and APIs give them, to columns that lose nothing.

Drivers of the DBAPI hand out rows, so one pass over the values in Python cannot be avoided; it is
made column by column. A column whose values are of one kind gets that type. Any other becomes text,
each value in its own notation, so that the contract can judge it row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl

from lakebed.ingest.sources.written import json_of
from lakebed.spec.queried_sources import Epoch

_EXACT = 2**53
_JULIAN_1970 = 2_440_587.5
_KINDS = (bool, int, float, Decimal, datetime, date, time, str, bytes)


def column(name: str, values: Sequence[Any]) -> pl.Series:
    """Return a column of the values: integer, float, Boolean, time, text, or bytes."""
    kinds = {_kind(each) for each in set(map(type, values))} - {type(None)}
    if kinds == {int}:
        try:
            return pl.Series(name, values, dtype=pl.Int64)
        except (OverflowError, TypeError, pl.exceptions.PolarsError):
            pass  # larger than 64 bits: as text
    elif kinds == {float}:
        return pl.Series(name, values, dtype=pl.Float64)
    elif kinds == {int, float} and all(
        abs(value) <= _EXACT for value in values if isinstance(value, int)
    ):
        floats = [None if value is None else float(value) for value in values]
        return pl.Series(name, floats, dtype=pl.Float64)
    elif kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    elif kinds == {date}:
        return pl.Series(name, values, dtype=pl.Date)
    elif kinds == {time} and all(value.tzinfo is None for value in values if value is not None):
        return pl.Series(name, values, dtype=pl.Time)
    elif kinds == {datetime}:
        zones = {value.tzinfo is not None for value in values if value is not None}
        if zones == {True}:
            moments = [None if value is None else value.astimezone(UTC) for value in values]
            return pl.Series(name, moments, dtype=pl.Datetime("us", "UTC"))
        if zones == {False}:
            return pl.Series(name, values, dtype=pl.Datetime("us"))
    elif kinds == {bytes}:
        return pl.Series(name, values, dtype=pl.Binary)
    elif not kinds:
        return pl.Series(name, values, dtype=pl.Null)
    return _texts(name, values, as_bytes=bytes in kinds)


def json_column(name: str, values: Sequence[Any]) -> pl.Series:
    """Return a column of the values as JSON: a string in quotes, None as null."""
    texts = [None if value is None else json_of(value, text_of) for value in values]
    return column(name, texts)


def dated(values: Sequence[Any], epoch: Epoch) -> list[Any]:
    """Return the values with each number as the moment that it encodes; keep text.

    A number outside the years 1 to 9999 becomes text, which the contract rejects.
    """
    moment = _MOMENTS[epoch]
    return [_moment(value, moment) if isinstance(value, int | float) else value for value in values]


def _moment(value: float, moment: Callable[[Any], datetime]) -> datetime | str:
    try:
        return moment(value)
    except (OverflowError, ValueError, OSError):
        return str(value)


def _of_unix(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _of_unix_ms(milliseconds: float) -> datetime:
    whole, rest = divmod(milliseconds, 1000)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=round(rest * 1000))


def _of_julian(days: float) -> datetime:
    """A julian day in 64 bits is good for a millisecond, as in SQLite itself."""
    return _of_unix_ms(round((days - _JULIAN_1970) * 86_400_000))


_MOMENTS: Mapping[Epoch, Callable[[Any], datetime]] = {
    "unix": _of_unix,
    "unix_ms": _of_unix_ms,
    "julian": _of_julian,
}


def number_of(moment: datetime, epoch: Epoch) -> float:
    """Return the number that encodes a moment."""
    seconds = moment.timestamp()
    if epoch == "julian":
        return seconds / 86_400 + _JULIAN_1970
    return seconds * (1000 if epoch == "unix_ms" else 1)


def _kind(of: type) -> type:
    """Return which of the kinds a type is, itself where it is none of them."""
    if of in (bytearray, memoryview):
        return bytes
    return next((kind for kind in _KINDS if issubclass(of, kind)), of)


def _texts(name: str, values: Sequence[Any], *, as_bytes: bool) -> pl.Series:
    if as_bytes:
        mixed = [None if value is None else _bytes(value) for value in values]
        return pl.Series(name, mixed, dtype=pl.Binary)
    texts = [None if value is None else text_of(value) for value in values]
    try:
        return pl.Series(name, texts, dtype=pl.String)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON lets through: no valid text
        broken = [None if text is None else _bytes(text) for text in texts]
        return pl.Series(name, broken, dtype=pl.Binary)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return text_of(value).encode("utf-8", "surrogatepass")


def text_of(value: Any) -> str:
    """Return a value as text, nested values as JSON."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping | list | tuple):
        return json_of(value, text_of)
    return str(value)
