"""Columns of bytes as PostgreSQL's COPY BINARY has them, for what pgpq cannot encode.

Here is what the types have in common: numbers in network order, bytes one after the other, and
expressions over the one column of a series.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

COLUMN = pl.col("c")
"""The column of which the expressions given to `select` and `from_hex` are made."""


def big_endian(numbers: pl.Series, code: str) -> pa.Array:
    """Return whole numbers as bytes in network order, 0 for null. code: h, i or q, as in struct."""
    dtype, width = {"h": (pl.Int16, 2), "i": (pl.Int32, 4), "q": (pl.Int64, 8)}[code]
    arrow = numbers.fill_null(0).cast(dtype).to_arrow()
    start = arrow.offset * width
    swapped = array(code)
    swapped.frombytes(memoryview(arrow.buffers()[1])[start : start + len(arrow) * width])
    if sys.byteorder == "little":
        swapped.byteswap()
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(arrow), [None, pa.py_buffer(swapped.tobytes())]
    ).cast(pa.binary())


def joined(*parts: pa.Array) -> pa.Array:
    """Return the bytes of several arrays one after the other, null where one of them is null."""
    return pc.binary_join_element_wise(*parts, b"")


def where_not_null(texts: pa.Array, values: pa.Array) -> pa.Array:
    """Return the values, null where the texts are."""
    return pc.if_else(texts.is_valid(), values, pa.scalar(None, values.type))


def select(texts: pl.Series, expression: pl.Expr) -> pl.Series:
    """Return the expression over COLUMN for each text."""
    return texts.rename("c").to_frame().select(expression).to_series().rename(texts.name)


def in_turn(
    texts: pl.Series, *readers: tuple[pl.Series, Callable[[pl.Series], pl.Series]]
) -> pl.Series:
    """Read the rows of each mask with its reader; rows without a mask are null."""
    read = pl.Series(texts.name, [None], dtype=pl.String).new_from_index(0, len(texts))
    for mask, reader in readers:
        rows = mask.arg_true()
        if len(rows):
            read = read.scatter(rows, reader(texts.gather(rows)))
    return read


def from_hex(texts: pa.Array, expression: pl.Expr) -> pa.Array:
    """Return the bytes whose hex digits the expression over COLUMN gives for each text."""
    values = select(pl.Series("c", texts, dtype=pl.String), expression.str.decode("hex"))
    return values.to_arrow().cast(pa.binary())
