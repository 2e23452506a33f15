"""Weather: one gzip CSV for each month, appended (no key), moved to the lake after 90 days."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandera.polars as pa
import polars as pl

from lakebed import CsvFiles, Grain, Partitioning, SourceTable, Tiering


class Weather(pa.DataFrameModel):
    """Hourly observations at the three airports of New York City in 2013."""

    time_hour: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(description="hour of observation")
    origin: str = pa.Field(isin=["EWR", "JFK", "LGA"], description="airport")
    temp: pl.Float64 = pa.Field(
        in_range={"min_value": -80, "max_value": 140}, nullable=True, description="Fahrenheit"
    )
    dewp: pl.Float64 = pa.Field(nullable=True, description="dew point, Fahrenheit")
    humid: pl.Float64 = pa.Field(
        in_range={"min_value": 0, "max_value": 100}, nullable=True, description="percent"
    )
    wind_dir: pl.Int32 = pa.Field(
        in_range={"min_value": 0, "max_value": 360}, nullable=True, description="degrees"
    )
    wind_speed: pl.Float64 = pa.Field(ge=0, nullable=True, description="miles per hour")
    wind_gust: pl.Float64 = pa.Field(ge=0, nullable=True, description="miles per hour")
    precip: pl.Float64 = pa.Field(ge=0, nullable=True, description="inches")
    pressure: pl.Float64 = pa.Field(nullable=True, description="sea level, millibars")
    visib: pl.Float64 = pa.Field(ge=0, nullable=True, description="visibility, miles")


weather = SourceTable(
    name="weather",
    model=Weather,
    source=CsvFiles(glob="weather/*.csv.gz", null_strings=("", "NA")),
    ignored=("year", "month", "day", "hour"),
    cursor="time_hour",
    partitioning=Partitioning(
        column="time_hour",
        grain=Grain.MONTH,
        start=datetime(2013, 1, 1, tzinfo=UTC),
        end=datetime(2014, 2, 1, tzinfo=UTC),
    ),
    tiering=Tiering(hot_for=timedelta(days=90), sort=("origin", "time_hour")),
    owner="team:flight-data",
    freshness=timedelta(days=2),
)
