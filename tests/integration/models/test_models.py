"""SQL models on a real PostgreSQL: what dbt makes of a project, failures, skips, hooks, state."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Barrier

import duckdb
import pytest

from lakebed.models.runner import build, built_versions
from lakebed.models.selection import select
from lakebed.resources.settings import Settings
from lakebed.tiering.catalog_file import write_catalog
from tests.support.projects import Project

SHOP = Path(__file__).parents[2] / "models_project"
EXPECTED = json.loads((SHOP / "expected.json").read_text())


@pytest.fixture
def project(settings: Settings, tmp_path: Path) -> Project:
    folder = tmp_path / "sql"
    folder.mkdir()
    return Project(settings, folder)


@pytest.fixture
def shop(settings: Settings) -> Project:
    return Project(settings, SHOP)


def test_a_dbt_project_is_built_as_dbt_builds_it(shop: Project) -> None:
    results = shop.build()
    ended = {"ok": "pass", "warn": "warn", "failed": "fail"}
    tests = {
        name: {"status": ended[result.status], "failures": result.rows}
        for name, result in results.items()
        if result.materialized == "test"
    }
    assert tests == EXPECTED["tests"]
    with shop.platform.lake.session() as session:
        for name, expected in EXPECTED["relations"].items():
            relation = session.sql(f'from "{name}"')
            columns = dict(zip(relation.columns, map(str, relation.types), strict=True))
            query = f'select columns(*)::varchar from "{name}" order by all'  # noqa: S608
            rows = [list(row) for row in session.sql(query).fetchall()]
            assert {"columns": columns, "rows": rows} == expected
    _compiled_sql_runs_on_the_catalog_file(shop)


def _compiled_sql_runs_on_the_catalog_file(shop: Project) -> None:
    with duckdb.connect(write_catalog(shop.platform), read_only=True) as catalog:
        for model in shop.models.built():
            expected = EXPECTED["relations"][model.name]["rows"]
            assert len(catalog.execute(model.sql).fetchall()) == len(expected)
            assert len(catalog.execute(f'from "{model.name}"').fetchall()) == len(expected)


def test_what_fails_skips_what_reads_it_and_the_rest_goes_on(project: Project) -> None:
    project.write(
        {
            "a/bad.sql": "{{ config(materialized='table') }}select error('no') as n",
            "a/reads_bad.sql": "from {{ ref('bad') }}",
            "a/tested.sql": "select 1 as n",
            "a/reads_tested.sql": "from {{ ref('tested') }}",
            "a/warned.sql": "select 1 as n",
            "a/reads_warned.sql": "from {{ ref('warned') }}",
            "tests/assert_none.sql": "from {{ ref('tested') }}",
            "tests/assert_few.sql": "{{ config(severity='warn') }}from {{ ref('warned') }}",
        }
    )
    results = project.build()
    assert {name: result.status for name, result in results.items()} == {
        "bad": "failed",
        "reads_bad": "skipped",
        "tested": "ok",
        "assert_none": "failed",
        "reads_tested": "skipped",
        "warned": "ok",
        "assert_few": "warn",
        "reads_warned": "ok",
    }
    assert results["assert_none"].error == "1 failing rows: 1"
    assert (results["bad"].error or "").endswith(
        "bad.sql: DuckDB refuses 'bad': Invalid Input Error: no. Correct the query or its inputs."
    )
    assert project.rows("from reads_warned") == [(1,)]


def test_a_column_that_is_not_there_fails_before_anything_runs(project: Project) -> None:
    project.write(
        {
            "a/first.sql": "{{ config(materialized='table') }}select 1 as n",
            "a/second.sql": "select\n    m\nfrom {{ ref('first') }}",
        }
    )
    results = project.build("second")
    assert "second.sql:2: DuckDB refuses 'second'" in (results["second"].error or "")
    assert built_versions(project.platform) == {}


def test_a_model_that_was_never_built_is_named(project: Project) -> None:
    project.write({"a/first.sql": "select 1 as n", "a/second.sql": "from {{ ref('first') }}"})
    said = project.build("second")["second"].error or ""
    assert "'second' reads 'first', which was never built" in said
    assert "lakebed build --select +second" in said


def test_unrelated_models_are_built_side_by_side(project: Project) -> None:
    project.write({"a/x.sql": "select 1 as n", "a/y.sql": "select 2 as n"})
    together = Barrier(2, timeout=60)
    models = project.models
    # Neither goes on before the other has begun.
    results = build(
        project.platform, models, select(models), threads=2, on_start=lambda name: together.wait()
    )
    assert [result.status for result in results] == ["ok", "ok"]


def test_a_hook_sees_the_new_rows_and_where_it_fails_nothing_is_published(
    project: Project, tmp_path: Path
) -> None:
    out = tmp_path / "hooked.csv"
    hooked = (
        "{{ config(materialized='table', pre_hook='create temp macro twice(x) as 2 * x',\n"
        f"post_hook=\"copy (from {{{{ this }}}}) to '{out}'\") }}}}\nselect twice(21) as n"
    )
    project.write({"a/hooked.sql": hooked})
    assert project.build()["hooked"].status == "ok"
    assert out.read_text() == "n\n42\n"
    worse = hooked.replace("twice(21)", "1").replace("copy (from", "copy (select gone from")
    project.write({"a/hooked.sql": worse})
    assert "the post_hook of 'hooked' failed" in (project.build()["hooked"].error or "")
    assert project.rows("from hooked") == [(42,)]


def test_a_changed_model_is_built_from_and_what_reads_it(project: Project) -> None:
    project.write(
        {
            "seeds/raw.csv": "n\n1\n",
            "a/x.sql": "from {{ ref('raw') }}",
            "a/y.sql": "select 2 as n",
        }
    )
    assert len(project.build()) == 3
    project.write({"seeds/raw.csv": "n\n5\n"})
    models = project.models
    changed = select(models, ["state:modified+"], (), built_versions(project.platform))
    assert changed.names == {"raw", "x"}
    build(project.platform, models, changed)
    assert project.rows("from x") == [(5,)]
    again = select(models, ["state:modified"], (), built_versions(project.platform))
    assert again.models == ()


def test_reading_one_model_opens_what_it_reads_and_nothing_else(
    project: Project, settings: Settings
) -> None:
    project.write(
        {
            "a/x.sql": "{{ config(materialized='table') }}select 1 as n",
            "a/v.sql": "from {{ ref('x') }}",
            "a/other.sql": "{{ config(materialized='table') }}select 1 as n",
        }
    )
    project.build()
    with project.platform.lake.session(["v"]) as session:
        assert session.models.keys() == {"v", "x"}
        assert session.bare.sql("from v").fetchall() == [(1,)]
    with project.platform.lake.session() as session:
        assert session.models.keys() == {"v", "x", "other"}


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    return monkeypatch.setenv


def test_the_time_of_the_run_and_the_environment_reach_the_rows(
    project: Project, keep: Callable[[str, str], None]
) -> None:
    keep("DBT_ENV_CUSTOM_ENV_REGION", "north")
    region = "{{ env_var('DBT_ENV_CUSTOM_ENV_REGION') }}"
    project.write({"a/x.sql": f"select '{{{{ run_started_at.date() }}}}' as d, '{region}' as r"})
    project.build()
    assert project.rows("from x") == [("2024-07-01", "north")]


def test_what_cannot_be_read_fails_and_the_rest_is_built(project: Project) -> None:
    project.write(
        {
            "a/bad.sql": "select x'ab' as b",
            "a/reads_bad.sql": "from {{ ref('bad') }}",
            "a/good.sql": "select 1 as n",
            "a/reads_good.sql": "from {{ ref('good') }}",
            "a/guarded.sql": "select 1 as n",
            "a/reads_guarded.sql": "from {{ ref('guarded') }}",
            "a/x.yml": "models: [{name: guarded, data_tests: [{no_such: {name: guard}}]}]",
        }
    )
    results = project.build()
    assert {name: result.status for name, result in results.items()} == {
        "bad": "failed",
        "reads_bad": "skipped",
        "good": "ok",
        "reads_good": "ok",
        "guarded": "ok",
        "guard": "failed",
        "reads_guarded": "skipped",
    }
    assert project.rows("from reads_good") == [(1,)]
    assert {name: result.status for name, result in project.build("good").items()} == {"good": "ok"}
