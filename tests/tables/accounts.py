"""Accounts: merged by key from CSV, a month a partition."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandera.polars as pa
import polars as pl

from lakebed import CsvFiles, Grain, Partitioning, SourceTable, Tiering


class Account(pa.DataFrameModel):
    """An account as it stands."""

    opened: Annotated[pl.Datetime, "us", "UTC"]
    id: pl.Int64
    owner: str = pa.Field(nullable=True)
    balance: Annotated[pl.Decimal, 12, 2]
    changed: Annotated[pl.Datetime, "us", "UTC"]


accounts = SourceTable(
    name="accounts",
    model=Account,
    source=CsvFiles(glob="accounts/*.csv"),
    cursor="changed",
    key=("opened", "id"),
    write_mode="merge",
    partitioning=Partitioning(
        column="opened", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
    ),
    tiering=Tiering(hot_for=timedelta(days=30)),
)
