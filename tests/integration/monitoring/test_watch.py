"""What can be seen of a table at any time: its newest row, its gaps, its drift, its quarantine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from lakebed.ingest.load import load_table
from lakebed.monitoring.watch import Gap, drift, newest_row, read_coverage, read_quarantine
from lakebed.orchestration.table_checks import checks_of_unloaded_tables, watch_job
from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.move import move
from tests.tables.readings import readings

MOMENT = datetime(2024, 6, 3, tzinfo=UTC)


@pytest.fixture
def written(platform_of: Callable[..., Platform]) -> tuple[Platform, SourceTable]:
    """A table that an application writes: rows in January, February and June."""
    table = replace(readings, source=None, cursor=None, freshness=timedelta(days=30))
    platform = platform_of(table)
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        months = [window_for_key(table.require_partitioning.grain, f"2024-0{m}") for m in (1, 2, 6)]
        ensure_partition_tables(connection, table, months)
        for moment in ("2024-01-05", "2024-02-05", MOMENT.isoformat()):
            connection.execute("insert into readings values (%s, 'a', 1, 1)", [moment])
    return platform, table


def test_the_newest_row_of_a_table_without_loads_is_told_by_its_time_column(
    written: tuple[Platform, SourceTable],
) -> None:
    platform, table = written
    now = platform.clock.now()
    with platform.postgres.connect(autocommit=True) as connection:
        assert newest_row(connection, table, now) == MOMENT
        move(platform.lake, table, window_for_key(table.require_partitioning.grain, "2024-06"))
        assert newest_row(connection, table, now) == MOMENT
        connection.execute("delete from readings")
        assert newest_row(connection, table, now) == MOMENT


def test_gaps_between_partitions_are_found_hot_and_cold(
    written: tuple[Platform, SourceTable],
) -> None:
    platform, table = written
    move(platform.lake, table, window_for_key(table.require_partitioning.grain, "2024-01"))
    with platform.postgres.connect(autocommit=True) as connection:
        found = read_coverage(connection, table, platform.clock.now())
        assert (found.partitions, found.overlaps) == (3, ())
        assert found.gaps == (Gap("2024-03", "2024-05", 3),)
        connection.execute("update lakebed.cold_file set time_max = '2024-02-01'")
        (overlap,) = read_coverage(connection, table, platform.clock.now()).overlaps
    assert overlap.startswith("2024-01 holds rows outside of itself: ")


def test_two_cold_files_of_the_same_time_are_an_overlap(
    written: tuple[Platform, SourceTable],
) -> None:
    platform, table = written
    for month in ("2024-01", "2024-02"):
        move(platform.lake, table, window_for_key(table.require_partitioning.grain, month))
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute(
            "update lakebed.cold_file set upper_bound = '2024-02-10'"
            " where partition_key = '2024-01'"
        )
        found = read_coverage(connection, table, platform.clock.now())
    assert found.overlaps == ("2024-01 and 2024-02 hold the same time",)


def test_a_column_that_somebody_added_or_changed_is_drift(
    written: tuple[Platform, SourceTable],
) -> None:
    platform, table = written
    with platform.postgres.connect(autocommit=True) as connection:
        assert drift(connection, table) == []
        connection.execute("alter table readings add column extra text")
        connection.execute("alter table readings alter column number type integer")
        first, second = drift(connection, table)
    assert "number" in first
    assert second == "column extra is not in the contract"


def test_the_share_of_rejects_is_that_of_the_last_loads(platform: Platform) -> None:
    table = replace(platform.table("readings"), reject_share=1.0)
    folder = platform.settings.data / "readings"
    folder.mkdir()
    pl.DataFrame(
        {
            "at": [MOMENT] * 4,
            "sensor": ["a"] * 4,
            "value": [0.0, 0.0, 0.0, -5000.0],
            "number": range(4),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    ).write_parquet(folder / "1.parquet")
    load_table(platform.settings, platform.postgres, platform.clock, table)
    with platform.postgres.connect() as connection:
        found = read_quarantine(connection, table)
    assert (found.read, found.rejected, found.waiting, found.share) == (4, 1, 1, 0.25)


def test_the_job_looks_at_every_table_and_tells_its_checks(
    written: tuple[Platform, SourceTable],
) -> None:
    platform, table = written
    defs = dg.Definitions(
        assets=[dg.AssetSpec("hot/readings"), dg.AssetSpec("cold/readings")],
        asset_checks=[checks_of_unloaded_tables(platform, table)],
        jobs=[watch_job(platform)[0]],
    )

    def told(instance: dg.DagsterInstance) -> dict[str, tuple[bool, dg.AssetCheckSeverity]]:
        assert defs.resolve_job_def("watch_tables").execute_in_process(instance=instance).success
        found = {}
        for asset, name in (
            ("hot", "freshness"),
            ("hot", "contract_drift"),
            ("cold", "coverage"),
        ):
            key = dg.AssetCheckKey(dg.AssetKey([asset, "readings"]), name)
            (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
            assert record.evaluation is not None
            found[name] = (record.evaluation.passed, record.evaluation.severity)
        return found

    warn, error = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
    with (
        dg.instance_for_test() as instance,
        platform.postgres.connect(autocommit=True) as connection,
    ):
        assert told(instance) == {
            "freshness": (True, error),
            "contract_drift": (True, error),
            "coverage": (False, warn),
        }
        connection.execute("delete from readings where at > '2024-06-01'")
        connection.execute("alter table readings add column extra text")
        assert told(instance) == {
            "freshness": (False, error),
            "contract_drift": (False, error),
            "coverage": (True, error),
        }
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [False, False]
