"""What may go and what must stay is judged from facts alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.spec.partitions import Grain, Window, window_for_key
from lakebed.spec.table import Partitioning, SourceTable, TableError, Tiering
from lakebed.tiering.horizon import Holder, Horizon, StayReason, widen
from lakebed.tiering.partition_tables import PartitionTable, gaps, may_drop
from lakebed.tiering.retention import is_past
from lakebed.tiering.superseded import _Superseded, judge

NOW = datetime(2024, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Event(pa.DataFrameModel):
    at: Annotated[pl.Datetime, "us", "UTC"]


def events(**policies: timedelta) -> SourceTable:
    return SourceTable(
        name="events",
        model=Event,
        partitioning=Partitioning(
            column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
        ),
        tiering=Tiering(hot_for=30 * DAY, **policies),
    )


def holder(xmin: int) -> Holder:
    return Holder("session", 1, "psql", xmin, NOW)


def month(key: str) -> Window:
    return window_for_key(Grain.MONTH, key)


def partition_table(key: str | None) -> PartitionTable:
    return PartitionTable(
        f"events_{key}", "public", month(key) if key else None, key is None, 0, False
    )


def test_a_snapshot_sees_what_was_done_before_its_xmin_and_not_its_xmin_itself() -> None:
    horizon = Horizon((holder(100), holder(90)))
    assert horizon.blind_to(89) == []
    assert [h.xmin for h in horizon.blind_to(90)] == [90]
    assert [h.xmin for h in horizon.blind_to(100)] == [90, 100]
    assert horizon.why_not(89) is None
    assert "session 1 (psql, since 2024-07-01 00:00:00 UTC)" in str(horizon.why_not(90))


def test_sessions_that_may_not_be_looked_at_hold_the_horizon_too() -> None:
    hidden = Horizon((), hidden=2).why_not(1)
    assert hidden is not None
    assert hidden.reason is StayReason.HIDDEN


@pytest.mark.parametrize(
    ("xid", "newest", "wide"),
    [
        (700, 750, 700),
        (751, 750, 751),
        (4_294_967_290, 2**32 + 5, 4_294_967_290),
        (3, 2**32 + 5, 2**32 + 3),
        (2, 2**32 - 1, 2**32 + 2),
        (4_294_967_295, 5 * 2**32 + 9, 5 * 2**32 - 1),
    ],
)
def test_a_transaction_id_is_widened_across_the_wraparound(
    xid: int, newest: int, wide: int
) -> None:
    assert widen(xid, newest) == wide


def superseded(since: datetime, xmin: int = 50, *, pinned: bool = False) -> _Superseded:
    return _Superseded("events", "a.parquet", 7, since, xmin, pinned)


def test_a_superseded_file_goes_when_its_grace_is_over_and_everybody_sees_it() -> None:
    horizon = Horizon((holder(51),))
    old = superseded(NOW - DAY)
    assert judge([old], horizon, NOW, DAY) == ([old], [])
    for row, reason in (
        (superseded(NOW - DAY + timedelta(microseconds=1)), StayReason.GRACE),
        (superseded(NOW - DAY, 51), StayReason.SNAPSHOT),
        (superseded(NOW - DAY, pinned=True), StayReason.BACKUP),
    ):
        going, (spared,) = judge([row], horizon, NOW, DAY)
        assert going == []
        assert spared.reason is reason


def test_a_gap_is_a_window_between_leaves_that_is_neither_there_nor_cold() -> None:
    windows = [month(f"2024-{m:02}") for m in range(1, 8)]
    partition_tables = [
        partition_table("2024-02"),
        partition_table("2024-04"),
        partition_table("2024-06"),
        partition_table(None),
    ]
    assert [w.key for w in gaps(partition_tables, windows, {"2024-03"})] == ["2024-05"]
    assert gaps([partition_table(None)], windows, ()) == []


def test_a_leaf_may_go_when_its_end_is_exactly_so_old() -> None:
    drops = events(drop_emptied_after=61 * DAY)
    assert may_drop(drops, partition_table("2024-04"), NOW)
    assert not may_drop(drops, partition_table("2024-04"), NOW - timedelta(microseconds=1))
    assert not may_drop(drops, partition_table(None), NOW)
    assert not may_drop(events(), partition_table("2024-01"), NOW)


def test_a_cold_partition_is_past_when_its_end_is_exactly_so_old() -> None:
    keeps = events(keep_cold_for=61 * DAY)
    assert is_past(month("2024-04"), keeps, NOW)
    assert not is_past(month("2024-04"), keeps, NOW - timedelta(microseconds=1))
    assert not is_past(month("2024-01"), events(), NOW)


@pytest.mark.parametrize("policy", ["drop_emptied_after", "keep_cold_for"])
def test_nothing_is_dropped_before_it_settles(policy: str) -> None:
    with pytest.raises(TableError, match=rf"'events'.*tiering.{policy}.*hot_for \(30 days"):
        events(**{policy: 30 * DAY})
    with pytest.raises(TableError, match=r"late_for.*Expected 0 or more"):
        events(late_for=-DAY)
