"""Constraints that somebody added to a table: rows that break them are rejects, and others load."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest import stream
from lakebed.ingest.load import load_table, load_window
from lakebed.ingest.report import LoadReport
from lakebed.schema.ddl import ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import CsvFiles, SourceTable
from lakebed.store.platform import Platform

ROWS = 1000


class Word(pa.DataFrameModel):
    """A word, however long."""

    word: str
    n: pl.Int64


def deliver(platform: Platform, name: str = "1.parquet", first: int = 0) -> None:
    start = datetime(2024, 2, 1, tzinfo=UTC)
    folder = platform.settings.data / "readings"
    folder.mkdir(exist_ok=True)
    pl.DataFrame(
        {
            "at": [start + timedelta(hours=i) for i in range(first, first + ROWS)],
            "sensor": [f"s{i % 10}" for i in range(ROWS)],
            "value": [float(i % 100) for i in range(ROWS)],
            "number": range(first, first + ROWS),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    ).write_parquet(folder / name)


def alter(platform: Platform, *statements: str) -> None:
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, platform.table("readings"))
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def load(platform: Platform, **changed: Any) -> LoadReport:
    table = replace(platform.table("readings"), reject_share=0.2, **changed)
    return load_table(platform.settings, platform.postgres, platform.clock, table)


def rejected(platform: Platform) -> list[tuple[Any, ...]]:
    with platform.postgres.connect() as connection:
        return connection.execute(
            "select row_number, column_name, kind, rule, source_row->>'number'"
            " from lakebed.rejected_row order by row_number"
        ).fetchall()


def rows(platform: Platform) -> Any:
    with platform.postgres.connect() as connection:
        return connection.execute(
            "select count(*), count(distinct number) from readings"
        ).fetchone()


@pytest.fixture(autouse=True)
def small_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "FIRST_PACKAGE_ROWS", 200)
    monkeypatch.setattr("lakebed.ingest.sources.parquet.BATCH_ROWS", 200)


def test_rows_that_break_a_check_are_rejects_and_the_others_are_loaded(platform: Platform) -> None:
    alter(platform, "alter table readings add constraint cool check (value < 98)")
    deliver(platform)
    report = load(platform)
    assert (report.rows_read, report.inserted, report.rejected) == (ROWS, 980, 20)
    assert report.balanced
    found = rejected(platform)
    assert [row[0] for row in found] == [n for n in range(1, ROWS + 1) if (n - 1) % 100 >= 98]
    assert {row[2:4] for row in found} == {("constraint", "cool")}
    assert [int(row[4]) + 1 for row in found] == [row[0] for row in found]
    assert rows(platform) == (980, 980)
    assert load(platform).load_id is None


def test_rows_without_a_parent_are_rejects(platform: Platform) -> None:
    alter(
        platform,
        "create table sensors (id text primary key)",
        "insert into sensors select 's' || i from generate_series(0, 8) i",
        "alter table readings add foreign key (sensor) references sensors",
    )
    deliver(platform)
    report = load(platform)
    assert (report.inserted, report.rejected) == (900, 100)
    assert {row[1:4] for row in rejected(platform)} == {
        ("sensor", "missing_parent", "readings_sensor_fkey")
    }


def test_a_trigger_that_raises_rejects_its_rows(platform: Platform) -> None:
    alter(
        platform,
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin if new.number % 500 = 7 then raise 'no sevens'; end if; return new; end $$",
        "create trigger refuse before insert on readings for each row execute function refuse()",
    )
    deliver(platform)
    report = load(platform)
    assert (report.inserted, report.rejected) == (998, 2)
    assert [row[2:4] for row in rejected(platform)] == [("constraint", "P0001")] * 2


@pytest.mark.parametrize("mode", [{}, {"key": ("at", "sensor"), "write_mode": "merge"}])
def test_rows_that_a_trigger_leaves_out_are_not_counted_as_inserted(
    platform_of: Callable[..., Platform], platform: Platform, mode: dict[str, Any]
) -> None:
    platform = platform_of(replace(platform.table("readings"), changed_files=None, **mode))
    alter(
        platform,
        "create function leave_out() returns trigger language plpgsql as"
        " $$ begin if new.number % 100 = 7 then return null; end if; return new; end $$",
        "create trigger leave_out before insert on readings"
        " for each row execute function leave_out()",
    )
    deliver(platform)
    report = load(platform)
    assert (report.inserted, report.unchanged, report.balanced) == (ROWS - 10, 10, True)
    assert rows(platform) == (ROWS - 10, ROWS - 10)


def test_too_many_of_them_refuse_the_file_and_load_nothing(platform: Platform) -> None:
    alter(platform, "alter table readings add constraint cool check (value < 50)")
    deliver(platform)
    report = load(platform)
    assert report.load_id is None
    assert "break the contract, more than the 20.0%" in report.refused[0].problem
    assert rows(platform) == (0, 0) and rejected(platform) == []


def test_a_merge_and_a_window_sift_too(platform: Platform) -> None:
    alter(platform, "alter table readings add constraint cool check (value < 98)")
    deliver(platform)
    table = replace(
        platform.table("readings"), load_by="window", changed_files=None, reject_share=0.2
    )
    window = window_for_key(table.require_partitioning.grain, "2024-02")
    report = load_window(platform.settings, platform.postgres, platform.clock, table, window)
    assert (report.inserted, report.rejected) == (684, 12)
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute("create unique index on readings (at, number)")
    merged = load(platform, key=("at", "number"), write_mode="merge", changed_files="reload")
    assert (merged.inserted, merged.unchanged, merged.rejected) == (296, 684, 20)
    assert rows(platform) == (980, 980)


def test_a_table_that_refuses_everything_refuses_the_file(platform: Platform) -> None:
    alter(
        platform,
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise 'the table is closed'; end $$",
        "create trigger refuse before insert on readings for each statement"
        " execute function refuse()",
    )
    deliver(platform)
    report = load(platform)
    assert report.load_id is None
    assert "the table is closed" in report.refused[0].problem
    assert rows(platform) == (0, 0)


def test_a_deferred_constraint_is_found_before_the_commit(platform: Platform) -> None:
    alter(
        platform,
        "create table sensors (id text primary key)",
        "insert into sensors select 's' || i from generate_series(0, 8) i",
        "alter table readings add foreign key (sensor) references sensors"
        " deferrable initially deferred",
    )
    deliver(platform)
    report = load(platform)
    assert (report.inserted, report.rejected) == (900, 100)


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_key_that_is_too_long_for_its_index_is_a_reject_of_its_own(
    platform_of: Callable[..., Platform], mode: Any
) -> None:
    table = SourceTable(
        name="words",
        model=Word,
        source=CsvFiles(glob="words.csv"),
        key=("word",),
        write_mode=mode,
        reject_share=0.5,
    )
    platform = platform_of(table)
    long = "".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(200))
    (platform.settings.data / "words.csv").write_text(f"word,n\na,1\n{long},2\nb,3\n")
    report = load_table(platform.settings, platform.postgres, platform.clock, table)
    assert (report.inserted, report.rejected) == (2, 1)
    with platform.postgres.connect() as connection:
        found = connection.execute(
            "select row_number, kind, message from lakebed.rejected_row"
        ).fetchall()
    assert found[0][:2] == (2, "constraint")
    assert "index row" in found[0][2]


def test_a_key_that_is_there_is_a_conflict_and_no_reject(platform: Platform) -> None:
    alter(platform, "create unique index on readings (at, number)")
    deliver(platform)
    load(platform)
    deliver(platform, "2.parquet", first=500)
    (refused,) = load(platform).refused
    assert refused.path.endswith("2.parquet")
    assert rows(platform) == (ROWS, ROWS)
