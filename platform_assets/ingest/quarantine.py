"""Rejected rows as jsonb and back: a row that is read from the quarantine is the row of the source.

Text is kept as text, numbers and booleans as JSON's, times and decimals as text that reads back
the same. Other values are kept in an exact form: bytes that are not text (or contain NUL)
as {"$base64": ...}, any other value as {"$arrow": ..., "shown": ...}. Types other than text go with
the row.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

BYTES = "$base64"
ARROW = "$arrow"
_BYTES = ["Binary"]
"""The type of bytes that are not text."""

_SCALARS = (
    *("Int8", "Int16", "Int32", "Int64", "Int128", "UInt8", "UInt16", "UInt32", "UInt64"),
    *("Float32", "Float64", "Decimal", "Boolean", "Date", "Time", "Datetime"),
)
"""Types whose values have a text that reads back the same, all but a few."""
_A_DAY = {"ms": 86_400_000, "us": 86_400_000_000}  # nanoseconds reach no such year
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""Of the years 1 to 9999, since 1970."""


def encode(
    frame: pl.DataFrame, texts: Collection[str] = ()
) -> tuple[list[dict[str, Any]], str | None]:
    """Return rows as dictionaries that jsonb holds, and their types as JSON, None for all text.

    texts: the columns of bytes that are text.
    """
    columns = [_encode(series) for series in frame]
    rows = [dict(zip(frame.columns, row, strict=True)) for row in zip(*columns, strict=True)]
    types = {
        series.name: _type_of(series.dtype)
        for series in frame
        if not _is_text(series.dtype) or (series.dtype == pl.Binary and series.name not in texts)
    }
    return rows, json.dumps(types) if types else None


def decode(rows: Sequence[str], names: Sequence[str], types: dict[str, list[Any]]) -> pl.DataFrame:
    """Return the columns `names` of rows as they were read, text as bytes.

    A column in which somebody wrote a text that its type does not read is text as a whole.
    """
    read = [json.loads(row, parse_float=str) for row in rows]
    return pl.DataFrame(
        [_decode(name, [row.get(name) for row in read], types.get(name)) for name in names]
    )


def texts_of(names: Collection[str], types: Mapping[str, Any]) -> frozenset[str]:
    """Return which columns that `decode` gives are text, though they are bytes."""
    return frozenset(names) - set(types)


def shown(value: Any) -> Any:
    """Return a value of an encoded row as a person reads it."""
    if isinstance(value, dict) and BYTES in value:
        text = base64.b64decode(value[BYTES]).decode("utf-8", "replace")
        return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return value["shown"] if isinstance(value, dict) and ARROW in value else value


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Binary, pl.Categorical, pl.Enum)


def _type_of(dtype: pl.DataType) -> list[Any]:
    name = type(dtype).__name__
    if isinstance(dtype, pl.Datetime):
        return [name, dtype.time_unit, dtype.time_zone]
    if isinstance(dtype, pl.Decimal):
        return [name, dtype.precision, dtype.scale]
    return [name]


def _encode(series: pl.Series) -> list[Any]:
    dtype = series.dtype
    if dtype == pl.Null or dtype == pl.Boolean or dtype.is_integer():
        return series.to_list()
    if _is_text(dtype):
        return [_encode_text(value) for value in series.to_list()]
    text = _text_of(series)
    if text is None:
        return [_exact(series, i) for i in range(len(series))]
    same = _from_text(text, dtype).eq_missing(series)
    return [
        value if right else _exact(series, i)
        for i, (value, right) in enumerate(zip(text, same, strict=True))
    ]


def _encode_text(value: str | bytes | None) -> Any:
    if value is None:
        return None
    data = value.encode() if isinstance(value, str) else value
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    return {BYTES: base64.b64encode(data).decode()} if "\0" in text else text


def _exact(series: pl.Series, index: int) -> Any:
    one = series.slice(index, 1)
    if one.null_count():
        return None
    stream = io.BytesIO()
    one.alias("value").to_frame().write_ipc(stream)
    what = str(one.to_physical()[0] if one.dtype.is_temporal() else one[0])
    return {
        ARROW: base64.b64encode(stream.getvalue()).decode(),
        "shown": what.replace("\0", "\N{REPLACEMENT CHARACTER}"),
    }


def _text_of(series: pl.Series) -> pl.Series | None:
    dtype = series.dtype
    day = 1 if dtype == pl.Date else _A_DAY.get(getattr(dtype, "time_unit", ""))
    if day is not None and isinstance(dtype, pl.Datetime | pl.Date):
        # polars panics where it should print a year beyond its calendar.
        count = series.to_physical()
        far = (count < _FIRST_DAY * day) | (count >= (_LAST_DAY + 1) * day)
        series = series.set(far.fill_null(False), None)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        naive = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return naive.cast(pl.String) + "Z"
    if dtype.is_numeric() or isinstance(dtype, pl.Datetime | pl.Date | pl.Time):
        return series.cast(pl.String)
    return None


def _from_text(text: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Read what `_text_of` wrote; null where it cannot be read."""
    if dtype == pl.Boolean:
        return text.replace_strict({"true": True, "false": False}, default=None, return_dtype=dtype)
    if dtype == pl.Date:
        return text.str.to_date("%Y-%m-%d", strict=False)
    if dtype == pl.Time:
        return text.str.to_time("%H:%M:%S%.f", strict=False)
    if isinstance(dtype, pl.Datetime):
        unit = dtype.time_unit
        plain = text.str.strip_suffix("Z").str.replace("T", " ", literal=True)
        naive = plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit=unit, strict=False)
        if dtype.time_zone is None:
            return naive
        return naive.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
    return text.cast(dtype, strict=False)


def _decode(name: str, values: list[Any], kind: list[Any] | None) -> pl.Series:
    if kind in (None, _BYTES):
        return pl.Series(name, [_bytes_of(value) for value in values], dtype=pl.Binary)
    if any(isinstance(value, dict) and ARROW in value for value in values):
        return _decode_exact(values, kind).alias(name)
    dtype = getattr(pl, kind[0]) if kind[0] in ("Null", *_SCALARS) else pl.Null
    dtype = dtype(*kind[1:])
    text = pl.Series(name, [_written(value) for value in values], dtype=pl.String)
    if dtype == pl.Null:
        return text.cast(dtype) if text.null_count() == len(text) else text
    typed = _from_text(text, dtype)
    return text if (typed.is_null() & text.is_not_null()).any() else typed.alias(name)


def _decode_exact(values: list[Any], kind: list[Any]) -> pl.Series:
    """Decode one by one a column in which some values are kept as Arrow."""
    parts: list[pl.Series | None] = []
    for value in values:
        if isinstance(value, dict) and ARROW in value:
            data = io.BytesIO(base64.b64decode(value[ARROW]))
            parts.append(pl.read_ipc(data)["value"])
        else:
            parts.append(None if value is None else _decode("value", [value], kind))
    dtype = next(
        part.dtype
        for part, value in zip(parts, values, strict=True)
        if part is not None and isinstance(value, dict)
    )
    nothing = pl.Series("value", [None], dtype=dtype)
    return pl.concat([nothing if part is None else part.cast(dtype) for part in parts])


def _bytes_of(value: Any) -> bytes | None:
    if isinstance(value, dict) and BYTES in value:
        return base64.b64decode(value[BYTES])
    text = _written(value)
    return None if text is None else text.encode()


def _written(value: Any) -> str | None:
    """Return a value as text, even one that was edited by hand."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
