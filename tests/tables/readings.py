"""Readings: appended from Parquet, no key, a month a partition."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandera.polars as pa
import polars as pl

from lakebed import Grain, ParquetFiles, Partitioning, SourceTable, Tiering


class Reading(pa.DataFrameModel):
    """What a sensor said."""

    at: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(description="when")
    sensor: str
    value: pl.Float64 = pa.Field(nullable=True, ge=-1000, description="degrees")
    number: pl.Int64


readings = SourceTable(
    name="readings",
    model=Reading,
    source=ParquetFiles(glob="readings/*.parquet"),
    cursor="at",
    changed_files="grown",
    partitioning=Partitioning(
        column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
    ),
    tiering=Tiering(hot_for=timedelta(days=30), row_group_rows=2048),
)
