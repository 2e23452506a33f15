"""Load rows at the boundary of an append by cursor once, although two loads read them.

A query for rows from the cursor on returns the rows at the cursor again, in any order and mixed
with new ones. With a lag it also returns rows before the cursor. A digest identifies each row: a
load skips a digest as often as earlier loads loaded it. Equal rows are interchangeable, so only
their count matters. A row whose values change while its cursor stays is a new row to an append:
such a table needs a merge.
"""

from __future__ import annotations

import hashlib
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from lakebed.ingest.sources.reader import SourceError, SourceItem
from lakebed.ingest.transform import transform
from lakebed.spec.table import SourceTable

MOST_ROWS = 4_000_000
SIGNATURE_BYTES = 8


class Boundary:
    """The rows at the boundary: those of earlier loads, and those of this load for the next one."""

    def __init__(
        self, table: SourceTable, item: SourceItem, packed: bytes | None, cursor: Any
    ) -> None:
        """Unpack the rows of earlier loads.

        Args:
            table: The table.
            item: The item that errors name.
            packed: The result of `pack` of the load before, or None.
            cursor: The greatest cursor before this load.

        Raises:
            SourceError: The columns have changed, so the digests cannot be compared.
        """
        self._table = table
        self._item = item
        self._types = {column.name: column.polars for column in table.contract}
        whole = not table.key or any(name not in self._types for name in table.key)
        self._columns = tuple(self._types) if whole else table.key
        if table.cursor is not None and table.cursor not in self._columns:
            self._columns = (*self._columns, table.cursor)
        self._known = _unpack(packed, self._signature, item)
        self._cursors: list[pl.DataFrame] = []
        self._before = self._newest = cursor
        self._floor = None if cursor is None else table.floor_of(cursor)
        self._moved_on = False

    def is_new(self, frame: pl.DataFrame, cursors: pl.Series, newest: Any) -> pl.Series:
        """Return which rows were not loaded before; skip each known row once.

        Args:
            frame: The rows as they were read.
            cursors: The cursor of each row, in the contract's type.
            newest: The greatest cursor of a good row.
        """
        self._advance(newest)
        new = pl.Series([True]).new_from_index(0, frame.height)
        if self._floor is None:
            return new
        near = (cursors >= self._floor).fill_null(False)
        maybe = near | (cursors <= self._before).fill_null(False) if self._known.height else near
        if not maybe.any():
            return new
        rows = pl.DataFrame(
            {"cursor": cursors.filter(maybe), "digest": self._digests(frame.filter(maybe))}
        )
        self._cursors.append(rows.filter(pl.col("cursor") >= self._floor))
        if len(self._cursors) > 16:
            self._drop_rows_before_floor()
        return new.scatter(maybe.arg_true(), self._unknown(rows["digest"]))

    def _unknown(self, digests: pl.Series) -> pl.Series:
        """Return which digests were not loaded, and count the loaded ones as seen."""
        rows = pl.DataFrame({"digest": digests}).with_columns(
            nth=pl.int_range(pl.len()).over("digest")
        )
        rows = rows.join(self._known, on="digest", how="left", maintain_order="left")
        new = rows.select(pl.col("times").is_null() | (pl.col("nth") >= pl.col("times")))
        used = rows.filter(~new.to_series()).group_by("digest").len("used")
        self._known = (
            self._known.join(used, on="digest", how="left")
            .with_columns(times=pl.col("times") - pl.col("used").fill_null(0).cast(pl.Int64))
            .filter(pl.col("times") > 0)
            .select("digest", "times")
        )
        return new.to_series()

    def pack(self) -> bytes:
        """Return the digests for the next load. Raises SourceError where they are too many."""
        self._drop_rows_before_floor()
        digests = [frame["digest"] for frame in self._cursors]
        if not self._moved_on:
            # The source did not return these rows, but may do so later.
            unseen = self._known.select(pl.col("digest").repeat_by("times")).to_series()
            digests.append(unseen.explode().drop_nulls())
        packed = pl.concat(digests).sort().to_numpy().astype("<u8").tobytes() if digests else b""
        return self._signature + packed

    def _advance(self, newest: Any) -> None:
        if newest is not None and (self._newest is None or newest > self._newest):
            self._newest, self._floor = newest, self._table.floor_of(newest)
            self._moved_on = True

    def _drop_rows_before_floor(self) -> None:
        if not self._cursors:
            return
        kept = pl.concat(self._cursors).filter(pl.col("cursor") >= self._floor)
        self._cursors = [kept]
        if kept.height > MOST_ROWS:
            raise SourceError(
                self._item.path,
                f"{kept.height} rows are at the boundary of its cursor {self._table.cursor!r}. "
                f"Expected at most {MOST_ROWS}; shorten lag, choose a finer cursor, or use merge",
            )

    @property
    def _signature(self) -> bytes:
        """A digest of the columns and their types; digests of other columns are incomparable."""
        named = [(name, str(self._types[name])) for name in self._columns]
        return hashlib.sha256(repr(named).encode()).digest()[:SIGNATURE_BYTES]

    def _digests(self, frame: pl.DataFrame) -> pl.Series:
        """Return 64 bits of the MD5 of each row's values in the contract's types."""
        done = transform(self._table, self._item, frame)
        typed = pl.DataFrame(
            [
                _canonical(done[name].series).alias(str(number))
                for number, name in enumerate(self._columns)
            ]
        )
        text = pl.concat_str(
            [
                pl.when(pl.col(name).is_null())
                .then(pl.lit("-"))
                .otherwise(pl.col(name).str.len_bytes().cast(pl.String) + ":" + pl.col(name))
                for name in typed.columns
            ]
        )
        rows = pa.table({"row": typed.select(text).to_series().to_arrow()})
        with duckdb.connect(":memory:") as connection:
            connection.register("rows", rows)
            found = connection.execute("select md5_number_lower(row) as digest from rows")
            return pl.Series("digest", found.to_arrow_table()["digest"], dtype=pl.UInt64)


