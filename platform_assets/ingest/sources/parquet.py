"""Parquet files: row groups that cannot hold new rows are not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from platform_assets.ingest.sources.files import FileReader
from platform_assets.ingest.sources.reader import (
    BATCH_ROWS,
    Batch,
    SourceError,
    SourceItem,
    first_line,
    frame_of,
    row_numbers,
    without_doubles,
)
from platform_assets.sources import ParquetFiles


class ParquetReader(FileReader):
    """Reads ParquetFiles."""

    def __init__(self, source: ParquetFiles, data: Path) -> None:
        """Read the files of source below data."""
        super().__init__(source.glob, data)

    def columns(self, item: SourceItem) -> list[str]:
        """Return the names of a file's columns from its footer. Raises SourceError."""
        with _parquet(item) as parquet:
            return without_doubles(item, list(parquet.schema_arrow.names))

    def types(self, item: SourceItem) -> dict[str, pl.DataType | None]:
        """Return the types that a file's footer tells. Raises SourceError."""
        with _parquet(item) as parquet:
            return {field.name: _polars_type(field) for field in parquet.schema_arrow}

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows, without row groups in which no row has at least the value of newer."""
        return _parquet_batches(item, columns, newer)


def _parquet(item: SourceItem) -> pq.ParquetFile:
    if item.bytes == 0:
        raise SourceError(item.path, "the file is empty (0 bytes); deliver it again")
    try:
        return pq.ParquetFile(item.path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(
            item.path, f"this is no whole Parquet file ({first_line(error)}); deliver it again"
        ) from error


def _parquet_batches(
    item: SourceItem, columns: list[str], newer: tuple[str, Any] | None
) -> Iterator[Batch]:
    with _parquet(item) as parquet:
        row = 1
        for index in range(parquet.metadata.num_row_groups):
            rows = parquet.metadata.row_group(index).num_rows
            if newer is not None and _all_older(parquet, index, *newer):
                row += rows
                nothing = parquet.schema_arrow.empty_table().select(columns)
                yield Batch(frame_of(nothing), row_numbers(row, 0), left_out=rows)
                continue
            try:
                for batch in parquet.iter_batches(
                    BATCH_ROWS, row_groups=[index], columns=columns, use_threads=True
                ):
                    frame = frame_of(pa.Table.from_batches([batch]))
                    yield Batch(frame.select(columns), row_numbers(row, frame.height))
                    row += batch.num_rows
            except (pa.ArrowInvalid, OSError) as error:
                raise SourceError(
                    item.path, f"it is damaged after row {row - 1} ({first_line(error)})"
                ) from error


def _polars_type(field: pa.Field) -> pl.DataType:
    try:
        return frame_of(pa.schema([field]).empty_table()).dtypes[0]
    except pa.ArrowInvalid:
        return pl.Unknown()


def _all_older(parquet: pq.ParquetFile, row_group: int, column: str, value: Any) -> bool:
    index = parquet.schema_arrow.names.index(column)
    if parquet.metadata.num_columns != len(parquet.schema_arrow.names):
        return False  # nested columns: the statistics are numbered otherwise
    statistics = parquet.metadata.row_group(row_group).column(index).statistics
    if statistics is None or not statistics.has_min_max:
        return False
    try:
        return bool(statistics.max < value)
    except (TypeError, ValueError, OverflowError):
        return False  # the file has the column in another type, or finer than Python's
