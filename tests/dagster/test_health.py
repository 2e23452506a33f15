"""platform/health: what one look at the platform shows, and what makes its check fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lakebed.build import build_defs
from lakebed.cli import main as cli
from lakebed.store.platform import open_platform
from tests.dagster.conftest import Project, check_of, metadata_of, table_of
from tests.unit.monitoring.test_metrics import parsed

SPRING = ("2024-01", "2024-03")


@pytest.fixture
def guarded(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project whose readings must not be older than 40 days; the tests' server has no fsync."""
    monkeypatch.setattr("lakebed.monitoring.diagnosis._SETTINGS", {})
    readings = replace(project.platform.table("readings"), freshness=timedelta(days=40))
    tables = (readings, project.platform.table("accounts"))
    project.platform = open_platform(project.platform.settings, tables)
    project.defs = build_defs(project.platform.settings, tables=tables)
    return project


def test_a_look_shows_sizes_partitions_and_runs_and_how_much_has_grown(guarded: Project) -> None:
    guarded.deliver_readings("1.parquet")
    guarded.run("hot/readings")
    guarded.run("cold/readings", partitions=SPRING)
    told = metadata_of(guarded.run("platform/health"), "platform/health")
    assert (told["hot_rows"], told["cold_rows"], told["quarantined_rows"]) == (118, 182, 0)
    assert told["hot_bytes"] > 0 < told["cold_bytes"]
    assert told["grown_since"] == "the first look"
    assert "data:image/svg+xml;base64," in told["heat_map"]
    assert "3 cold (blue)" in told["heat_map"]
    guarded.deliver_readings("2.parquet", first=300, rows=20)
    guarded.run("hot/readings")
    result = guarded.run("platform/health")
    told = metadata_of(result, "platform/health")
    assert (told["hot_rows_grown"], told["cold_rows_grown"]) == (20, 0)
    (event,) = result.asset_materializations_for_node("platform__health")
    rows = [record.data for record in event.metadata["tables"].records]
    assert [(row["table"], row["hot_rows"], row["cold_rows"]) for row in rows] == [
        ("readings", 138, 182),
        ("accounts", 0, 0),
    ]
    runs = [record.data for record in event.metadata["last_runs"].records]
    assert runs[1]["what"] == "hot/readings"
    assert {run["status"] for run in runs[1:]} == {"SUCCESS"}


def test_a_lag_beyond_the_policy_and_an_overdue_move_turn_the_check_red(guarded: Project) -> None:
    guarded.deliver_readings("1.parquet", rows=200)
    guarded.run("hot/readings")
    check = check_of(guarded.run("platform/health"), "platform/health", "nothing_is_wrong")
    assert not check.passed
    wrong = {r["what"]: r["todo"] for r in table_of(check, "findings") if r["level"] == "wrong"}
    lag = next(what for what in wrong if "newest row" in what)
    assert "freshness allows 40 days, 0:00:00" in lag
    assert "lakebed load readings" in wrong[lag]
    assert any("due and not moved: 2024-01" in what for what in wrong)


def test_the_command_metrics_writes_what_prometheus_reads(
    guarded: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    guarded.deliver_readings("1.parquet")
    guarded.run("hot/readings")
    for name, value in guarded.platform.settings.environment().items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    cli.group.main(["metrics"], standalone_mode=False)
    found = parsed(capsys.readouterr().out)
    assert found['lakebed_table_hot_rows{table="readings"}'] == 300
    target = tmp_path / "lakebed.prom"
    cli.group.main(["metrics", "--output", str(target)], standalone_mode=False)
    assert parsed(target.read_text()).keys() == found.keys()
    assert [path.name for path in tmp_path.glob("*lakebed.prom*")] == ["lakebed.prom"]
