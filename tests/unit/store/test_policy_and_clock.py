"""A partition is due when its end is old, and the time is told by whoever asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.resources.clock import FixedClock, SystemClock
from lakebed.spec.table import Grain, Partitioning, SourceTable, TableError, Tiering
from lakebed.store.policy import due


class Event(pa.DataFrameModel):
    at: Annotated[pl.Datetime, "us", "UTC"]


def events(grain: str = "day", end: datetime | None = None) -> SourceTable:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return SourceTable(
        name="events",
        model=Event,
        partitioning=Partitioning(column="at", grain=Grain(grain), start=start, end=end),
        tiering=Tiering(hot_for=timedelta(days=7)),
    )


def test_a_partition_is_due_when_its_end_is_exactly_as_old_as_rows_stay_hot() -> None:
    at = datetime(2024, 1, 10, tzinfo=UTC)
    assert [w.key for w in due(events(), at)] == ["2024-01-01", "2024-01-02"]
    just_before = at - timedelta(microseconds=1)
    assert [w.key for w in due(events(), just_before)] == ["2024-01-01"]


def test_the_caller_may_have_more_or_less_patience() -> None:
    at = datetime(2024, 1, 4, tzinfo=UTC)
    assert [w.key for w in due(events(), at, timedelta(days=2))] == ["2024-01-01"]
    assert [w.key for w in due(events(), at, timedelta(0))][-1] == "2024-01-03"


def test_nothing_is_due_before_the_table_begins() -> None:
    assert due(events(), datetime(2020, 1, 1, tzinfo=UTC)) == []


def test_nothing_after_the_tables_end_is_due() -> None:
    end = datetime(2024, 1, 3, tzinfo=UTC)
    keys = [w.key for w in due(events(end=end), datetime(2030, 1, 1, tzinfo=UTC))]
    assert keys == ["2024-01-01", "2024-01-02"]


def test_a_table_without_tiering_has_nothing_that_could_be_due() -> None:
    table = SourceTable(name="plain", model=Event)
    with pytest.raises(TableError, match=r"plain.*no tiering"):
        due(table, datetime(2024, 1, 1, tzinfo=UTC))


def test_a_fixed_clock_stands_still_and_tells_utc() -> None:
    clock = FixedClock(datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now() == clock.now() == datetime(2024, 1, 1, tzinfo=UTC)
    assert clock.now().tzinfo is UTC


def test_a_clock_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time-zone-aware"):
        FixedClock(datetime(2024, 1, 1))  # noqa: DTZ001


def test_the_systems_clock_goes_on_in_utc() -> None:
    first = SystemClock().now()
    assert first.tzinfo is UTC
    assert timedelta(0) <= datetime.now(UTC) - first < timedelta(minutes=1)
