"""A load in several packages, and files that are loaded apart: every row once, however it dies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakebed.ingest import stream
from lakebed.ingest.load import load_table
from lakebed.ingest.report import LoadReport
from lakebed.ingest.sources import parquet
from lakebed.spec.table import CsvFiles, SourceTable
from lakebed.store.platform import Platform, open_platform
from tests.support import processes

START = datetime(2024, 2, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def small_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "FIRST_PACKAGE_ROWS", 100)
    monkeypatch.setattr(stream, "PACKAGE_ROWS", 200)
    monkeypatch.setattr("lakebed.ingest.sources.parquet.BATCH_ROWS", 100)


def deliver(folder: Path, files: int, rows: int = 1000, *, bad: int = 0) -> None:
    """Write files of readings; the last `bad` rows of each have a value below the rule's."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(files):
        numbers = [file * rows + i for i in range(rows)]
        frame = pl.DataFrame(
            {
                "at": [START + timedelta(hours=n) for n in numbers],
                "sensor": ["a"] * rows,
                "value": [-9999.0 if i >= rows - bad else 0.5 for i in range(rows)],
                "number": numbers,
            },
            schema_overrides={"at": pl.Datetime("us", "UTC")},
        )
        frame.write_parquet(folder / f"{file}.parquet")


def apart(platform: Platform, files: int = 3) -> tuple[Platform, SourceTable]:
    table = replace(platform.table("readings"), parallel_files=files)
    return open_platform(platform.settings, (table,)), table


def load(platform: Platform, table: SourceTable) -> LoadReport:
    steps: list[str] = []
    report = load_table(
        platform.settings, platform.postgres, platform.clock, table, on_step=steps.append
    )
    load.steps = steps  # type: ignore[attr-defined]
    return report


def rows(platform: Platform) -> tuple[int, int, int]:
    with platform.postgres.connect() as connection:
        found = connection.execute(
            "select count(*), count(distinct number), coalesce(sum(number), 0)::bigint"
            " from readings"
        )
        return found.fetchall()[0]


def test_packages_stream_into_one_transaction(platform: Platform) -> None:
    deliver(platform.settings.data / "readings", 3)
    report = load(platform, platform.table("readings"))
    steps: list[str] = load.steps  # type: ignore[attr-defined]
    assert steps.count("copied") > 10
    assert [s for s in steps if s != "copied"] == [
        "extracted",
        "began",
        "written",
        "recorded",
        "committed",
    ]
    assert (report.rows_read, report.inserted, len(report.load_ids)) == (3000, 3000, 1)
    assert rows(platform) == (3000, 3000, 2999 * 1500)
    assert not list((platform.settings.home / "dlt").rglob("*.parquet"))


def test_a_file_that_breaks_late_takes_nothing_with_it(platform: Platform) -> None:
    folder = platform.settings.data / "readings"
    deliver(folder, 2)
    deliver(folder / "late", 1, bad=500)
    (folder / "late" / "0.parquet").rename(folder / "9.parquet")
    report = load(platform, platform.table("readings"))
    assert [r.path for r in report.refused] == [str(folder / "9.parquet")]
    assert (report.rows_read, report.inserted, report.rejected) == (2000, 2000, 0)
    assert rows(platform)[:2] == (2000, 2000)


def test_a_key_that_stands_twice_in_later_packages_is_merged(platform: Platform) -> None:
    folder = platform.settings.data / "accounts"
    folder.mkdir()
    frame = pl.DataFrame(
        {
            "opened": [START + timedelta(minutes=n % 700) for n in range(1000)],
            "id": [n % 700 for n in range(1000)],
            "owner": ["x"] * 1000,
            "balance": [str(n) for n in range(1000)],
            "changed": [START + timedelta(hours=n) for n in range(1000)],
        }
    )
    for part in range(5):
        frame.slice(part * 200, 200).write_csv(folder / f"{part}.csv")
    report = load(platform, platform.table("accounts"))
    assert (report.rows_read, report.inserted, report.superseded) == (1000, 700, 300)
    with platform.postgres.connect() as connection:
        found = connection.execute(
            "select count(*), sum(balance)::integer from accounts"
        ).fetchall()[0]
    assert found == (700, sum(range(300, 1000)))


def test_rejects_are_kept_with_the_rows_of_their_load(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "REJECTS_HELD", 3)
    deliver(platform.settings.data / "readings", 3, bad=10)
    report = load(platform, platform.table("readings"))
    assert (report.rejected, report.inserted, report.balanced) == (30, 2970, True)
    with platform.postgres.connect() as connection:
        found = connection.execute(
            "select count(*), count(distinct source_file), min(row_number), max(row_number)"
            " from lakebed.rejected_row where load_id = %s",
            [report.load_id],
        ).fetchall()[0]
    assert found == (30, 3, 991, 1000)


