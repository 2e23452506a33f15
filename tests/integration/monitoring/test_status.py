"""The status tells where every row is, in one snapshot, without counting what is large."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from lakebed.monitoring import status, status_tables
from lakebed.monitoring.status import PlatformStatus, TableStatus, read_states, read_status
from lakebed.monitoring.status_tables import details, heat_map
from lakebed.resources.settings import Settings
from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import Grain, Window
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform, open_platform
from tests.support.processes import move_key

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06", "2024-07")


@pytest.fixture
def readings(platform: Platform) -> SourceTable:
    """The table `readings` with its leaves, months of 2024, and nothing in it."""
    table = platform.table("readings")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(
            connection, table, list(table.windows(datetime(2024, 9, 30, tzinfo=UTC)))
        )
    return table


def insert(platform: Platform, month: str, rows: int, table: str = "readings") -> None:
    """Insert rows a second apart, from the start of a month on."""
    with platform.postgres.connect() as connection:
        connection.execute(
            f"insert into {table} (at, sensor, value, number) select"  # noqa: S608
            f" '{month}-01 00:00:00+00'::timestamptz + interval '1 s' * i, 's', i, i"
            f" from generate_series(0, {rows - 1}) i"
        )


def of(platform: Platform, name: str = "readings") -> TableStatus:
    return next(table for table in read_status(platform).tables if table.name == name)


def shown(found: PlatformStatus) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    console.print(heat_map(found))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.usefixtures("readings")
def test_each_partition_is_hot_due_cold_late_or_empty(platform: Platform) -> None:
    for month, rows in (("2024-01", 10), ("2024-02", 20), ("2024-04", 40), ("2024-06", 60)):
        insert(platform, month, rows)
    moved = [move_key(platform, "readings", key) for key in ("2024-01", "2024-02")]
    insert(platform, "2024-02", 3)
    found = of(platform)
    assert [(p.key, p.state) for p in found.partitions] == list(
        zip(MONTHS, ("cold", "late", "missing", "due", "missing", "hot", "empty"), strict=True)
    )
    cold, late, _, due, *_ = found.partitions
    assert (cold.hot_rows, cold.cold_rows, cold.generation) == (0, 10, 1)
    assert (cold.bytes, late.bytes) == tuple(m.bytes for m in moved)
    assert (late.hot_rows, late.cold_rows) == (3, 20)
    assert (due.hot_rows, due.cold_rows, due.generation) == (40, 0, 0)
    assert (found.hot_rows, found.cold_rows, found.estimated) == (103, 30, False)
    assert any("cLMDMH·" in line for line in shown(read_status(platform)))
    with platform.postgres.connect() as connection:
        states = read_states(connection, platform.table("readings"), platform.clock.now())
    assert states == {p.key: p.state for p in found.partitions}


@pytest.mark.usefixtures("readings")
def test_a_fold_makes_a_late_partition_cold_in_its_next_generation(platform: Platform) -> None:
    insert(platform, "2024-01", 5)
    move_key(platform, "readings", "2024-01")
    insert(platform, "2024-01", 2)
    assert of(platform).partitions[0].state == "late"
    move_key(platform, "readings", "2024-01")
    january = of(platform).partitions[0]
    assert (january.state, january.cold_rows, january.generation) == ("cold", 7, 2)


@pytest.mark.usefixtures("readings")
def test_rows_of_a_time_to_come_are_counted_too(platform: Platform) -> None:
    insert(platform, "2024-09", 9)
    last = of(platform).partitions[-1]
    assert (last.key, last.state, last.hot_rows) == ("2024-09", "hot", 9)


@pytest.mark.usefixtures("readings")
def test_every_row_is_told_once_while_partitions_move(platform: Platform) -> None:
    for month in MONTHS[:5]:
        insert(platform, month, 200)
    moving = threading.Thread(
        target=lambda: [move_key(platform, "readings", key) for key in MONTHS[:5]]
    )
    moving.start()
    seen = set()
    while moving.is_alive():
        found = of(platform)
        seen.add((found.hot_rows + found.cold_rows, found.cold_rows))
    moving.join()
    assert {rows for rows, _ in seen} == {1000}
    assert len(seen) > 1, "nothing moved while it was looked at"


def test_a_table_that_others_made_without_leaves_is_told_by_window(platform: Platform) -> None:
    with platform.postgres.connect() as connection:
        connection.execute(
            "create table readings (at timestamptz not null, sensor text not null,"
            " value double precision, number bigint not null)"
        )
    insert(platform, "2024-03", 30)
    insert(platform, "2024-06", 6)
    counts = {p.key: p.hot_rows for p in of(platform).partitions if p.hot_rows}
    assert counts == {"2024-03": 30, "2024-06": 6}


@pytest.mark.parametrize("partition_tables", [True, False], ids=["with leaves", "without leaves"])
def test_what_is_large_is_estimated_and_said_to_be(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, partition_tables: bool
) -> None:
    table = platform.table("readings")
    with platform.postgres.connect(autocommit=True) as connection:
        if partition_tables:
            ensure_table(connection, table)
            ensure_partition_tables(connection, table, list(table.windows(platform.clock.now())))
        else:
            connection.execute(
                "create table readings (at timestamptz not null, sensor text not null,"
                " value double precision, number bigint not null)"
            )
    insert(platform, "2024-03", 60_000)
    insert(platform, "2024-06", 30_000)
    insert(platform, "2024-05", 70)
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute("analyze readings")
    monkeypatch.setattr(status, "COUNT_UP_TO", 1000)
    found = of(platform)
    counts = {p.key: p.hot_rows for p in found.partitions if p.hot_rows}
    assert found.estimated
    assert counts["2024-03"] == pytest.approx(60_000, rel=0.3)
    assert counts["2024-06"] == pytest.approx(30_000, rel=0.3)
    if partition_tables:
        assert counts["2024-05"] == 70, "a small leaf is counted"
    assert any("~" in line and "readings" in line for line in shown(read_status(platform)))


@pytest.mark.usefixtures("readings")
def test_lag_quarantine_and_requests_are_told(platform: Platform) -> None:
    with platform.postgres.connect() as connection:
        connection.execute(
            "insert into lakebed.load (load_id, table_name, started_at, cursor_to, rows_read,"
            " rejected) values ('l', 'readings', now(), '2024-06-30T21:00:00+00:00', 7, 2)"
        )
        connection.execute(
            "insert into lakebed.rejected_row (table_name, load_id, source_file, row_number,"
            " kind, rule, message, source_row)"
            " select 'readings', 'l', 'f', n, 'rule', 'r', 'bad', '{}'"
            " from generate_series(1, 2) n"
        )
        connection.execute("select lakebed.request_move('readings', '2 days')")
    found = of(platform)
    assert (found.last_rows, found.last_rejected, found.quarantined) == (7, 2, 2)
    assert (found.lag_seconds, found.requests) == (3 * 3600, 1)
    assert found.fresh is None, "the table asks for no freshness"
    table = replace(platform.table("readings"), freshness=timedelta(hours=4))
    assert of(open_platform(platform.settings, (table,))).fresh is True
    table = replace(table, freshness=timedelta(hours=2))
    late = read_status(open_platform(platform.settings, (table,)))
    assert late.tables[0].fresh is False
    console = Console(file=io.StringIO(), width=200)
    console.print(details(late))
    assert "3:00:00" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_platform_into_which_nothing_was_loaded_has_a_status(platform: Platform) -> None:
    found = read_status(platform)
    assert [(t.exists, t.hot_rows, t.cold_rows) for t in found.tables] == [(False, 0, 0)] * 2
    assert {p.state for t in found.tables for p in t.partitions} == {"empty"}
    told = json.loads(json.dumps(found.to_json()))
    assert told["now"] == "2024-07-01T00:00:00+00:00"
    assert [t["name"] for t in told["tables"]] == ["accounts", "readings"]


def test_of_very_many_partitions_the_last_are_drawn_and_all_are_counted(
    settings: Settings, platform: Platform
) -> None:
    table = platform.table("readings")
    by_hour = replace(table, partitioning=replace(table.require_partitioning, grain=Grain.HOUR))
    hourly = open_platform(settings, (by_hour,))
    hours = [
        Window(lower, lower + timedelta(hours=1), Grain.HOUR)
        for lower in (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 6, 30, 23, tzinfo=UTC))
    ]
    with hourly.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, by_hour)
        ensure_partition_tables(connection, by_hour, hours)
    insert(hourly, "2024-01", 10)
    text = " ".join(shown(read_status(hourly)))
    assert "1 due, 4368 empty" in " ".join(text.split())
    assert text.count("·") <= status_tables.CELLS + 1
