"""Partitions that have settled by one grain are changed by no other: no row is there twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakebed.ingest.load import load_window
from lakebed.monitoring.doctor import examine
from lakebed.recovery.backup import BackupError, take_backup
from lakebed.recovery.restore_backup import restore as put_back
from lakebed.recovery.rollback import RollbackError, rollback
from lakebed.schema.apply import read_plan
from lakebed.schema.ddl import DriftError, ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain, SourceTable
from lakebed.store.grain_mismatch import GrainError
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering import generations
from lakebed.tiering.housekeep import housekeep
from lakebed.tiering.restorable import RestoreRequestError, chosen
from lakebed.tiering.restore import Restored, restore
from lakebed.tiering.retention import expire
from tests.integration.tiering.test_tombstones import (
    delete,
    events,
    first,
    insert,
    manifest,
    seen,
    tombstones,
)
from tests.support.modes import ask, do
from tests.support.processes import move_key

KEYS = {
    Grain.MONTH: "2024-02",
    Grain.DAY: "2024-02-01",
    Grain.WEEK: "2024-01-29",
    Grain.YEAR: "2024",
}
"""The partitions with the rows of the tests, which are of 1 February 2024."""


def by(grain: Grain, table: SourceTable = events) -> SourceTable:
    return replace(table, partitioning=replace(table.require_partitioning, grain=grain))


def changed(platform: Platform, grain: Grain) -> Platform:
    """The platform with another grain in the table's file."""
    tables = tuple(by(grain, table) for table in platform.tables)
    return open_platform(platform.settings, tables)


def settled(platform_of: Callable[..., Platform], grain: Grain) -> Platform:
    """Events 0 to 9, in the cold tier by a grain."""
    table = by(grain)
    platform = platform_of(table)
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(connection, table, [window_for_key(grain, KEYS[grain])])
    insert(platform, *range(10))
    move_key(platform, "events", KEYS[grain])
    return platform


def bring_back(platform: Platform, grain: Grain) -> Restored:
    table, window = platform.table("events"), window_for_key(grain, KEYS[grain])
    return restore(platform.postgres, platform.lake, table, window, platform.clock.now())


@pytest.mark.parametrize(
    "old, new",
    [
        (Grain.MONTH, Grain.DAY),
        (Grain.DAY, Grain.MONTH),
        (Grain.WEEK, Grain.MONTH),
        (Grain.MONTH, Grain.YEAR),
    ],
)
def test_late_rows_and_tombstones_wait_for_the_grain_of_the_file_they_belong_to(
    platform_of: Callable[..., Platform], old: Grain, new: Grain
) -> None:
    before = settled(platform_of, old)
    insert(before, 5, note="late")
    delete(before, 3)
    platform = changed(before, new)
    expected = sorted([*first(3, 5), (5, "late")])
    window = window_for_key(new, KEYS[new])
    for change in (
        lambda: move_key(platform, "events", KEYS[new]),
        lambda: bring_back(platform, new),
        lambda: expire(platform.lake, platform.table("events"), window),
    ):
        with pytest.raises(GrainError, match=rf"in {KEYS[old]} \({old}\), and .* says {new} now"):
            change()
    assert manifest(platform) == [(1, 10, True)]
    assert tombstones(platform) == [3]
    assert seen(platform) == expected
    move_key(before, "events", KEYS[old])
    assert seen(before) == expected
    assert bring_back(before, old).rows == 9
    move_key(platform, "events", KEYS[new])
    assert seen(platform) == expected
    assert ask(platform, "select count(*) from events") == [(0,)]


