"""Two tables that others write, of many small partitions: with a key and without one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandera.polars as pa
import polars as pl

from lakebed import Grain, Partitioning, SourceTable, Tiering


class Written(pa.DataFrameModel):
    """A row of a register: the register is written, changed and deleted with all of its rows."""

    at: Annotated[pl.Datetime, "us", "UTC"]
    id: pl.Int64 = pa.Field(ge=0, description="the register")
    part: pl.Int64 = pa.Field(ge=0, description="which of its rows")
    version: pl.Int64 = pa.Field(ge=0, description="which write of the register")


keyless = SourceTable(
    name="keyless",
    model=Written,
    partitioning=Partitioning(
        column="at",
        grain=Grain.HOUR,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        end=datetime(2024, 1, 1, 6, tzinfo=UTC),
    ),
    tiering=Tiering(hot_for=timedelta(0), drop_emptied_after=timedelta(days=1)),
)
keyed = replace(keyless, name="keyed", key=("at", "id"))
