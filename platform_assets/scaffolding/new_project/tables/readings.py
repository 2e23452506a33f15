"""Readings of sensors: one CSV file a month, merged by key, moved to the lake after 30 days."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandera.polars as pa
import polars as pl

from lakebed import CsvFiles, Grain, Partitioning, SourceTable, Tiering


class Reading(pa.DataFrameModel):
    """What the sensors measured."""

    measured_at: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(description="in UTC")
    sensor: str = pa.Field(str_length={"min_value": 1})
    celsius: pl.Float64 = pa.Field(in_range={"min_value": -90, "max_value": 60}, nullable=True)


readings = SourceTable(
    name="readings",
    model=Reading,
    source=CsvFiles(glob="readings/*.csv"),  # below the folder data/
    cursor="measured_at",
    key=("sensor", "measured_at"),
    write_mode="merge",
    partitioning=Partitioning(
        column="measured_at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
    ),
    tiering=Tiering(hot_for=timedelta(days=30), sort=("sensor", "measured_at")),
)