def test_without_the_refusal_a_row_is_there_twice(
    platform_of: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = changed(settled(platform_of, Grain.MONTH), Grain.DAY)
    insert(platform, 5, note="late")
    monkeypatch.setattr(generations, "check_grain", lambda *_: None)
    move_key(platform, "events", KEYS[Grain.DAY])
    with platform.lake.session() as session:
        rows = session.sql("select note from events where id = 5 order by 1").fetchall()
    assert rows == [("first",), ("late",)]


def test_a_day_and_a_week_of_the_same_key_are_two(platform_of: Callable[..., Platform]) -> None:
    platform = platform_of(by(Grain.WEEK))
    table = platform.table("events")
    monday = window_for_key(Grain.WEEK, "2024-02-05")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(connection, table, [monday])
    insert(platform, 100)  # on Monday the 5th
    move_key(platform, "events", monday.key)
    insert(platform, 100, note="late")
    with pytest.raises(GrainError, match=r"2024-02-05 \(week\)"):
        move_key(changed(platform, Grain.DAY), "events", monday.key)


def test_others_than_those_that_overlap_move_as_ever(platform_of: Callable[..., Platform]) -> None:
    platform = changed(settled(platform_of, Grain.DAY), Grain.MONTH)
    do(
        platform,
        "create table later partition of events for values from ('2024-03-01Z') to ('2024-04-01Z')",
        "insert into events values ('2024-03-05Z', 50, 'other')",
    )
    assert move_key(platform, "events", "2024-03").rows == 1


def test_a_leaf_of_another_grain_in_the_way_is_named(platform_of: Callable[..., Platform]) -> None:
    platform = changed(settled(platform_of, Grain.MONTH), Grain.DAY)
    days = [window_for_key(Grain.DAY, KEYS[Grain.DAY])]
    with (
        platform.postgres.connect(autocommit=True) as connection,
        pytest.raises(
            DriftError, match=r'2024-02-01: partition .* overlap partition "events_2024_02"'
        ),
    ):
        ensure_partition_tables(connection, platform.table("events"), days)


def test_the_plan_the_doctor_and_a_restore_by_time_say_it(
    platform_of: Callable[..., Platform],
) -> None:
    platform = changed(settled(platform_of, Grain.MONTH), Grain.DAY)
    table = platform.table("events")
    with platform.postgres.connect(autocommit=True) as connection:
        told = [c for c in read_plan(connection, table, platform.clock.now()).changes if c.why]
        with pytest.raises(RestoreRequestError, match=r"2024-02 \(month\)"):
            chosen(connection, table, (), "2024-02-01", None)
    assert [change.safety for change in told] == ["refused"]
    assert "Put grain=Grain.MONTH back" in told[0].why
    found = [f for f in examine(platform).findings if "another grain" in f.what]
    assert [(f.level, f.where) for f in found] == [("wrong", "events")]
    assert "lakebed restore events --partition 2024-02" in found[0].todo


@pytest.mark.parametrize("dry_run", [True, False])
def test_retention_leaves_what_settled_by_another_grain(
    platform_of: Callable[..., Platform], dry_run: bool
) -> None:
    before = settled(platform_of, Grain.MONTH)
    table = by(Grain.DAY, before.table("events"))
    keeps = replace(table, tiering=replace(table.require_tiering, keep_cold_for=timedelta(days=2)))
    platform = open_platform(before.settings, (keeps,))
    done = housekeep(platform, dry_run=dry_run)
    assert done.expired == []
    assert any("2024-02 (month)" in why for why in done.failed)
    assert seen(platform) == first()


@pytest.fixture
def windowed(platform: Platform) -> Platform:
    """Readings loaded by month: ten of 1 February 2024, which have settled."""
    table = replace(platform.table("readings"), load_by="window", changed_files=None)
    platform = open_platform(platform.settings, (table,))
    deliver(platform, 1.0)
    load(platform, Grain.MONTH)
    move_key(platform, "readings", KEYS[Grain.MONTH])
    return platform


def deliver(platform: Platform, value: float) -> None:
    start = datetime(2024, 2, 1, tzinfo=UTC)
    folder = platform.settings.data / "readings"
    folder.mkdir(exist_ok=True)
    pl.DataFrame(
        {
            "at": [start + timedelta(hours=i) for i in range(10)],
            "sensor": ["a"] * 10,
            "value": [value] * 10,
            "number": range(10),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    ).write_parquet(folder / "all.parquet")


def load(platform: Platform, grain: Grain) -> int:
    table, window = platform.table("readings"), window_for_key(grain, KEYS[grain])
    report = load_window(platform.settings, platform.postgres, platform.clock, table, window)
    return report.inserted


def readings(platform: Platform) -> list[tuple[float, int]]:
    with platform.lake.session() as session:
        return session.sql("select value, count(*) from readings group by 1 order by 1").fetchall()


def test_a_load_by_window_replaces_no_part_of_another_grain(windowed: Platform) -> None:
    platform = changed(windowed, Grain.YEAR)
    do(platform, "drop table readings_2024_02")
    deliver(platform, 2.0)
    with pytest.raises(GrainError, match=r"readings 2024: .* 2024-02 \(month\)"):
        load(platform, Grain.YEAR)
    assert readings(platform) == [(1.0, 10)]


def test_neither_a_rollback_nor_a_backup_brings_another_grain_back(windowed: Platform) -> None:
    backup = take_backup(
        windowed.settings.home, windowed.postgres, windowed.lake, windowed.table("readings")
    )
    deliver(windowed, 2.0)
    assert load(windowed, Grain.MONTH) == 10
    platform = changed(windowed, Grain.DAY)
    table, files = platform.table("readings"), platform.lake.files
    with pytest.raises(RollbackError, match=r"2024-02 \(month\)"):
        rollback(platform.postgres, files, table)
    with pytest.raises(BackupError, match=r"2024-02 \(month\)"):
        put_back(platform.settings.home, platform.postgres, files, table, backup.backup_id)
    assert readings(platform) == [(2.0, 10)]
    rollback(windowed.postgres, files, windowed.table("readings"))
    assert readings(windowed) == [(1.0, 10)]


def test_a_move_sees_what_settled_in_its_own_snapshot(
    platform_of: Callable[..., Platform],
) -> None:
    """A mover of the old grain that commits first is seen, as it took rows that this one wants."""
    before = settled(platform_of, Grain.MONTH)
    bring_back(before, Grain.MONTH)
    platform = changed(before, Grain.DAY)
    once = iter([True])

    def other(step: str) -> None:
        if step == "locked" and next(once, False):
            # In the snapshot of the day nothing has settled; its delete must fail.
            move_key(before, "events", KEYS[Grain.MONTH])

    with pytest.raises(GrainError):
        move_key(platform, "events", KEYS[Grain.DAY], on_step=other)
    assert seen(platform) == first()
