"""Every source row is in the table once, however a load dies and whatever dlt forgot."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakebed.ingest.load import load_table
from lakebed.store.platform import Platform
from tests.support import processes

STEPS = ("extracted", "began", "copied", "written", "recorded", "committed")
ROWS = 1000
SUMS = {
    "readings": ("select count(*), sum(number)::bigint from readings", (ROWS, ROWS * 999 // 2)),
    "accounts": ("select count(*), sum(balance * 100)::bigint from accounts", (ROWS, ROWS * 100)),
}


def deliver(platform: Platform) -> None:
    """Write two files a table; the second file of accounts changes half of the first's rows."""
    start = datetime(2024, 2, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "at": [start + timedelta(hours=i) for i in range(ROWS)],
            "sensor": ["a", "b"] * (ROWS // 2),
            "value": [0.5, None] * (ROWS // 2),
            "number": range(ROWS),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )
    folder = platform.settings.data / "readings"
    folder.mkdir()
    frame.head(400).write_parquet(folder / "1.parquet")
    frame.tail(600).write_parquet(folder / "2.parquet")
    accounts = frame.select(
        opened="at", id="number", owner="sensor", balance=pl.lit("9.99"), changed="at"
    )
    folder = platform.settings.data / "accounts"
    folder.mkdir()
    accounts.head(600).write_csv(folder / "1.csv")
    second = accounts.with_columns(
        balance=pl.lit("1.00"), changed=pl.col("changed") + timedelta(days=90)
    )
    second.write_csv(folder / "2.csv")


def seen(platform: Platform, name: str) -> processes.Answer:
    with platform.lake.session() as session:
        return tuple(session.sql(SUMS[name][0]).fetchall()[0])


def load(
    platform: Platform, name: str, kill: str | None = None, sabotage: str | None = None
) -> int:
    return processes.run(processes.load, platform.settings, name, kill, sabotage)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", SUMS)
@pytest.mark.thorough_but("written", "committed")
def test_a_load_killed_after_a_step_loads_each_row_once_when_run_again(
    platform: Platform, name: str, step: str
) -> None:
    deliver(platform)
    assert load(platform, name, kill=step) == -9
    shutil.rmtree(platform.settings.home / "dlt", ignore_errors=True)
    with platform.postgres.connect() as connection:
        loads, rows = connection.execute(
            f"select (select count(*) from lakebed.load), count(*) from {name}"  # noqa: S608
        ).fetchall()[0]
    assert (loads, rows) == ((1, ROWS) if step == "committed" else (0, 0))
    assert load(platform, name) == 0
    assert seen(platform, name) == SUMS[name][1]
    assert load(platform, name) == 0
    assert seen(platform, name) == SUMS[name][1]
    with platform.postgres.connect() as connection:
        found = connection.execute(
            "select count(distinct load_id), count(*), sum(rows_read) from lakebed.loaded_file"
        )
        assert found.fetchone() == (1, 2, ROWS if name == "readings" else 1600)


@pytest.mark.parametrize("sabotage", processes.LOAD_SABOTAGES)
@pytest.mark.thorough_but("forget the files")
def test_rows_are_doubled_where_the_load_has_lost_its_fence(
    platform: Platform, sabotage: str
) -> None:
    deliver(platform)
    load(platform, "readings", kill="written" if "write" in sabotage else None, sabotage=sabotage)
    assert load(platform, "readings") == 0
    assert seen(platform, "readings") != SUMS["readings"][1]


def test_loads_of_one_table_at_once_load_each_row_once(platform: Platform) -> None:
    deliver(platform)
    for name in SUMS:
        started = [
            processes.CONTEXT.Process(
                target=processes.load, args=(platform.settings, name, None, None)
            )
            for _ in range(3)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(processes.PATIENCE)
        assert [process.exitcode for process in started] == [0, 0, 0]
        assert seen(platform, name) == SUMS[name][1]


def test_a_moved_row_is_not_loaded_again(platform: Platform) -> None:
    deliver(platform)
    assert load(platform, "readings") == 0
    processes.move_key(platform, "readings", "2024-02")
    table = platform.table("readings")
    report = load_table(platform.settings, platform.postgres, platform.clock, table)
    assert report.load_id is None
    assert seen(platform, "readings") == SUMS["readings"][1]
