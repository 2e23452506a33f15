"""Old runs are forgotten; what Dagster knows of assets and partitions is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lakebed.orchestration import run_retention as retention
from lakebed.orchestration.run_retention import forget_runs
from tests.dagster.conftest import QUIET, Project, asset_key

KEEP = timedelta(days=90)


def runs(project: Project) -> set[str]:
    return {run.run_id for run in project.instance.get_runs()}


@pytest.mark.thorough
def test_what_is_old_goes_unless_an_asset_or_a_partition_needs_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAGE", 2)
    project.deliver_readings("1.parquet")
    first = project.run("hot/readings").run_id
    project.run("cold/readings", partitions=("2024-01", "2024-02"))
    project.run("cold/readings", partitions=("2024-02", "2024-02"))
    upkeep = project.defs.resolve_job_def("upkeep")
    done = upkeep.execute_in_process(instance=project.instance, run_config=QUIET)
    last = project.run("hot/readings").run_id
    before = runs(project)
    now = datetime.now(UTC)
    assert forget_runs(project.instance, now + KEEP - timedelta(hours=1), KEEP) == 0
    assert runs(project) == before
    assert forget_runs(project.instance, now + KEEP + timedelta(hours=1), KEEP) == 2
    assert before - runs(project) == {first, done.run_id}
    assert project.materialized("cold/readings") == {"2024-01", "2024-02"}
    newest = project.instance.get_latest_materialization_event(asset_key("hot/readings"))
    assert newest is not None
    assert newest.run_id == last