def _unpack(packed: bytes | None, signature: bytes, item: SourceItem) -> pl.DataFrame:
    """Return how often each digest was loaded."""
    if packed and packed[:SIGNATURE_BYTES] != signature and len(packed) > SIGNATURE_BYTES:
        raise SourceError(
            item.path,
            "the columns, their types or the key of the table have changed since the last load, so "
            "rows at the cursor's boundary cannot be compared; use write_mode='merge' with a key, "
            "or restore the columns, load the pending rows, and then change the columns",
        )
    body = (packed or b"")[SIGNATURE_BYTES:]
    array = pa.Array.from_buffers(pa.uint64(), len(body) // 8, [None, pa.py_buffer(body)])
    digests = pl.Series("digest", array, dtype=pl.UInt64)
    counts = pl.DataFrame({"digest": digests}).group_by("digest").len("times")
    return counts.with_columns(pl.col("times").cast(pl.Int64))


def _canonical(series: pl.Series) -> pl.Series:
    """Return a text of each value that does not depend on the version of polars."""
    dtype = series.dtype
    if dtype == pl.Binary:
        return series.bin.encode("hex")
    if dtype == pl.Float64:
        return series.reinterpret(dtype=pl.Int64).cast(pl.String)
    if dtype == pl.Float32:
        return series.cast(pl.Float64).reinterpret(dtype=pl.Int64).cast(pl.String)
    if dtype.is_temporal():
        return series.to_physical().cast(pl.String)
    if isinstance(dtype, pl.List):
        texts = pl.element().map_batches(_canonical, return_dtype=pl.String)
        values = series.list.eval(texts)
        lists = pl.select(pl.struct(values=values).struct.json_encode()).to_series()
        return lists.set(series.is_null(), None)
    return series.cast(pl.String)
