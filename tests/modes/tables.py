"""One table for each way of writing: replace, deletes, history, lookups."""

from datetime import UTC, datetime
from typing import Annotated

import pandera.polars as pa
import polars as pl

from lakebed import (
    CsvFiles,
    Deletes,
    Grain,
    Lookup,
    ParquetFiles,
    Partitioning,
    SourceTable,
)


class Price(pa.DataFrameModel):
    """A price; two of them may be alike."""

    item: str = pa.Field(alias='the "item"')
    price: pl.Int64 = pa.Field(nullable=True, alias="Price %s")


class Airport(pa.DataFrameModel):
    """An airport, to which others refer."""

    code: str = pa.Field(alias="order")
    name: str = pa.Field(nullable=True)


class Member(pa.DataFrameModel):
    """A member, who may have left."""

    id: pl.Int64
    name: str = pa.Field(alias="select")
    changed: Annotated[pl.Datetime, "us", "UTC"]


class Stock(pa.DataFrameModel):
    """What is in stock."""

    day: Annotated[pl.Datetime, "us", "UTC"]
    item: str
    pieces: pl.Int64 = pa.Field(ge=0)


class Customer(pa.DataFrameModel):
    """A customer, as the source had it at a time."""

    id: pl.Int64
    city: str = pa.Field(nullable=True, alias="kind")
    seen: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(alias="at")


class Tariff(pa.DataFrameModel):
    """A tariff, as the extract has it."""

    code: str
    rate: pl.Float64 = pa.Field(nullable=True)


class Ticket(pa.DataFrameModel):
    """A ticket, whose changes are numbered."""

    id: pl.Int64
    state: str
    version: pl.Int64


class Article(pa.DataFrameModel):
    """An article, which names its publication and its place."""

    url: str
    publication: str = pa.Field(nullable=True, alias="publication name")
    country: str = pa.Field(nullable=True)
    city: str = pa.Field(nullable=True)


class Match(pa.DataFrameModel):
    """A match of two teams, which are to be there already."""

    number: pl.Int64
    home: str
    away: str = pa.Field(nullable=True)


prices = SourceTable(
    name="prices",
    model=Price,
    source=ParquetFiles(glob="prices/*.parquet"),
    write_mode="replace",
)
airports = SourceTable(
    name="airports",
    model=Airport,
    source=CsvFiles(glob="airports/*.csv"),
    write_mode="replace",
    key=("order",),
)
members = SourceTable(
    name="members",
    model=Member,
    source=CsvFiles(glob="members/*.csv"),
    write_mode="merge",
    key=("id",),
    cursor="changed",
    deletes=Deletes(marker="left ?"),
)
stock = SourceTable(
    name="stock",
    model=Stock,
    source=CsvFiles(glob="stock/*.csv"),
    write_mode="merge",
    key=("day", "item"),
    partitioning=Partitioning(
        column="day", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
    ),
    deletes="full_extract",
    reject_share=0.5,
)
customers = SourceTable(
    name="customers",
    model=Customer,
    source=CsvFiles(glob="customers/*.csv"),
    write_mode="history",
    key=("id",),
    cursor="at",
    deletes=Deletes(marker="gone", values=("X",)),
)
tariffs = SourceTable(
    name="tariffs",
    model=Tariff,
    source=CsvFiles(glob="tariffs/*.csv"),
    write_mode="history",
    key=("code",),
    deletes="full_extract",
)
tickets = SourceTable(
    name="tickets",
    model=Ticket,
    source=CsvFiles(glob="tickets/*.csv"),
    write_mode="history",
    key=("id",),
    cursor="version",
)
articles = SourceTable(
    name="articles",
    model=Article,
    source=ParquetFiles(glob="articles/*.parquet"),
    lookups=(
        Lookup(
            column="publication_id",
            natural=("publication name",),
            table="publications",
            natural_key=("name",),
        ),
        Lookup(column="place", natural=("country", "city"), table="places", keep=True),
    ),
)
matches = SourceTable(
    name="matches",
    model=Match,
    source=CsvFiles(glob="matches/*.csv"),
    write_mode="merge",
    key=("number", "home_id"),
    lookups=(
        Lookup(
            column="home_id",
            natural=("home",),
            table="teams",
            natural_key=("name",),
            insert_missing=False,
        ),
        Lookup(
            column="away_id",
            natural=("away",),
            table="teams",
            natural_key=("name",),
            insert_missing=False,
        ),
    ),
    reject_share=0.4,
)
