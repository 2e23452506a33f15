"""Airlines: one CSV, merged by carrier."""

import pandera.polars as pa

from lakebed import CsvFiles, SourceTable


class Airline(pa.DataFrameModel):
    """The names of the carriers."""

    carrier: str = pa.Field(str_length={"min_value": 2, "max_value": 2}, description="airline code")
    name: str = pa.Field(description="full name")


airlines = SourceTable(
    name="airlines",
    model=Airline,
    source=CsvFiles(glob="airlines.csv"),
    key=("carrier",),
    write_mode="merge",
    owner="team:flight-data",
)
