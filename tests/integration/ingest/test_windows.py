"""Loads by window: a partition is replaced as a whole, hot or cold, for every reader at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakebed.ingest.load import load_table, load_window
from lakebed.ingest.report import LoadReport
from lakebed.ingest.sources.reader import SourceError
from lakebed.ingest.windows import WindowWriter
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import SourceTable, TableError
from lakebed.store.platform import Platform, open_platform
from tests.support import processes

DAYS = 60
STEPS = ("extracted", "began", "copied", "written", "recorded", "committed")


@pytest.fixture
def windowed(platform: Platform) -> tuple[Platform, SourceTable]:
    """Readings loaded by month, from a file with ten rows for each of 60 days from 2024-02-01."""
    table = replace(platform.table("readings"), load_by="window", changed_files=None)
    return open_platform(platform.settings, (table,)), table


def deliver(platform: Platform, value: float, *, days: int = DAYS, **columns: Any) -> None:
    start = datetime(2024, 2, 1, tzinfo=UTC)
    rows = days * 10
    frame = pl.DataFrame(
        {
            "at": [start + timedelta(hours=2.4 * i) for i in range(rows)],
            "sensor": ["a"] * rows,
            "value": [value] * rows,
            "number": range(rows),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    ).with_columns(**columns)
    folder = platform.settings.data / "readings"
    folder.mkdir(exist_ok=True)
    frame.write_parquet(folder / "all.parquet")


def load(platform: Platform, table: SourceTable, key: str, **more: Any) -> LoadReport:
    window = window_for_key(table.require_partitioning.grain, key)
    return load_window(platform.settings, platform.postgres, platform.clock, table, window, **more)


def months(platform: Platform) -> list[tuple[Any, ...]]:
    with platform.lake.session() as session:
        return session.sql(
            "select strftime(\"at\" at time zone 'UTC', '%Y-%m'), count(*), sum(value)"
            " from readings group by all order by all"
        ).fetchall()


FEBRUARY, MARCH = 290, 310


def test_a_window_is_replaced_and_the_others_stay(windowed: tuple[Platform, SourceTable]) -> None:
    platform, table = windowed
    deliver(platform, 1)
    report = load(platform, table, "2024-02")
    assert (report.rows_read, report.inserted, report.balanced) == (FEBRUARY, FEBRUARY, True)
    load(platform, table, "2024-03")
    deliver(platform, 2)
    for _ in range(2):
        load(platform, table, "2024-02")
        assert months(platform) == [
            ("2024-02", FEBRUARY, 2.0 * FEBRUARY),
            ("2024-03", MARCH, 1.0 * MARCH),
        ]


def test_a_window_that_has_settled_comes_back_replaced(
    windowed: tuple[Platform, SourceTable],
) -> None:
    platform, table = windowed
    deliver(platform, 1)
    load(platform, table, "2024-02")
    processes.move_key(platform, "readings", "2024-02")
    deliver(platform, 2)
    load(platform, table, "2024-02")
    assert months(platform) == [("2024-02", FEBRUARY, 2.0 * FEBRUARY)]
    moved = processes.move_key(platform, "readings", "2024-02")
    assert (moved.generation, moved.rows) == (2, FEBRUARY)
    assert months(platform) == [("2024-02", FEBRUARY, 2.0 * FEBRUARY)]


def test_rows_are_doubled_where_a_window_is_filled_before_it_is_emptied(
    windowed: tuple[Platform, SourceTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, table = windowed
    deliver(platform, 1)
    load(platform, table, "2024-02")
    processes.move_key(platform, "readings", "2024-02")
    monkeypatch.setattr(WindowWriter, "begin", lambda self: self._inner.begin())
    load(platform, table, "2024-02")
    assert months(platform) == [("2024-02", 2 * FEBRUARY, 2.0 * FEBRUARY)]


def test_readers_see_a_window_before_or_after_and_nothing_between(
    windowed: tuple[Platform, SourceTable],
) -> None:
    platform, table = windowed
    deliver(platform, 0)
    load(platform, table, "2024-02")
    query = "select count(*), min(value), max(value) from readings where \"at\" < '2024-03-01'"
    with processes.readers(platform.settings, query, [(0.0, 0.0), (0.05, 0.05)]) as answers:
        for turn in range(1, 6):
            processes.move_key(platform, "readings", "2024-02")
            deliver(platform, turn)
            load(platform, table, "2024-02")
    found = [answer for reader in answers for answer in reader]
    assert all(rows == FEBRUARY and low == high for rows, low, high in found), found
    assert len({low for _, low, _ in found}) > 2


def test_windows_are_loaded_side_by_side(windowed: tuple[Platform, SourceTable]) -> None:
    platform, table = windowed
    deliver(platform, 1)
    load(platform, table, "2024-02")
    with ThreadPoolExecutor(4) as pool:
        keys = ["2024-02", "2024-03", "2024-02", "2024-03"]
        reports = list(pool.map(lambda key: load(platform, table, key), keys))
    assert [report.inserted for report in reports] == [FEBRUARY, MARCH] * 2
    assert [row[1] for row in months(platform)] == [FEBRUARY, MARCH]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.thorough_but("written", "committed")
def test_a_killed_load_leaves_the_window_as_it_was(
    windowed: tuple[Platform, SourceTable], step: str
) -> None:
    platform, table = windowed
    deliver(platform, 1)
    load(platform, table, "2024-02")
    processes.move_key(platform, "readings", "2024-02")
    deliver(platform, 2)
    assert processes.run(load_and_die, platform.settings, step) == -9
    value = 2.0 if step == "committed" else 1.0
    assert months(platform) == [("2024-02", FEBRUARY, value * FEBRUARY)]
    load(platform, table, "2024-02")
    assert months(platform) == [("2024-02", FEBRUARY, 2.0 * FEBRUARY)]


def load_and_die(settings: Any, step: str) -> None:
    platform = open_platform(settings)
    table = replace(platform.table("readings"), load_by="window", changed_files=None)
    load(platform, table, "2024-02", on_step=processes.kill_at(step))


def test_what_cannot_be_read_leaves_the_window_as_it_was(
    windowed: tuple[Platform, SourceTable],
) -> None:
    platform, table = windowed
    with pytest.raises(
        SourceError, match="the source is empty; 2024-02 of readings remains unchanged"
    ):
        load(platform, table, "2024-02")
    deliver(platform, 1)
    load(platform, table, "2024-02")
    deliver(platform, -9999)
    report = load(platform, table, "2024-02")
    assert report.load_id is None and "break the contract" in report.refused[0].problem
    (platform.settings.data / "readings" / "all.parquet").write_bytes(b"PAR1 no more")
    report = load(platform, table, "2024-02")
    assert "not a whole Parquet file" in report.refused[0].problem
    assert months(platform) == [("2024-02", FEBRUARY, 1.0 * FEBRUARY)]


def test_a_row_without_a_time_is_quarantined_once(windowed: tuple[Platform, SourceTable]) -> None:
    platform, table = windowed
    at = pl.when(pl.col("number") == 7).then(None).otherwise(pl.col("at"))
    deliver(platform, 1, at=at)
    for key in ("2024-02", "2024-03", "2024-02"):
        assert load(platform, table, key).rejected == 1
    with platform.postgres.connect() as connection:
        found = connection.execute(
            "select row_number, column_name from lakebed.rejected_row where resolved_by is null"
        ).fetchall()
    assert found == [(8, "at")]
    assert [row[1] for row in months(platform)] == [FEBRUARY - 1, MARCH]


def test_an_emptied_source_empties_the_window(windowed: tuple[Platform, SourceTable]) -> None:
    platform, table = windowed
    deliver(platform, 1)
    load(platform, table, "2024-03")
    deliver(platform, 1, days=1)
    assert load(platform, table, "2024-03").inserted == 0
    assert months(platform) == []


def test_such_a_table_is_not_loaded_without_a_window(
    windowed: tuple[Platform, SourceTable],
) -> None:
    platform, table = windowed
    with pytest.raises(TableError, match="loads by window"):
        load_table(platform.settings, platform.postgres, platform.clock, table)
