"""Models that are built by windows, dbt's microbatch: each window is a file that is replaced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakebed.models.incremental import windows_to_build
from lakebed.models.materialize import BuildRange, build_model
from lakebed.models.model import Batches, ModelError
from lakebed.resources.settings import Settings
from lakebed.spec.partitions import Grain
from tests.support import processes
from tests.support.projects import Project

CONFIG = (
    "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day',"
    " batch_size='month', begin='2024-03-01') }}\n"
)
MODEL = CONFIG + "select day, count(*) as n, max(v) as v from {{ ref('raw') }} group by day"  # noqa: S608


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def project(settings: Settings, tmp_path: Path) -> Project:
    # The clock of the tests stands at 2024-07-01.
    folder = tmp_path / "sql"
    folder.mkdir()
    project = Project(settings, folder).write({"a/m.sql": MODEL})
    give(project, "old")
    return project


def give(project: Project, v: str, until: str = "2024-07-05") -> None:
    """Let raw have a row for each day from February on, that says v."""
    project.write(
        {
            "a/raw.sql": "{{ config(event_time='day') }}\n"
            f"select d::date as day, '{v}' as v from range(date '2024-02-01', date '{until}',"
            " interval 1 day) t(d)"
        }
    )
    assert project.build("raw")["raw"].status == "ok"


def run(project: Project, since: str | None = None, until: str | None = None, **more: Any) -> int:
    models = project.models
    build_range = BuildRange(at(since) if since else None, at(until) if until else None)
    built = build_model(project.platform, models, models.get("m"), build_range=build_range, **more)
    assert built.rows is not None
    return built.rows


def by_month(project: Project) -> dict[int, tuple[int, str]]:
    rows = project.rows("select month(day), count(*), string_agg(distinct v) from m group by 1")
    return {month: (count, v) for month, count, v in sorted(rows)}  # type: ignore[misc]


def files(project: Project) -> list[tuple[Any, ...]]:
    with project.platform.postgres.connect() as connection:
        return connection.execute(
            "select number, to_char(lower_bound at time zone 'UTC', 'MM'), rows"
            " from lakebed.model_file where superseded_at is null order by 2"
        ).fetchall()


def test_each_window_is_built_and_the_newest_ones_again(project: Project) -> None:
    assert run(project) == 31 + 30 + 31 + 30 + 4
    assert files(project) == [
        (1, "03", 31),
        (2, "04", 30),
        (3, "05", 31),
        (4, "06", 30),
        (5, "07", 4),
    ]
    give(project, "new", until="2024-07-10")
    run(project)
    months = {month: v for month, (_, v) in by_month(project).items()}
    assert months == {3: "old", 4: "old", 5: "old", 6: "new", 7: "new"}
    assert [number for number, *_ in files(project)] == [1, 2, 3, 6, 7]


def test_a_stretch_replaces_its_windows_and_no_others(project: Project) -> None:
    run(project)
    give(project, "new")
    run(project, "2024-04-10", "2024-05-01")
    assert by_month(project)[4] == (30, "new")
    assert {v for month, (_, v) in by_month(project).items() if month != 4} == {"old"}
    with pytest.raises(ModelError, match="begins 2024-03-01"):
        run(project, "2023-01-01", "2023-02-01")


def test_windows_that_were_not_built_are_built_later(project: Project) -> None:
    run(project, "2024-05-01", "2024-06-01")
    assert by_month(project) == {5: (31, "old")}
    give(project, "new")
    assert run(project) == 126
    assert set(by_month(project)) == {3, 4, 5, 6, 7}


def test_a_window_that_has_no_rows_any_more_is_empty(project: Project) -> None:
    run(project)
    give(project, "new", until="2024-04-02")
    run(project, "2024-04-01", "2024-07-01")
    assert {month: count for month, (count, _) in by_month(project).items()} == {3: 31, 4: 1, 7: 4}
    give(project, "none", until="2024-02-02")
    run(project, "2024-03-01")
    assert project.rows("from m") == []


def test_an_input_is_seen_whole_by_render_and_where_it_has_no_time(project: Project) -> None:
    text = MODEL.replace("max(v)", "(select count(*) from {{ ref('raw').render() }})")
    project.write({"a/m.sql": text})
    run(project, "2024-04-01", "2024-05-01")
    assert project.rows("select distinct v from m") == [(155,)]
    assert "(select * from" not in project.models.get("m").sql


def test_rows_outside_of_the_window_are_refused(project: Project) -> None:
    run(project)
    project.write({"a/m.sql": MODEL.replace("ref('raw')", "ref('raw').render()")})
    with pytest.raises(ModelError, match="rows for 2024-06 whose day lies outside of it"):
        run(project)
    assert len(files(project)) == 5


def test_other_windows_need_a_full_refresh(project: Project) -> None:
    run(project)
    project.write({"a/m.sql": MODEL.replace("'month'", "'day'")})
    with pytest.raises(ModelError, match="do not have windows of a day"):
        run(project)
    assert run(project, full_refresh=True) == 123, "what comes after today is nobody's yet"
    assert len(files(project)) == 123


def test_readers_see_all_windows_of_a_run_or_none(project: Project) -> None:
    run(project)
    give(project, "new")
    seen: list[tuple[str, set[str]]] = []

    def look(step: str) -> None:
        seen.append((step, {v for _, v in by_month(project).values()}))

    run(project, "2024-03-01", on_step=look)
    assert seen[-1] == ("committed", {"new"})
    assert {tuple(values) for _, values in seen[:-1]} == {("old",)}


@pytest.mark.parametrize("step", ["named", "recorded"])
def test_a_build_by_windows_killed_after_a_step_has_replaced_nothing(
    project: Project, step: str
) -> None:
    run(project)
    give(project, "new")
    assert processes.run(processes.build_one, project.platform.settings, "m", step) == -9
    assert {v for _, v in by_month(project).values()} == {"old"}
    assert processes.run(processes.build_one, project.platform.settings, "m", None) == 0
    assert by_month(project)[7] == (4, "new")


def test_which_windows_a_run_builds() -> None:
    batches = Batches("t", Grain.DAY, at("2024-01-01"), lookback=2)
    now = at("2024-01-10") + timedelta(hours=5)

    def keys(*args: datetime | None) -> list[str]:
        return [window.key[-2:] for window in windows_to_build(batches, now, *args)]

    assert keys(None) == [f"{day:02}" for day in range(1, 11)]
    assert keys(at("2024-01-11")) == ["08", "09", "10"]
    assert keys(at("2024-01-06")) == ["06", "07", "08", "09", "10"]
    assert keys(None, at("2023-12-01"), at("2024-01-03")) == ["01", "02"]
    assert keys(None, at("2024-01-09")) == ["09", "10"]


def test_a_model_by_windows_names_its_missing_option(project: Project) -> None:
    project.write({"a/m.sql": MODEL.replace(" begin='2024-03-01'", " lookback=0")})
    (broken,) = project.models.broken
    assert (broken.name, broken.path) == ("m", project.folder / "a" / "m.sql")
    assert "begin" in str(broken.error)
