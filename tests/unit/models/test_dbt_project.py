"""A dbt project as it is, against what dbt itself made of it (tests/models_project)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakebed.models.model import ModelSet
from lakebed.models.parser import load_models
from lakebed.models.schemas import model_schemas

PROJECT = Path(__file__).parents[2] / "models_project"
EXPECTED: dict[str, Any] = json.loads((PROJECT / "expected.json").read_text())


@pytest.fixture(scope="module")
def models() -> ModelSet:
    return load_models(PROJECT, {"lakebed": set()})


@pytest.fixture(scope="module")
def built(models: ModelSet) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for model in models.built():
            kind = "view" if model.materialized == "view" else "table"
            for hook in model.pre_hooks:
                connection.execute(hook)
            connection.execute(f'create {kind} "{model.name}" as {model.sql}')
            for hook in model.post_hooks:
                connection.execute(hook)
        yield connection


def test_the_models_and_seeds_are_dbt_s(models: ModelSet) -> None:
    assert {model.name for model in models.built()} == EXPECTED["relations"].keys()
    assert {test.name for test in models.tests} == EXPECTED["tests"].keys()


@pytest.mark.parametrize("name", EXPECTED["relations"])
def test_a_relation_has_the_columns_the_types_and_the_rows_that_dbt_gives_it(
    built: duckdb.DuckDBPyConnection, name: str
) -> None:
    relation = built.sql(f'from "{name}"')
    columns = dict(zip(relation.columns, map(str, relation.types), strict=True))
    rows = built.sql(f'select columns(*)::varchar from "{name}" order by all').fetchall()  # noqa: S608
    assert {"columns": columns, "rows": [list(row) for row in rows]} == EXPECTED["relations"][name]


@pytest.mark.parametrize("name", EXPECTED["tests"])
def test_a_test_ends_as_it_ends_in_dbt(
    models: ModelSet, built: duckdb.DuckDBPyConnection, name: str
) -> None:
    (test,) = [test for test in models.tests if test.name == name]
    rows = len(built.execute(test.sql).fetchall())
    ended = {"pass": "pass", "warn": "warn", "error": "fail"}[test.verdict(rows)]
    assert {"status": ended, "failures": rows} == EXPECTED["tests"][name]


def test_columns_are_known_before_anything_runs(models: ModelSet) -> None:
    schemas = model_schemas(models, {})
    for name, expected in EXPECTED["relations"].items():
        assert schemas[name] == expected["columns"]


def test_what_yaml_says_is_what_the_model_says(models: ModelSet) -> None:
    customers = models.get("customers")
    assert customers.description == ("One row a customer, with the orders and what they came to.")
    assert customers.columns["customer_id"] == "The key of a customer."
    assert customers.tags == ("core",)
    assert models.get("revenue_by_month").tags == ("finance", "nightly")
    assert models.get("stg_orders").key == ("staging", "stg_orders")
    assert customers.key == ("models", "customers")
    assert models.get("raw_orders").key == ("seeds", "raw_orders")
