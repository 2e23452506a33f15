"""A move changes where rows are and nothing else: every type, late rows, overrides, refusals."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.load import load_table
from lakebed.resources.read_errors import FileMissingError
from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain, ParquetFiles, SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.partition import PartitionBusyError
from tests.support import processes
from tests.support.events import (
    BY_MONTH,
    SETTLES,
    events,
    hot_rows,
    insert,
    manifest,
    prepared,
    run,
    seen,
)
from tests.support.processes import all_rows, move_key
from tests.support.tiers import ask

NAN, INF = float("nan"), float("inf")


class EveryType(pa.DataFrameModel):
    at: Annotated[pl.Datetime, "us", "UTC"]
    i8: pl.Int8 = pa.Field(nullable=True)
    i16: pl.Int16 = pa.Field(nullable=True)
    i32: pl.Int32 = pa.Field(nullable=True)
    i64: pl.Int64 = pa.Field(nullable=True)
    u8: pl.UInt8 = pa.Field(nullable=True)
    u16: pl.UInt16 = pa.Field(nullable=True)
    u32: pl.UInt32 = pa.Field(nullable=True)
    f32: pl.Float32 = pa.Field(nullable=True)
    f64: pl.Float64 = pa.Field(nullable=True)
    flag: pl.Boolean = pa.Field(nullable=True)
    text: pl.String = pa.Field(nullable=True)
    blob: pl.Binary = pa.Field(nullable=True)
    day: pl.Date = pa.Field(nullable=True)
    clock: pl.Time = pa.Field(nullable=True)
    naive: Annotated[pl.Datetime, "us", None] = pa.Field(nullable=True)
    stamp: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(nullable=True)
    money: Annotated[pl.Decimal, 12, 2] = pa.Field(nullable=True)
    wide: Annotated[pl.Decimal, 38, 10] = pa.Field(nullable=True)
    whole: Annotated[pl.Decimal, 38, 0] = pa.Field(nullable=True)


BIG = 10**38 - 1
NASTY: dict[str, list[Any]] = {
    "i8": [-128, 127, 0],
    "i16": [-(2**15), 2**15 - 1, 0],
    "i32": [-(2**31), 2**31 - 1, 0],
    "i64": [-(2**63), 2**63 - 1, 2**63 - 1],
    "u8": [0, 255, 1],
    "u16": [0, 65535, 1],
    "u32": [0, 2**32 - 1, 1],
    "f32": [NAN, -INF, -0.0, 1e-45, 3.4028235e38, INF, 0.0],
    "f64": [NAN, -INF, -0.0, 5e-324, 1.7976931348623157e308, INF, 0.1],
    "flag": [True, False, True],
    "text": ["", " ", "ünïcödé \U0001f600", "\\N", "NULL", "a\nb\t\r'\"", "x" * 100_000],
    "blob": [b"", b"\0\xff", b"\\x00"],
    "day": ["0001-01-01", "9999-12-31", "1969-12-31"],
    "clock": ["00:00:00", "23:59:59.999999", "12:00:00.000001"],
    "naive": ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"],
    "stamp": ["0001-01-01 00:00:00Z", "9999-12-31 23:59:59.999999Z", "1969-12-31 23:59:59.5Z"],
    "money": ["-9999999999.99", "9999999999.99", "0.01"],
    "wide": [f"{10**28 - 1}.{10**10 - 1}", f"-{10**28 - 1}.0000000001", "0.5"],
    "whole": [str(BIG), str(-BIG), str(BIG), str(BIG), str(BIG)],
}
every_type = SourceTable(
    name="every_type",
    model=EveryType,
    source=ParquetFiles(glob="*.parquet"),
    partitioning=BY_MONTH,
    tiering=SETTLES,
)


def nasty_rows() -> pl.DataFrame:
    """One row a nasty value with nulls beside it, and one of nulls alone."""
    at = datetime(2024, 2, 1, tzinfo=UTC)
    rows = [{"at": at}] + [{"at": at, c: v} for c, values in NASTY.items() for v in values]
    schema = {
        c.name: c.polars if isinstance(NASTY.get(c.name, [1])[0], float | bytes) else None
        for c in every_type.columns
    }
    return pl.DataFrame(rows, schema=schema, infer_schema_length=None)


@pytest.mark.parametrize("sort", [(), ("f32", "f64")], ids=["by time", "by floats"])
def test_every_type_is_the_same_before_and_after_value_by_value(
    platform_of: Callable[..., Platform], sort: tuple[str, ...]
) -> None:
    table = replace(every_type, tiering=replace(SETTLES, sort=sort))
    platform = platform_of(table)
    frame = nasty_rows()
    frame.write_parquet(platform.settings.data / "1.parquet")
    report = load_table(platform.settings, platform.postgres, platform.clock, table)
    assert (report.inserted, report.rejected, report.refused) == (frame.height, 0, ())

    def everything() -> list[str]:
        columns = ", ".join(
            f"{c.name}::bit::varchar" if c.name in ("f32", "f64") else f"{c.name}::varchar"
            for c in every_type.columns
            if c.name != "at"
        )
        with platform.lake.session() as session:
            rows = session.sql(f"select {columns} from every_type").fetchall()  # noqa: S608
        return sorted(map(repr, rows))

    hot, before = everything(), all_rows(platform, "every_type")
    moved = move_key(platform, "every_type", "2024-02")
    assert moved.rows == frame.height
    assert everything() == hot
    assert all_rows(platform, "every_type") == before == moved.fingerprint
    for column, values in NASTY.items():
        assert before.columns[column][0] == len(values)


@pytest.fixture
def keyless(platform_of: Callable[..., Platform]) -> Platform:
    return prepared(platform_of(events()))


@pytest.fixture
def keyed(platform_of: Callable[..., Platform]) -> Platform:
    return prepared(platform_of(events(key=("at", "id"))))


def test_an_empty_partition_moves_nothing(keyless: Platform) -> None:
    moved = move_key(keyless, "events", "2024-05")
    assert (moved.rows, moved.path) == (0, None)
    assert manifest(keyless) == []
    assert not list(keyless.lake.files.root.rglob("*.parquet*"))


def test_only_the_rows_of_the_window_are_moved(keyless: Platform) -> None:
    table = keyless.table("events")
    with keyless.postgres.connect(autocommit=True) as connection:
        partition_tables = [window_for_key(Grain.MONTH, key) for key in ("2024-01", "2024-03")]
        ensure_partition_tables(connection, table, partition_tables)
        connection.execute(
            "insert into events (at, id) values ('2024-01-31 23:59:59.999999Z', 100),"
            " ('2024-02-29 23:59:59.999999Z', 101), ('2024-03-01Z', 102)"
        )
    assert move_key(keyless, "events", "2024-02").moved == 11
    with keyless.postgres.connect() as connection:
        left = connection.execute("select id from events order by id").fetchall()
    assert left == [(100,), (102,)]


def test_late_rows_are_visible_at_once_and_folded_in(keyless: Platform) -> None:
    move_key(keyless, "events", "2024-02")
    insert(keyless, 3, 4, note="first")
    both = [(3, "first"), (3, "first"), (4, "first"), (4, "first")]
    assert [row for row in seen(keyless) if row[0] in (3, 4)] == both
    before = all_rows(keyless, "events")
    folded = move_key(keyless, "events", "2024-02")
    assert (folded.generation, folded.rows, folded.moved, folded.overridden) == (2, 12, 2, 0)
    assert all_rows(keyless, "events") == before
    assert manifest(keyless) == [(1, 10, False), (2, 12, True)]
    assert hot_rows(keyless) == 0


def test_a_hot_row_overrides_its_cold_one_at_once_and_after_the_fold(keyed: Platform) -> None:
    move_key(keyed, "events", "2024-02")
    insert(keyed, 3, 20, note="second")
    expected = sorted([(i, "second" if i == 3 else "first") for i in range(10)] + [(20, "second")])
    assert seen(keyed) == expected
    folded = move_key(keyed, "events", "2024-02")
    assert (folded.rows, folded.moved, folded.overridden) == (11, 2, 1)
    assert seen(keyed) == expected
    assert manifest(keyed) == [(1, 10, False), (2, 11, True)]


def test_a_fold_with_nothing_late_writes_nothing(keyless: Platform) -> None:
    move_key(keyless, "events", "2024-02")
    assert move_key(keyless, "events", "2024-02").rows == 0
    assert manifest(keyless) == [(1, 10, True)]


def test_the_file_is_what_the_manifest_says_and_any_engine_reads_it(keyless: Platform) -> None:
    moved = move_key(keyless, "events", "2024-02")
    file = keyless.lake.files.root / str(moved.path)
    with keyless.postgres.connect() as connection:
        path, size, digest, first, last = connection.execute(
            "select path, bytes, sha256, time_min, time_max from lakebed.cold_file"
        ).fetchall()[0]
    assert path == moved.path == "events/year=2024/month=02/events_2024_02_g0001.parquet"
    assert (size, digest) == (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    assert (first.hour, last.hour) == (0, 9)
    assert pl.read_parquet(file, hive_partitioning=False)["id"].to_list() == list(range(10))
    found = duckdb.sql(
        f"select decode(value) from parquet_kv_metadata('{file}')"  # noqa: S608
        " where decode(key) = 'lakebed_columns'"
    ).fetchall()
    assert found == [('{"id": "which"}',)]
    assert [p.name for p in keyless.lake.files.root.rglob("*.parquet*")] == [file.name]


def test_a_second_mover_of_the_same_partition_is_refused(keyless: Platform) -> None:
    def other(step: str) -> None:
        if step == "verified":
            with pytest.raises(PartitionBusyError, match="another move of it is running"):
                move_key(keyless, "events", "2024-02")

    assert move_key(keyless, "events", "2024-02", on_step=other).moved == 10
    assert manifest(keyless) == [(1, 10, True)]


def test_rows_inserted_during_the_move_stay_hot(keyless: Platform) -> None:
    def write(step: str) -> None:
        if step == "copied":
            insert(keyless, 50)

    assert move_key(keyless, "events", "2024-02", on_step=write).moved == 10
    assert hot_rows(keyless) == 1
    assert len(seen(keyless)) == 11


@pytest.mark.parametrize(
    "change", ["update events set note = 'new' where id = 3", "delete from events where id = 3"]
)
def test_a_row_changed_during_the_move_makes_it_start_again(keyless: Platform, change: str) -> None:
    steps: list[str] = []

    def write(step: str) -> None:
        steps.append(step)
        if steps.count("copied") == 1 and step == "copied":
            run(keyless, change)

    moved = move_key(keyless, "events", "2024-02", on_step=write)
    assert steps.count("copied") == 2
    assert moved.rows == (9 if "delete" in change else 10)
    expected = [(i, "first") for i in range(10) if i != 3]
    assert [row for row in seen(keyless) if row[1] != "new"] == expected
    assert len(list(keyless.lake.files.root.rglob("*.parquet*"))) == 1


def test_a_table_that_is_not_partitioned_settles_too(platform_of: Callable[..., Platform]) -> None:
    platform = platform_of(events())
    run(
        platform, "create table events (at timestamptz, id bigint, note text, amount numeric(12,2))"
    )
    insert(platform, *range(10))
    assert move_key(platform, "events", "2024-02").moved == 10
    assert len(seen(platform)) == 10
    assert hot_rows(platform) == 0


def move_while_another_sleeps(platform: Platform, step: str = "copied") -> Any:
    """Let a mover stop after a step, another one move all, and the first wake up.

    Returns the fingerprint of the table as it was before.
    """
    table = platform.table("readings")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(connection, table, [window_for_key(Grain.MONTH, "2024-02")])
        connection.execute(
            "insert into readings select '2024-02-01Z'::timestamptz + i * interval '1 s', 'a', i, i"
            " from generate_series(1, 1000) i"
        )
    before = all_rows(platform, "readings")
    sleeper = processes.CONTEXT.Process(
        target=processes.move_and_stop, args=(platform.settings, "readings", "2024-02", step)
    )
    sleeper.start()
    stopped(sleeper.pid)
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    assert move_key(platform, "readings", "2024-02").moved == 1000
    os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.join(processes.PATIENCE)
    assert sleeper.exitcode == 1
    return before


def test_a_mover_that_wakes_up_after_another_finished_changes_nothing(platform: Platform) -> None:
    before = move_while_another_sleeps(platform)
    assert all_rows(platform, "readings") == before
    with platform.postgres.connect() as connection:
        path, digest = connection.execute("select path, sha256 from lakebed.cold_file").fetchall()[
            0
        ]
    file = platform.lake.files.root / path
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest


def test_rows_are_lost_where_a_mover_takes_a_name_that_another_has(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lakebed.resources.lake_files.reserve", lambda path_of, first: (first, path_of(first))
    )
    move_while_another_sleeps(platform)
    with pytest.raises(FileMissingError, match="g0001"):
        all_rows(platform, "readings")


def stopped(pid: int | None) -> None:
    """Wait until a process has stopped itself."""
    end = time.monotonic() + processes.PATIENCE
    while time.monotonic() < end:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        if state == "T":
            return
        time.sleep(0.02)
    raise TimeoutError(f"process {pid} did not stop")


def test_a_server_that_says_things_differently_is_no_hindrance(
    keyless: Platform,
) -> None:
    """What people set for a database or a role changes how PostgreSQL writes names and times."""
    ((name,),) = ask(keyless, "select current_database()")
    for setting in (
        "quote_all_identifiers = on",
        "datestyle = 'German'",
        "intervalstyle = 'iso_8601'",
        "timezone = 'Asia/Kolkata'",
    ):
        run(keyless, f'alter database "{name}" set {setting}')
    before = seen(keyless)
    assert move_key(keyless, "events", "2024-02").moved == 10
    insert(keyless, 50)
    assert move_key(keyless, "events", "2024-02").moved == 1
    assert seen(keyless) == [*before, (50, "first")]
