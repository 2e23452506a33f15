"""Planes: one CSV, merged by registration."""

import pandera.polars as pa
import polars as pl

from lakebed import CsvFiles, SourceTable


class Plane(pa.DataFrameModel):
    """Planes by tail number, as the FAA registered them."""

    tailnum: str = pa.Field(description="registration")
    year: pl.Int32 = pa.Field(
        in_range={"min_value": 1900, "max_value": 2100}, nullable=True, description="year of make"
    )
    type: str = pa.Field(nullable=True)
    manufacturer: str = pa.Field(nullable=True)
    model: str = pa.Field(nullable=True)
    engines: pl.Int32 = pa.Field(ge=0)
    seats: pl.Int32 = pa.Field(ge=0)
    speed: pl.Int32 = pa.Field(nullable=True, description="cruising speed, miles per hour")
    engine: str = pa.Field(nullable=True, description="kind of engine")


planes = SourceTable(
    name="planes",
    model=Plane,
    source=CsvFiles(glob="planes.csv", null_strings=("", "NA")),
    key=("tailnum",),
    write_mode="merge",
    owner="team:flight-data",
)