def test_a_source_that_is_slow_is_read_before_the_transaction_begins(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SLOW_ROWS_PER_SECOND", 1e12)
    deliver(platform.settings.data / "readings", 3)
    seen: list[int] = []
    steps: list[tuple[str, int]] = []
    load_table(
        platform.settings,
        platform.postgres,
        platform.clock,
        platform.table("readings"),
        on_rows=seen.append,
        on_step=lambda step: steps.append((step, sum(seen))),
    )
    assert dict(steps)["began"] == 3000
    assert rows(platform)[0] == 3000


def test_files_are_loaded_apart_each_in_its_own_transaction(platform: Platform) -> None:
    folder = platform.settings.data / "readings"
    deliver(folder, 6)
    (folder / "3.parquet").write_bytes(b"no parquet")
    platform, table = apart(platform)
    report = load(platform, table)
    assert len(set(report.load_ids)) == 5
    assert [r.path for r in report.refused] == [str(folder / "3.parquet")]
    assert (report.files, report.rows_read, report.inserted) == (5, 5000, 5000)
    assert rows(platform)[:2] == (5000, 5000)
    with platform.postgres.connect() as connection:
        found = connection.execute(
            "select count(*), max(cursor_to) = (array_agg(cursor_to order by committed_at desc))[1]"
            " from lakebed.load"
        ).fetchall()[0]
    assert found == (5, True)
    deliver(folder, 6)  # the same bytes at another time, but for the one that was broken
    assert load(platform, table).inserted == 1000


def test_a_conflict_in_one_file_leaves_the_others_loaded(platform: Platform) -> None:
    folder = platform.settings.data / "readings"
    deliver(folder, 4)
    table = replace(platform.table("readings"), key=("at", "number"), parallel_files=2)
    platform = open_platform(platform.settings, (table,))
    shutil.copy(folder / "0.parquet", folder / "4.parquet")
    (refused,) = load(platform, table).refused
    assert refused.path.endswith(("0.parquet", "4.parquet"))
    count = rows(platform)
    assert count[0] == count[1] >= 1000
    (folder / "4.parquet").unlink()
    load(platform, table)
    assert rows(platform)[:2] == (4000, 4000)


@pytest.mark.parametrize("visit", [1, 4, 9])
@pytest.mark.thorough
def test_apart_or_together_a_kill_at_the_nth_copy_loses_and_doubles_nothing(
    platform: Platform, visit: int
) -> None:
    deliver(platform.settings.data / "readings", 4, rows=700)
    for parallel in (1, 3):
        code = processes.run(load_until, platform.settings, parallel, visit)
        assert code == -9
        count = rows(platform)
        assert count[0] == count[1] and count[0] % 700 == 0
    assert processes.run(load_until, platform.settings, 3, None) == 0
    assert rows(platform)[:2] == (2800, 2800)


def load_until(settings: object, parallel: int, visit: int | None) -> None:
    """Load in small packages; die at the nth copy."""
    stream.FIRST_PACKAGE_ROWS, stream.PACKAGE_ROWS = 50, 100
    parquet.BATCH_ROWS = 100
    platform, table = apart(open_platform(settings), parallel)  # type: ignore[arg-type]
    copies = 0

    def on_step(step: str) -> None:
        nonlocal copies
        copies += step == "copied"
        if copies == visit:
            processes.kill_at(step)(step)

    load_table(settings, platform.postgres, platform.clock, table, on_step=on_step)  # type: ignore[arg-type]


def test_a_file_of_which_rows_were_lost_on_the_way_is_refused(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(platform.settings.data / "readings", 1)
    batches = parquet.ParquetReader.batches

    def lose_some(self: parquet.ParquetReader, *arguments: Any, **more: Any) -> Iterator[Any]:
        for batch in batches(self, *arguments, **more):
            if batch.numbers[0] != 301:
                yield batch

    monkeypatch.setattr(parquet.ParquetReader, "batches", lose_some)
    report = load(platform, platform.table("readings"))
    assert report.load_id is None
    assert "its own count is 1000 rows, but it has 900" in report.refused[0].problem
    assert rows(platform)[0] == 0
    monkeypatch.undo()
    report = load(platform, platform.table("readings"))
    assert (report.rows_read, report.rows_expected) == (1000, 1000)


def test_rejects_are_kept_as_text_though_numbers_were_read_as_such(platform: Platform) -> None:
    source = CsvFiles(glob="readings.csv")
    table = replace(platform.table("readings"), source=source, reject_share=0.5)
    (platform.settings.data / "readings.csv").write_text(
        "at,sensor,value,number\n2024-02-01T00:00:00Z,a,1,007\n2024-02-01T00:00:00Z,a,-9999, 08\n"
    )
    report = load(open_platform(platform.settings, (table,)), table)
    assert (report.inserted, report.rejected) == (1, 1)
    with platform.postgres.connect() as connection:
        assert connection.execute("select number from readings").fetchall() == [(7,)]
        ((row, reason),) = connection.execute(
            "select source_row, message from lakebed.rejected_row"
        ).fetchall()
    assert row == {"at": "2024-02-01T00:00:00Z", "sensor": "a", "value": "-9999", "number": " 08"}
    assert "value: breaks the rule" in reason
