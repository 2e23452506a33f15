"""What the tests of databases and APIs share: a table of orders, loads and answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl

from lakebed.ingest.load import load_table
from lakebed.ingest.report import LoadReport
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform


class Order(pa.DataFrameModel):
    """An order."""

    id: pl.Int64
    customer: str = pa.Field(nullable=True)
    amount: Annotated[pl.Decimal, 12, 2] = pa.Field(nullable=True)
    changed: Annotated[pl.Datetime, "us", "UTC"]


class Event(pa.DataFrameModel):
    """Something that happened, without a key."""

    at: pl.Int64
    what: str


def orders(source: Any, **more: Any) -> SourceTable:
    options = {"cursor": "changed", "key": ("id",), "write_mode": "merge"} | more
    return SourceTable(name="orders", model=Order, source=source, **options)


def events(source: Any, **more: Any) -> SourceTable:
    return SourceTable(name="events", model=Event, source=source, **{"cursor": "at"} | more)


def load(platform: Platform, name: str) -> LoadReport:
    report = load_table(platform.settings, platform.postgres, platform.clock, platform.table(name))
    assert report.balanced, report
    return report


def load_well(platform: Platform, name: str) -> LoadReport:
    report = load(platform, name)
    assert report.refused == ()
    return report


def ask(platform: Platform, query: str) -> list[Any]:
    with platform.postgres.connect() as connection:
        return connection.execute(query).fetchall()


def whats(platform: Platform) -> list[Any]:
    return ask(platform, "select at, what from events order by at, what")


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2024, 3, number, hour, tzinfo=UTC)
