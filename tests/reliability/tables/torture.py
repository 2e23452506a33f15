"""One small table for each way to write, all over events with a number that tells them apart."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import pandera.polars as pa
import polars as pl

from lakebed import CsvFiles, Deletes, Grain, ParquetFiles, Partitioning, SourceTable


class Event(pa.DataFrameModel):
    """Something that happened; `changed` is when it was last told of."""

    at: Annotated[pl.Datetime, "us", "UTC"]
    number: pl.Int64 = pa.Field(ge=0)
    value: pl.Int64
    changed: Annotated[pl.Datetime, "us", "UTC"]


appended = SourceTable(
    name="appended",
    model=Event,
    source=ParquetFiles(glob="appended/*.parquet"),
    cursor="changed",
    reject_share=0.5,
    partitioning=Partitioning(
        column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
    ),
)
apart = replace(
    appended, name="apart", source=ParquetFiles(glob="apart/*.parquet"), parallel_files=3
)
grown = replace(appended, name="grown", source=CsvFiles(glob="grown/*.csv"), changed_files="grown")
merged = replace(
    appended,
    name="merged",
    source=CsvFiles(glob="merged/*.csv"),
    key=("at", "number"),
    write_mode="merge",
    changed_files=None,
)
windowed = replace(
    appended,
    name="windowed",
    source=ParquetFiles(glob="windowed/*.parquet"),
    load_by="window",
)
replaced = replace(
    appended,
    name="replaced",
    source=ParquetFiles(glob="replaced/*.parquet"),
    write_mode="replace",
    changed_files=None,
)
history = SourceTable(
    name="history",
    model=Event,
    source=ParquetFiles(glob="history/*.parquet"),
    cursor="changed",
    key=("number",),
    write_mode="history",
    reject_share=0.5,
)
mirrored = SourceTable(
    name="mirrored",
    model=Event,
    source=ParquetFiles(glob="mirrored/*.parquet"),
    cursor="changed",
    key=("number",),
    write_mode="merge",
    deletes=Deletes(full_extract=True, at_most=1.0),
    reject_share=0.5,
)
