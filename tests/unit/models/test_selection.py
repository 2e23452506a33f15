"""dbt's selectors over a small graph: raw -> stg_a, stg_b -> mart -> top, with tests."""

from __future__ import annotations

import pytest

from lakebed.models.model import ModelSet
from lakebed.models.selection import SelectionError, select
from tests.unit.models.conftest import Project

FILES = {
    "dbt_project.yml": "name: shop",
    "seeds/raw.csv": "n\n1\n",
    "models/staging/stg_a.sql": "{{ config(tags=['nightly']) }}from {{ ref('raw') }}",
    "models/staging/deep/stg_b.sql": "from {{ source('lakebed', 'flights') }}",
    "models/marts/mart.sql": "{{ config(materialized='table', tags=['nightly', 'slow']) }}"
    "select 1 as n from {{ ref('stg_a') }}, {{ ref('stg_b') }}",
    "models/marts/top.sql": "from {{ ref('mart') }}",
    "models/marts/alone.sql": "select 1 as n",
    "models/s.yml": "models: [{name: mart, columns: [{name: n, data_tests: [unique]}]}]",
    "tests/assert_top.sql": "from {{ ref('top') }} where n < 0",
}


@pytest.fixture
def models(project: Project) -> ModelSet:
    return project.load(FILES)


def names(models: ModelSet, *expressions: str, exclude: tuple[str, ...] = ()) -> str:
    found = select(models, expressions, exclude, {m.name: m.code_version for m in models.models})
    return " ".join(sorted([m.name for m in found.models] + [t.name for t in found.tests]))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("stg_a", "stg_a"),
        ("+mart", "mart raw stg_a stg_b unique_mart_n"),
        ("1+mart", "mart stg_a stg_b unique_mart_n"),
        ("mart+", "assert_top mart top unique_mart_n"),
        ("stg_a+1", "mart stg_a unique_mart_n"),
        ("@stg_b", "assert_top mart raw stg_a stg_b top unique_mart_n"),
        ("+stg_a+", "assert_top mart raw stg_a top unique_mart_n"),
        ("tag:nightly", "mart stg_a unique_mart_n"),
        ("tag:nightly,tag:slow", "mart unique_mart_n"),
        ("tag:slow raw", "mart raw unique_mart_n"),
        ("tag:slow+,top", "assert_top top"),
        ("staging", "stg_a stg_b"),
        ("shop.staging.deep", "stg_b"),
        ("path:models/staging", "stg_a stg_b"),
        ("path:staging/deep", "stg_b"),
        ("staging/", "stg_a stg_b"),
        ("stg_a.sql", "stg_a"),
        ("stg_*", "stg_a stg_b"),
        ("resource_type:seed", "raw"),
        ("resource_type:test", "assert_top unique_mart_n"),
        ("config.materialized:table", "mart unique_mart_n"),
        ("source:lakebed.flights+", "assert_top mart stg_b top unique_mart_n"),
        ("test_name:unique", "unique_mart_n"),
        ("test_type:singular", "assert_top"),
        ("assert_top", "assert_top"),
        ("state:modified", ""),
        ("tag:nobody", ""),
    ],
)
def test_a_selector_names_what_it_names_in_dbt(
    models: ModelSet, expression: str, expected: str
) -> None:
    assert names(models, expression) == expected


def test_several_expressions_mean_any_and_what_is_excluded_is_out(models: ModelSet) -> None:
    assert names(models, "stg_a", "alone") == "alone stg_a"
    assert names(models, "+top", exclude=("tag:nightly",)) == "assert_top raw stg_b top"
    assert names(models, exclude=("staging marts",)) == "raw"
    assert names(models).split() == sorted([*models.by_name, *(test.name for test in models.tests)])


def test_the_state_is_what_was_built_last(project: Project, models: ModelSet) -> None:
    built = {model.name: model.code_version for model in models.models}
    del built["alone"]
    project.write({"seeds/raw.csv": "n\n2\n", "models/marts/top.sql": "from {{ ref('mart') }}--"})
    changed = project.load({})
    assert [m.name for m in select(changed, ["state:modified"], (), built).models] == [
        "alone",
        "raw",
        "top",
    ]
    assert [m.name for m in select(changed, ["state:new"], (), built).models] == ["alone"]
    modified = select(changed, ["state:modified+"], (), built).names
    assert modified == {"alone", "raw", "stg_a", "mart", "top"}


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("stg_c", "'stg_c' matches nothing. Did you mean 'stg_"),
        ("tagg:x", "'tagg:x' has an unknown method. Did you mean 'tag'?"),
        ("source:raw.trips", "source:raw.trips matches no source."),
        ("state:old_one", "state:old_one is unknown"),
        ("+", "'+' is not a selector"),
    ],
)
def test_a_selector_that_matches_nothing_suggests_names(
    models: ModelSet, expression: str, said: str
) -> None:
    with pytest.raises(SelectionError) as caught:
        names(models, expression)
    assert str(caught.value).startswith(said)
