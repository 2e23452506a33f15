"""What the tests of a move share: a table `events` with ten rows in one month, and questions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl

from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain, Partitioning, SourceTable, Tiering
from lakebed.store.platform import Platform

BY_MONTH = Partitioning(column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC))
SETTLES = Tiering(hot_for=timedelta(days=1))


class Event(pa.DataFrameModel):
    """Events of an application."""

    at: Annotated[pl.Datetime, "us", "UTC"]
    id: pl.Int64 = pa.Field(description="which")
    note: str = pa.Field(nullable=True)
    amount: Annotated[pl.Decimal, 12, 2] = pa.Field(nullable=True)


def events(**fields: Any) -> SourceTable:
    given = {"name": "events", "model": Event, "partitioning": BY_MONTH, "tiering": SETTLES}
    return SourceTable(**given | fields)


def prepared(platform: Platform) -> Platform:
    table = platform.table("events")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(connection, table, [window_for_key(Grain.MONTH, "2024-02")])
    insert(platform, *range(10))
    return platform


def insert(platform: Platform, *ids: int, note: str = "first") -> None:
    with platform.postgres.connect() as connection:
        connection.cursor().executemany(
            "insert into events"
            " values ('2024-02-01Z'::timestamptz + %s * interval '1 hour', %s, %s)",
            [(id, id, note) for id in ids],
        )


def run(platform: Platform, statement: str) -> None:
    with platform.postgres.connect() as connection:
        connection.execute(statement)


def seen(platform: Platform) -> list[tuple[int, str]]:
    with platform.lake.session() as session:
        return session.sql("select id, note from events order by all").fetchall()


def manifest(platform: Platform) -> list[tuple[Any, ...]]:
    with platform.postgres.connect() as connection:
        return connection.execute(
            "select generation, rows, superseded_at is null from lakebed.cold_file order by 1"
        ).fetchall()


def hot_rows(platform: Platform) -> int:
    with platform.postgres.connect() as connection:
        return connection.execute("select count(*) from events").fetchall()[0][0]
