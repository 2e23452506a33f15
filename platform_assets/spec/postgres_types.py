"""Map PostgreSQL's types to those of a contract, and decide which widen without loss. No I/O.

Names are in the spelling of format_type().
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from keyword import iskeyword
from typing import Literal, cast

import polars as pl
from pandera.polars import DataFrameModel

from lakebed.spec.schema import Column
from lakebed.spec.types import (
    LITERALS,
    MORE_SCALE,
    SchemaError,
    TypeMap,
    enum_type,
    list_type,
    type_map,
    widest,
)

Widening = Literal["instant", "rewrite"]
"""instant: only the catalog changes.  rewrite: PostgreSQL rewrites every row under a lock."""

_DECIMAL = re.compile(r"numeric\((\d+),(\d+)\)")
_VARCHAR = re.compile(r"character varying(?:\((\d+)\))?")

_POLARS: dict[str, pl.DataType] = {
    type_map(str(dtype), dtype).postgres: dtype
    for dtype in (
        pl.Int16(),
        pl.Int32(),
        pl.Int64(),
        pl.Float32(),
        pl.Float64(),
        pl.Boolean(),
        pl.String(),
        pl.Binary(),
        pl.Date(),
        pl.Time(),
        pl.Datetime("us"),
        pl.Datetime("us", "UTC"),
    )
}

_REWRITES = {
    ("smallint", "integer"),
    ("smallint", "bigint"),
    ("integer", "bigint"),
    ("smallint", "real"),
    ("smallint", "double precision"),
    ("integer", "double precision"),
    ("real", "double precision"),
    ("date", "timestamp without time zone"),
}
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}


def polars_type(postgres: str) -> pl.DataType | None:
    """Return the polars type that a contract declares for a PostgreSQL type, or None."""
    decimal = _DECIMAL.fullmatch(postgres)
    if decimal:
        precision, scale = int(decimal[1]), int(decimal[2])
        return pl.Decimal(precision, scale) if scale <= precision <= 38 else None
    return _POLARS.get(widest(postgres))


def types_of(postgres: str) -> TypeMap | None:
    """Return the type in every engine, or None where a polars type alone does not declare it."""
    dtype = polars_type(postgres)
    types = None if dtype is None else type_map(postgres, dtype)
    if types is None or types.postgres != widest(postgres):
        return None
    return replace(types, postgres=postgres)


def found_type(postgres: str, labels: Sequence[str] = ()) -> tuple[pl.DataType, TypeMap]:
    """Return how a contract declares a column of a PostgreSQL type.

    Args:
        postgres: The type.
        labels: The labels of an enum, in order.

    Raises:
        SchemaError: A contract cannot declare it, or its table could not have tiering. The text
            says why and how to fix it.
    """
    inner = postgres.removesuffix("[]")
    if labels:
        return enum_type(postgres, labels)
    if postgres in LITERALS and not LITERALS[postgres].stays_hot:
        return pl.String(), LITERALS[postgres]
    if inner != postgres and (inner == "uuid" or types_of(inner) is not None):
        return list_type(inner, polars_type(inner) or pl.String())
    dtype, types = polars_type(postgres), types_of(postgres)
    if dtype is not None and types is not None and inner == postgres:
        return dtype, types
    raise SchemaError(_why_not(postgres))


def _why_not(postgres: str) -> str:
    decimal = _DECIMAL.fullmatch(postgres)
    if decimal and int(decimal[1]) < int(decimal[2]) <= 38:
        return f"{postgres}: {MORE_SCALE}; ALTER it to numeric({decimal[2]},{decimal[2]})"
    if postgres.startswith("numeric"):
        return f"{postgres}: DuckDB reads it as a double; ALTER it to, for example, numeric(38, 10)"
    if postgres.startswith("character("):
        return (
            f"{postgres}: PostgreSQL pads it, and other engines keep the blanks; ALTER it to text"
        )
    if postgres.endswith("[]"):
        return f"{postgres}: arrays need a plain type; ALTER it to text[], or to jsonb"
    return (
        f"{postgres}: it has no lossless form in Parquet; ALTER the column to a type that "
        "docs/tables.md lists (a domain to its base type, any other type to text), or move it to "
        "another table"
    )


def cold_type(name: str, dtype: pl.DataType) -> pl.DataType:
    """Return the type that a contract declares for a source's column.

    The type holds every value of the column except times finer than microseconds, which make
    rejects.

    Raises:
        SchemaError: No type can be derived; the text says why.
    """
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return pl.String()
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", "UTC" if dtype.time_zone else None)
    if isinstance(dtype, pl.UInt64):
        return pl.Decimal(20, 0)
    found = polars_type(type_map(name, dtype).postgres)
    if found is None:
        raise SchemaError(f"column {name!r} is {dtype}; declare its type in the model")
    return found


def widening(old: str, new: str) -> Widening | None:
    """Return how a column of type old becomes new without losing a value, or None.

    Raises:
        ValueError: The two types are equal.
    """
    if old == new:
        raise ValueError(f"{old} is {new} already")
    was, becomes = _DECIMAL.fullmatch(old), _DECIMAL.fullmatch(new)
    if was and becomes:
        (p, s), (q, t) = (map(int, found.groups()) for found in (was, becomes))
        if t < s or q - t < p - s:
            return None
        return "instant" if s == t else "rewrite"
    if old in _DIGITS and becomes:
        return "rewrite" if int(becomes[1]) - int(becomes[2]) >= _DIGITS[old] else None
    short = _VARCHAR.fullmatch(old)
    if short:
        long = _VARCHAR.fullmatch(new)
        fits = long and (long[1] is None or (short[1] and int(long[1]) >= int(short[1])))
        return "instant" if new == "text" or fits else None
    if was and new == "numeric":
        return "instant"
    return "rewrite" if (old, new) in _REWRITES else None


def field_line(column: Column) -> str:
    """Return the line that declares a column in a pandera model, ready to be pasted."""
    name = _field_name(column.name)
    arguments = [] if name == column.name else [f"alias={column.name!r}"]
    arguments += ["nullable=True"] * column.nullable
    if column.description:
        arguments.append(f"description={column.description!r}")
    if column.types.labels or _default_of(column) != column.postgres:
        arguments.append(f"metadata={{'postgres': {column.postgres!r}}}")
    return f"{name}: {_annotation(column.polars)} = pa.Field({', '.join(arguments)})"


def _default_of(column: Column) -> str:
    """Return the type that the column would have if its field named none."""
    return "" if column.types.labels else type_map(column.name, column.polars).postgres


def _field_name(column: str) -> str:
    """Return a name that Python and pandera accept, without keywords, methods and a leading _."""
    name = re.sub(r"\W", "_", column)
    taken = iskeyword(name) or name.startswith("_") or hasattr(DataFrameModel, name)
    return f"column_{name}" if taken or not name.isidentifier() else name


def _annotation(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Decimal):
        return f"Annotated[pl.Decimal, {dtype.precision}, {dtype.scale}]"
    if isinstance(dtype, pl.Datetime):
        zone = f'"{dtype.time_zone}"' if dtype.time_zone else None
        return f'Annotated[pl.Datetime, "us", {zone}]'
    if isinstance(dtype, pl.Enum):
        return f"Annotated[pl.Enum, {list(dtype.categories)!r}]"
    if isinstance(dtype, pl.List):
        return f"pl.List({_inner(cast(pl.DataType, dtype.inner))})"
    return f"pl.{type(dtype).__name__}"


def _inner(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Decimal):
        return f"pl.Decimal({dtype.precision}, {dtype.scale})"
    if isinstance(dtype, pl.Datetime):
        return f'pl.Datetime("us", {dtype.time_zone!r})'
    return f"pl.{type(dtype).__name__}"
