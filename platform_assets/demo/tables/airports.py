"""Airports: one CSV, merged by code."""

import pandera.polars as pa
import polars as pl

from lakebed import CsvFiles, SourceTable


class Airport(pa.DataFrameModel):
    """Airports of the United States, with their place and time zone."""

    faa: str = pa.Field(str_length={"min_value": 3, "max_value": 3}, description="airport code")
    name: str = pa.Field(description="usual name")
    lat: pl.Float64 = pa.Field(in_range={"min_value": -90, "max_value": 90})
    lon: pl.Float64 = pa.Field(in_range={"min_value": -180, "max_value": 180})
    alt: pl.Int32 = pa.Field(description="feet above the sea")
    tz: pl.Int32 = pa.Field(description="hours from UTC")
    dst: str = pa.Field(
        nullable=True, description="daylight saving: A standard US, N none, U unknown"
    )
    tzone: str = pa.Field(nullable=True, description="IANA time zone")


airports = SourceTable(
    name="airports",
    model=Airport,
    source=CsvFiles(glob="airports.csv", null_strings=("", "NA")),
    key=("faa",),
    write_mode="merge",
    owner="team:flight-data",
)
