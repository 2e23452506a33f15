"""Flights: one Parquet file for each month, merged by key, moved to the lake after 90 days."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandera.polars as pa
import polars as pl

from lakebed import Grain, ParquetFiles, Partitioning, SourceTable, Tiering


class Flight(pa.DataFrameModel):
    """All 336,776 flights that left New York City (EWR, JFK, LGA) in 2013.

    A flight without a departure delay was cancelled. Times of day are local, as HMM or HHMM.
    """

    time_hour: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(
        description="scheduled departure, cut to the hour"
    )
    carrier: str = pa.Field(str_length={"min_value": 2, "max_value": 2}, description="airline code")
    flight: pl.Int32 = pa.Field(gt=0, description="flight number")
    tailnum: str = pa.Field(nullable=True, description="registration of the plane")
    origin: str = pa.Field(isin=["EWR", "JFK", "LGA"], description="airport of departure")
    dest: str = pa.Field(
        str_length={"min_value": 3, "max_value": 3}, description="airport of arrival"
    )
    sched_dep_time: pl.Int32 = pa.Field(in_range={"min_value": 0, "max_value": 2400})
    dep_time: pl.Int32 = pa.Field(in_range={"min_value": 0, "max_value": 2400}, nullable=True)
    dep_delay: pl.Int32 = pa.Field(nullable=True, description="minutes; negative is early")
    sched_arr_time: pl.Int32 = pa.Field(in_range={"min_value": 0, "max_value": 2400})
    arr_time: pl.Int32 = pa.Field(in_range={"min_value": 0, "max_value": 2400}, nullable=True)
    arr_delay: pl.Int32 = pa.Field(nullable=True, description="minutes; negative is early")
    air_time: pl.Int32 = pa.Field(gt=0, nullable=True, description="minutes in the air")
    distance: pl.Int32 = pa.Field(gt=0, description="miles between the airports")


flights = SourceTable(
    name="flights",
    model=Flight,
    source=ParquetFiles(glob="flights/*.parquet"),
    # The calendar parts of time_hour, in local time: nothing that time_hour does not say.
    ignored=("year", "month", "day", "hour", "minute"),
    cursor="time_hour",
    key=("time_hour", "carrier", "flight"),
    write_mode="merge",
    partitioning=Partitioning(
        column="time_hour",
        grain=Grain.MONTH,
        start=datetime(2013, 1, 1, tzinfo=UTC),
        end=datetime(2014, 2, 1, tzinfo=UTC),
    ),
    tiering=Tiering(hot_for=timedelta(days=90), sort=("origin", "carrier", "time_hour")),
    owner="team:flight-data",
    freshness=timedelta(days=2),
)
