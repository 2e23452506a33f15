"""SQL models in Dagster: seeds and models as assets, tests as checks that show rows and stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from lakebed.build import build_defs
from lakebed.store.platform import open_platform
from tests.conftest import settings_for
from tests.dagster.conftest import Project, asset_key, check_of, metadata_of, table_of

FILES = {
    "seeds/raw.csv": "id,kind\n1,a\n2,b\n2,b\n",
    "staging/kinds.sql": "-- Kinds.\nselect distinct kind from {{ ref('raw') }}",
    "staging/rows.sql": "{{ config(materialized='ephemeral') }}"
    "select id, kind from {{ ref('raw') }}",
    "marts/items.sql": "{{ config(materialized='table', tags=['nightly']) }}from {{ ref('rows') }}",
    "marts/counted.sql": "select count(*) as n from {{ ref('items') }}",
    "schema.yml": (
        "models:\n"
        "  - name: items\n"
        "    description: One row an item.\n"
        "    columns:\n"
        "      - name: id\n"
        "        description: The key.\n"
        "        data_tests: [unique, not_null]\n"
        "      - name: kind\n"
        "        data_tests:\n"
        "          - relationships: {to: ref('kinds'), field: kind}\n"
    ),
}
ASSETS = ("seeds/raw", "staging/kinds", "marts/items", "marts/counted")


@pytest.fixture
def project(tmp_path: Path, database: str, instance: dg.DagsterInstance) -> Project:
    models = tmp_path / "models"
    for name, text in FILES.items():
        path = models / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    settings = settings_for(tmp_path, database, LAKEBED_MODELS=str(models))
    settings.data.mkdir()
    return Project(open_platform(settings), build_defs(settings), instance)


def test_a_blocking_test_shows_its_rows_and_stops_what_follows(project: Project) -> None:
    result = project.run(*ASSETS, raise_on_error=False)
    assert not result.success
    unique = check_of(result, "marts/items", "unique_items_id")
    assert (unique.passed, unique.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert table_of(unique, "offending_rows") == [{"unique_field": "2", "n_records": "2"}]
    assert check_of(result, "marts/items", "not_null_items_id").passed
    assert result.asset_materializations_for_node("marts__items")
    assert not result.asset_materializations_for_node("marts__counted")


def test_an_asset_says_where_its_columns_come_from_and_waits_for_what_its_tests_read(
    project: Project,
) -> None:
    seed = project.platform.settings.models / "seeds/raw.csv"
    seed.write_text("id,kind\n1,a\n2,b\n")
    project.defs = build_defs(project.platform.settings)
    result = project.run(*ASSETS)
    apart = check_of(result, "marts/items", "relationships_items_kind__kind__ref_kinds_")
    assert apart.passed
    assert metadata_of(result, "seeds/raw")["dagster/row_count"] == 2
    assert metadata_of(result, "marts/items")["dagster/row_count"] == 2
    assert project.answer("from counted") == (2,)

    graph = project.defs.resolve_asset_graph()
    items = graph.get(asset_key("marts/items"))
    # The ephemeral model between them is no asset.
    assert items.parent_keys == {asset_key("seeds/raw")}
    assert not graph.has(asset_key("staging/rows"))
    assert (items.description or "").startswith("One row an item.")
    assert "__dbt__cte__rows" in (items.description or "")
    columns = items.metadata["dagster/column_schema"].columns
    assert [(c.name, c.type, c.description) for c in columns] == [
        ("id", "INTEGER", "The key; from raw.id"),
        ("kind", "VARCHAR", "from raw.kind"),
    ]


def test_what_is_broken_fails_with_its_reason_and_the_rest_works(
    project: Project, tmp_path: Path
) -> None:
    settings = project.platform.settings
    (settings.models / "marts" / "bad.sql").write_text("select x'ab' as b")
    (settings.models / "marts" / "unfit.sql").write_text("select no from {{ ref('items') }}")
    (settings.models / "marts" / "reads_bad.sql").write_text("from {{ ref('bad') }}")
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "torn.py").write_text("torn = SourceTable(name='torn', model=1 / 0)")
    settings = replace(settings, tables=tables)
    project.platform, project.defs = open_platform(settings), build_defs(settings)
    broken = {
        spec.key.to_user_string(): spec
        for spec in project.defs.resolve_all_asset_specs()
        if spec.group_name == "broken"
    }
    assert broken.keys() == {"marts/bad", "marts/unfit", "marts/reads_bad", "hot/torn"}
    for name in broken:
        result = project.run(name, raise_on_error=False)
        assert not result.success
        (failure,) = [e for e in result.all_events if e.is_step_failure]
        data = failure.step_failure_data
        assert data.user_failure_data is not None
        assert broken[name].metadata["problem"] == data.user_failure_data.description
        assert broken[name].metadata["problem"] in str(broken[name].description)
    project.run("seeds/raw", "staging/kinds")
    health = project.run("platform/health")
    check = check_of(health, "platform/health", "nothing_is_wrong")
    assert not check.passed
    assert {"torn", "bad", "unfit"} <= {row["where"] for row in table_of(check, "findings")}
