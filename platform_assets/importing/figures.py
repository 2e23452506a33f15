"""Figures of a table that both sides can compute: counts, sums, least and greatest values.

A figure is exact: whole numbers are summed in two halves of 32 bits, decimals as whole numbers of
their last digit, moments as microseconds. Of text the sum is that of its bytes in UTF-8. Only sums
of floating-point numbers may differ in their last digits, as each side adds in its own order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from lakebed.spec.schema import Column
from lakebed.spec.table import SourceTable

Kind = Literal["integer", "decimal", "float", "boolean", "text", "bytes", "moment"]

FLOAT_TOLERANCE = 1e-9
FLOAT32_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ComparedColumn:
    """A column on both sides. scale: the digits after the point of a decimal."""

    source: str
    name: str
    kind: Kind
    dtype: pl.DataType
    scale: int = 0


@dataclass(frozen=True)
class ColumnFigures:
    """The figures of one column on one side.

    values: how many are not null.  unlike: how many the source holds in a way whose meaning only
    a load decides, so that sums cannot be compared.
    """

    values: int
    total: int | float | None = None
    least: Any = None
    greatest: Any = None
    unlike: int = 0


@dataclass(frozen=True)
class TableFigures:
    """The rows of a table on one side, and the figures of its columns by their names here."""

    rows: int
    columns: dict[str, ColumnFigures]


def compared_columns(table: SourceTable) -> tuple[list[ComparedColumn], list[str]]:
    """Return the columns that can be compared, and why the others cannot be."""
    there = {column.name for column in table.columns}
    found: list[ComparedColumn] = []
    passed: list[str] = []
    for column in table.contract:
        how = table.transforms.get(column.name)
        if column.name not in there:
            passed.append(f"{column.name}: a lookup takes its place")
        elif how is not None and not how.only_renames:
            passed.append(f"{column.name}: the table file changes its values")
        elif column.name in getattr(table.source, "dates", {}):
            passed.append(f"{column.name}: the table file reads numbers as moments")
        elif (kind := kind_of(column)) is None:
            passed.append(f"{column.name}: no figures of the type {column.postgres}")
        else:
            source = column.name if how is None or how.column is None else how.column
            dtype = column.polars
            scale = dtype.scale if isinstance(dtype, pl.Decimal) else 0
            found.append(ComparedColumn(source, column.name, kind, dtype, scale or 0))
    return found, passed


def kind_of(column: Column) -> Kind | None:
    """Return how the values of a column are compared, None where they cannot be."""
    dtype = column.polars
    if dtype.is_integer():
        return "integer"
    if dtype.is_float():
        return "float"
    if isinstance(dtype, pl.Decimal):
        return "decimal"
    if isinstance(dtype, pl.Datetime | pl.Date | pl.Time):
        return "moment"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype == pl.Binary:
        return "bytes"
    return "text" if column.postgres == "text" else None


def differences(column: ComparedColumn, source: ColumnFigures, here: ColumnFigures) -> list[str]:
    """Say where the figures of a column differ."""
    if source.values != here.values:
        return [f"{column.name}: {source.values:,} values in the source, {here.values:,} here"]
    if source.unlike:
        return []
    tolerance = 0.0
    if column.kind == "float":
        tolerance = FLOAT32_TOLERANCE if column.dtype == pl.Float32 else FLOAT_TOLERANCE
    return [
        f"{column.name}: {what} {theirs!r} in the source, {ours!r} here"
        for what, theirs, ours in (
            ("sum", source.total, here.total),
            ("min", source.least, here.least),
            ("max", source.greatest, here.greatest),
        )
        if not _same(theirs, ours, tolerance)
    ]


def _same(theirs: Any, ours: Any, tolerance: float) -> bool:
    if theirs is None or ours is None or not tolerance:
        return bool(theirs == ours)
    if math.isnan(theirs) or math.isnan(ours):
        return math.isnan(theirs) and math.isnan(ours)
    return math.isclose(theirs, ours, rel_tol=tolerance, abs_tol=1e-12)
