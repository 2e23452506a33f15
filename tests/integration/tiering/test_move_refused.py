"""A move that cannot be had leaves every row where it was, and says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
import pytest

from lakebed.errors import TieringError, VerificationError
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain
from lakebed.store.platform import Platform
from lakebed.tiering import verified_file
from lakebed.tiering.move import move
from lakebed.tiering.partition import Partition
from tests.support.events import events, hot_rows, insert, manifest, prepared, run, seen
from tests.support.processes import move_key


@pytest.fixture
def keyless(platform_of: Callable[..., Platform]) -> Platform:
    return prepared(platform_of(events()))


def test_a_partition_that_is_never_left_alone_is_given_up_unmoved(keyless: Platform) -> None:
    def write(step: str) -> None:
        if step == "copied":
            run(keyless, "update events set amount = coalesce(amount, 0) + 1 where id = 3")

    with pytest.raises(TieringError, match="changed or locked during each of 2 attempts"):
        move_key(keyless, "events", "2024-02", on_step=write, attempts=2)
    assert manifest(keyless) == []
    assert hot_rows(keyless) == 10


@pytest.mark.parametrize(
    "damage", ["select * exclude (note), 'x' as note", "select * replace (id + 1 as id)"]
)
def test_a_copy_that_is_not_what_was_counted_moves_nothing(
    keyless: Platform, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    copy = verified_file._copy

    def damaged(partition: Partition, rows: Any, file: Path, form: Any) -> None:
        copy(partition, rows, file, form)
        duckdb.sql(
            f"copy (select \"at\", id, note, amount from ({damage} from read_parquet('{file}')))"  # noqa: S608
            f" to '{file}' (format parquet)"
        )

    monkeypatch.setattr(verified_file, "_copy", damaged)
    with pytest.raises(VerificationError, match="nothing was moved"):
        move_key(keyless, "events", "2024-02")
    assert manifest(keyless) == []
    assert hot_rows(keyless) == 10
    assert not list(keyless.lake.files.root.rglob("*.parquet*"))


def test_a_copy_that_lost_a_row_moves_nothing(
    keyless: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        verified_file,
        "_copy",
        lambda partition, rows, file, form: partition.connection.execute(
            f"copy (select * from pg.public.events where id <> 3) to '{file}' (format parquet)"  # noqa: S608
        ),
    )
    with pytest.raises(VerificationError, match="9 rows against 10"):
        move_key(keyless, "events", "2024-02")
    assert len(seen(keyless)) == 10


def test_a_damaged_cold_file_stops_the_fold_and_keeps_the_late_rows(keyless: Platform) -> None:
    moved = move_key(keyless, "events", "2024-02")
    file = keyless.lake.files.root / str(moved.path)
    pl.read_parquet(file, hive_partitioning=False).head(9).write_parquet(file)
    insert(keyless, 50)
    with pytest.raises(VerificationError, match=r"not what the manifest says.*9 rows against 10"):
        move_key(keyless, "events", "2024-02")
    assert manifest(keyless) == [(1, 10, True)]
    assert hot_rows(keyless) == 1


def test_values_that_parquet_cannot_carry_are_not_moved(keyless: Platform) -> None:
    run(keyless, "update events set amount = 'NaN' where id = 3")
    with pytest.raises(TieringError):
        move_key(keyless, "events", "2024-02")
    assert manifest(keyless) == []
    assert hot_rows(keyless) == 10


def test_a_table_that_is_not_there_is_an_error_in_words(platform: Platform) -> None:
    table = platform.table("readings")
    with pytest.raises(TieringError, match="readings"):
        move(platform.lake, table, window_for_key(Grain.MONTH, "2024-02"))


def test_a_server_that_goes_away_in_the_middle_moves_nothing(keyless: Platform) -> None:
    def filter(step: str) -> None:
        if step == "recorded":
            with keyless.postgres.connect(autocommit=True) as connection:
                connection.execute(
                    "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )

    with pytest.raises((TieringError, psycopg.Error)):
        move_key(keyless, "events", "2024-02", on_step=filter)
    assert manifest(keyless) == []
    assert len(seen(keyless)) == 10


def keep_rows(platform: Platform) -> None:
    """Make a trigger that lets no row of events be deleted."""
    body = "begin return null; end"
    run(platform, f"create function keep() returns trigger language plpgsql as '{body}'")
    run(
        platform, "create trigger keep before delete on events for each row execute function keep()"
    )


def test_rows_that_a_trigger_keeps_are_doubled_where_nobody_looks(
    keyless: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_rows(keyless)
    monkeypatch.setattr(Partition, "_check_gone", lambda self: None)
    move_key(keyless, "events", "2024-02")
    assert len(seen(keyless)) == 20


def test_rows_that_a_trigger_keeps_stop_the_move(keyless: Platform) -> None:
    keep_rows(keyless)
    with pytest.raises(TieringError, match="10 rows were not deleted"):
        move_key(keyless, "events", "2024-02")
    assert (manifest(keyless), hot_rows(keyless)) == ([], 10)


def test_a_column_that_the_contract_does_not_know_stops_the_move(keyless: Platform) -> None:
    run(keyless, "alter table events add column extra text")
    with pytest.raises(TieringError, match="extra is not in the contract"):
        move_key(keyless, "events", "2024-02")
    assert (manifest(keyless), hot_rows(keyless)) == ([], 10)
