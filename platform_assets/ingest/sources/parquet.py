"""Parquet files: row groups that cannot hold new rows are not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lakebed.ingest.sources.files import FileReader
from lakebed.ingest.sources.int96 import (
    FinerThanMicrosecondsError,
    exact,
    has_int96,
    int96_columns,
)
from lakebed.ingest.sources.places import is_url, open_file
from lakebed.ingest.sources.reader import (
    BATCH_ROWS,
    Batch,
    SourceError,
    SourceItem,
    first_line,
    frame_of,
    quoted,
    row_numbers,
    types_of,
    without_doubles,
)

READ_BYTES = 1 << 20
OTHER_TYPE = "deliver that column in another type, such as Decimal or text"


class ParquetReader(FileReader):
    """Reads ParquetFiles."""

    suffixes = (".parquet", ".parq", ".pq")

    def _names(self, item: SourceItem) -> list[str]:
        with _parquet(item) as parquet:
            return without_doubles(item, list(parquet.schema_arrow.names))

    def _types(self, item: SourceItem) -> dict[str, pl.DataType | None]:
        with _parquet(item) as parquet:
            return types_of(parquet.schema_arrow)

    def count(self, item: SourceItem) -> int | None:
        """Return the number of rows in a file's footer."""
        with _parquet(item) as parquet:
            return int(parquet.metadata.num_rows)

    def _rows(
        self, item: SourceItem, columns: list[str], newer: tuple[str, Any] | None
    ) -> Iterator[Batch]:
        return _parquet_batches(item, columns, newer)


def _parquet(item: SourceItem, int96: str = "us") -> pq.ParquetFile:
    """Open a file. int96: the unit in which times of 96 bits are read."""
    if item.bytes == 0:
        raise SourceError(item.path, "the file is empty (0 bytes); deliver it again")
    try:
        if not is_url(item.path):
            return pq.ParquetFile(
                item.path, buffer_size=READ_BYTES, coerce_int96_timestamp_unit=int96
            )
        # Of a row group only the ranges of the columns that are asked for are fetched.
        return pq.ParquetFile(
            pa.PythonFile(open_file(item.path), mode="r"),
            pre_buffer=True,
            coerce_int96_timestamp_unit=int96,
        )
    except pa.ArrowNotImplementedError as error:
        raise SourceError(
            item.path, f"it has a type that cannot be read ({first_line(error)}); {OTHER_TYPE}"
        ) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(
            item.path, f"it is not a whole Parquet file ({first_line(error)}); deliver it again"
        ) from error


def _parquet_batches(
    item: SourceItem, columns: list[str], newer: tuple[str, Any] | None
) -> Iterator[Batch]:
    with _parquet(item) as parquet, _finer(item, parquet) as finer:
        row = 1
        for index in range(parquet.metadata.num_row_groups):
            rows = parquet.metadata.row_group(index).num_rows
            if newer is not None and _all_older(parquet, index, *newer):
                row += rows
                nothing = parquet.schema_arrow.empty_table().select(columns)
                yield Batch(frame_of(nothing), row_numbers(row, 0), left_out=rows)
                continue
            try:
                for batch in _batches(parquet, finer, index, columns):
                    frame = frame_of(pa.Table.from_batches([batch]))
                    yield Batch(frame.select(columns), row_numbers(row, frame.height))
                    row += batch.num_rows
            except FinerThanMicrosecondsError as error:
                raise SourceError(
                    item.path,
                    f"column {quoted(str(error))} holds nested times finer than a microsecond, "
                    f"after row {row - 1}; deliver them in microseconds, or leave the column out "
                    "with ignored=(...)",
                ) from error
            except pa.ArrowNotImplementedError as error:
                raise SourceError(
                    item.path,
                    f"it has a type that cannot be read ({first_line(error)}); {OTHER_TYPE}",
                ) from error
            except (pa.ArrowInvalid, OSError) as error:
                raise SourceError(
                    item.path, f"it is damaged after row {row - 1} ({first_line(error)})"
                ) from error


@contextmanager
def _finer(item: SourceItem, parquet: pq.ParquetFile) -> Iterator[pq.ParquetFile | None]:
    """Open a file once more, for the nanoseconds of times of 96 bits, if it has such."""
    if not has_int96(parquet):
        yield None
        return
    with _parquet(item, "ns") as finer:
        yield finer


def _batches(
    parquet: pq.ParquetFile, finer: pq.ParquetFile | None, row_group: int, columns: list[str]
) -> Iterator[pa.RecordBatch]:
    def read(file: pq.ParquetFile, names: list[str]) -> Iterator[pa.RecordBatch]:
        return cast(
            "Iterator[pa.RecordBatch]",
            file.iter_batches(BATCH_ROWS, row_groups=[row_group], columns=names, use_threads=True),
        )

    found = read(parquet, columns)
    if finer is None:
        return found
    names = int96_columns(parquet.schema_arrow, finer.schema_arrow, columns)
    return map(exact, found, read(finer, names)) if names else found


def _all_older(parquet: pq.ParquetFile, row_group: int, column: str, value: Any) -> bool:
    leaf = _leaf(parquet, column)
    if leaf is None:
        return False
    statistics = parquet.metadata.row_group(row_group).column(leaf).statistics
    if statistics is None or not statistics.has_min_max:
        return False
    newest = statistics.max
    if isinstance(newest, datetime) and isinstance(value, datetime) and newest.tzinfo is None:
        # As the casts do: a time that names no zone is one of UTC where the contract has UTC.
        newest = newest.replace(tzinfo=value.tzinfo)
    try:
        return bool(newest < value)
    except (TypeError, ValueError, OverflowError):
        return False  # the file has the column in another type, or finer than Python's


def _leaf(parquet: pq.ParquetFile, column: str) -> int | None:
    """Return the index of a column in the file's schema; None for a nested column."""
    schema = parquet.schema
    for index in range(len(schema)):
        leaf = schema.column(index)
        if leaf.path == column == leaf.name and leaf.max_repetition_level == 0:
            return index
    return None
