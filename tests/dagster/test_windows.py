"""A table that is loaded by window: its hot asset is partitioned, and a range of it is one run."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import pytest

from lakebed.build import build_defs
from lakebed.ingest.report import LoadReport
from lakebed.ingest.sources.reader import SourceError
from lakebed.orchestration import hot_assets as assets
from lakebed.spec.partitions import Window
from lakebed.store.platform import open_platform
from tests.dagster.conftest import Project, asset_key, checks_of

SPRING = ("2024-01", "2024-05")
MONTHS = {"2024-01", "2024-02", "2024-03", "2024-04", "2024-05"}


@pytest.fixture
def windowed(project: Project) -> Project:
    """The project with readings loaded by window."""
    readings = replace(project.platform.table("readings"), load_by="window", changed_files=None)
    tables = (readings, project.platform.table("accounts"))
    project.platform = open_platform(project.platform.settings, tables)
    project.defs = build_defs(project.platform.settings, tables=tables)
    return project


def test_a_range_of_windows_is_one_run_and_can_be_repeated(windowed: Project) -> None:
    windowed.deliver_readings("1.parquet")
    for _ in range(2):
        result = windowed.run("hot/readings", partitions=SPRING)
        assert result.success
        rows = {
            event.partition: event.metadata["dagster/partition_row_count"].value
            for event in result.asset_materializations_for_node("hot__readings")
        }
        assert rows == {"2024-01": 62, "2024-02": 58, "2024-03": 62, "2024-04": 60, "2024-05": 58}
        checks = checks_of(result, "hot/readings", "reconciliation")
        assert {month: check.metadata["rows_read"].value for month, check in checks.items()} == rows
        assert all(check.passed for check in checks.values())
        assert windowed.answer("select count(*), sum(number)::int from readings") == (300, 44850)
    assert windowed.materialized("hot/readings") == MONTHS


def test_a_window_that_fails_leaves_the_others_green(
    windowed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    windowed.deliver_readings("1.parquet")
    load_window = assets.load_window

    def fail_in_march(*arguments: object, **named: object) -> LoadReport:
        window = arguments[-1]
        assert isinstance(window, Window)
        if window.key == "2024-03":
            raise SourceError("march.parquet", "it is not there")
        return load_window(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(assets, "load_window", fail_in_march)
    result = windowed.run("hot/readings", partitions=SPRING, raise_on_error=False)
    assert not result.success
    assert windowed.materialized("hot/readings") == MONTHS - {"2024-03"}
    failure = result.failure_data_for_node("hot__readings")
    assert failure is not None and failure.error is not None
    assert "1 of 5 partitions failed: 2024-03: march.parquet: it is not there" in str(failure)


@pytest.mark.thorough
def test_windows_settle_after_they_were_loaded(windowed: Project) -> None:
    windowed.deliver_readings("1.parquet")
    windowed.run("hot/readings", partitions=SPRING)
    windowed.run("cold/readings", partitions=SPRING)
    assert windowed.execute("select count(*) from readings") == [(0,)]
    windowed.run("hot/readings", partitions=("2024-02", "2024-02"))
    assert windowed.execute("select count(*) from readings") == [(58,)]
    assert windowed.answer("select count(*), sum(number)::int from readings") == (300, 44850)


def test_the_sensor_of_new_files_leaves_such_a_table_alone(windowed: Project) -> None:
    windowed.deliver_readings("1.parquet")
    windowed.deliver_accounts("1.csv", 1)
    sensor = windowed.defs.resolve_sensor_def("new_files")
    context = dg.build_sensor_context(instance=windowed.instance)
    answer = sensor(context)
    assert isinstance(answer, dg.SensorResult)
    wanted = [request.asset_selection for request in answer.run_requests or []]
    assert wanted == [[asset_key("hot/accounts")]]
