"""A model that is built by windows as a partitioned asset: a range in one run, late rows alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakebed.build import build_defs
from lakebed.store.platform import open_platform
from tests.conftest import settings_for
from tests.dagster.conftest import Project, asset_key

# Dagster's own tester calls something that is in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `include_sources`")

MODEL = (
    "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day',"
    " batch_size='month', begin='2024-01-01') }}\n"
    'select "at"::date as day, count(*) as n from {{ source("lakebed", "readings") }} group by 1'
)
MART = "marts/daily"


@pytest.fixture
def project(tmp_path: Path, database: str, instance: dg.DagsterInstance) -> Project:
    models = tmp_path / "models"
    (models / "marts").mkdir(parents=True)
    (models / "marts/daily.sql").write_text(MODEL)
    (models / "marts/total.sql").write_text("select sum(n) as n from {{ ref('daily') }}")
    settings = settings_for(tmp_path, database, LAKEBED_MODELS=str(models))
    settings.data.mkdir()
    return Project(open_platform(settings), build_defs(settings), instance)


def windows(project: Project) -> dict[str, int]:
    """Return month -> number of the file that holds it."""
    query = (
        "select to_char(lower_bound at time zone 'UTC', 'YYYY-MM'), number from lakebed.model_file"
        " where superseded_at is null order by 1"
    )
    return dict(project.execute(query))


def asked(project: Project, cursor: Any, now: datetime) -> tuple[Any, set[str]]:
    """Return what a tick asks for of the mart, as partition keys."""
    result = dg.evaluate_automation_conditions(
        project.defs, project.instance, cursor=cursor, evaluation_time=now
    )
    return result.cursor, set(result.get_requested_partitions(asset_key(MART)) or ()) - {None}


def test_a_range_is_one_run_and_late_rows_rebuild_their_window(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    result = project.run(MART, partitions=("2024-01", "2024-05"))
    assert len(result.asset_materializations_for_node("marts__daily")) == 5
    assert windows(project) == {f"2024-{month:02}": month for month in range(1, 6)}
    assert project.materialized(MART) == {f"2024-{month:02}" for month in range(1, 6)}
    project.run("marts/total")
    assert project.answer("select n from total") == (300,)

    project.run("cold/readings", partitions=("2024-01", "2024-04"))
    project.run(MART, partitions=("2024-01", "2024-05"))
    now = datetime(2024, 7, 1, tzinfo=UTC)
    cursor, _ = asked(project, None, now)
    # A row of February comes late: its fold marks February.
    project.deliver_readings("2.parquet", first=80, rows=1)
    project.run("hot/readings")
    project.run("cold/readings", partitions=("2024-02", "2024-02"))
    cursor, marked = asked(project, cursor, now + timedelta(minutes=1))
    assert "2024-02" in marked
    assert not marked & {"2024-01", "2024-03", "2024-04", "2024-05"}
    before = windows(project)
    project.run(MART, partitions=("2024-02", "2024-02"))
    after = windows(project)
    assert {month for month in after if after[month] != before[month]} == {"2024-02"}
    assert project.answer("select sum(n) from daily") == (301,)
    _, marked = asked(project, cursor, now + timedelta(minutes=2))
    assert "2024-02" not in marked
