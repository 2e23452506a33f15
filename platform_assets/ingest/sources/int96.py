"""Times that Parquet files keep in 96 bits, as Spark and Hive write them: to the nanosecond.

Arrow reads them as nanoseconds since 1970, which wrap around before 1677 and after 2262, or as
microseconds, which cut off the rest. Both together say what is in the file: the difference of the
two, in 64 bits, is the rest, whatever wrapped around.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lakebed.errors import LakebedError
from lakebed.pgcopy.wire import COLUMN, select

_FIRST, _LAST = -719_162 * 86_400_000_000, 2_932_897 * 86_400_000_000
"""The microseconds since 1970 at which the years 1 to 9999 begin and end."""


class FinerThanMicrosecondsError(LakebedError, ValueError):
    """A nested column has times that microseconds cut; the text is its name."""


def has_int96(parquet: pq.ParquetFile) -> bool:
    """Say whether a file has a column of 96 bits, nested or not."""
    schema = parquet.schema
    return any(schema.column(i).physical_type == "INT96" for i in range(len(schema)))


def int96_columns(micro: pa.Schema, nano: pa.Schema, columns: Sequence[str]) -> list[str]:
    """Return which of some columns hold such times: a file has them in another type by unit."""
    return [name for name in columns if micro.field(name).type != nano.field(name).type]


def exact(micro: pa.RecordBatch, nano: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of microseconds with the columns as text that they cut.

    Args:
        micro: A batch in which such times are microseconds.
        nano: The same rows of the columns that hold such times, as nanoseconds.

    Raises:
        FinerThanMicrosecondsError: Where a nested column was cut.
    """
    for name in nano.schema.names:
        index = micro.schema.get_field_index(name)
        cut, whole = micro.column(index), nano.column(name)
        if pa.types.is_timestamp(cut.type):
            rest = _rest(cut, whole)
            if rest.any():
                micro = micro.set_column(index, name, _text(cut, rest))
        elif any(_rest(*leaves).any() for leaves in _leaves(cut, whole)):
            raise FinerThanMicrosecondsError(name)
    return micro


def _rest(micro: pa.Array, nano: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the nanoseconds that each time has beyond its microseconds; 0 for null."""
    cut, whole = (
        each.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False) for each in (micro, nano)
    )
    rest: np.ndarray[tuple[int], np.dtype[np.int64]] = whole - cut * 1000
    return rest


def _leaves(micro: pa.Array, nano: pa.Array) -> list[tuple[pa.Array, pa.Array]]:
    """Return the times in a nested column, by both units."""
    kind = micro.type
    if pa.types.is_timestamp(kind):
        return [(micro, nano)] if kind != nano.type else []
    if pa.types.is_map(kind):
        parts = [(micro.keys, nano.keys), (micro.items, nano.items)]
    elif pa.types.is_struct(kind):
        parts = list(zip(micro.flatten(), nano.flatten(), strict=True))
    elif pa.types.is_nested(kind):
        parts = [(micro.flatten(), nano.flatten())]
    else:
        return []
    return [leaf for part in parts for leaf in _leaves(*part)]


def _text(micro: pa.Array, rest: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Array:
    count = pl.Series("c", micro.cast(pa.int64()))
    # polars panics where it should print a year beyond its calendar.
    near = (count >= _FIRST) & (count < _LAST)
    moments = count.set(~near, None).cast(pl.Datetime("us"))
    digits = pl.Series(rest).cast(pl.String).str.zfill(3)
    printed = moments.dt.strftime("%Y-%m-%d %H:%M:%S%.6f") + digits
    far = select(count, pl.format("{} microseconds since 1970", COLUMN))
    return printed.zip_with(near | count.is_null(), far).to_arrow().cast(pa.string())
