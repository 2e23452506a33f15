"""What cannot be used of a project is named and left out with what reads it; the rest works."""

from __future__ import annotations

import pytest

from lakebed.models.model import ModelSet
from lakebed.models.parser import read_models
from lakebed.models.schemas import fitting_models
from lakebed.models.selection import select
from tests.unit.models.conftest import SOURCES, Project

GOOD = {
    "marts/good.sql": "select 1 as n",
    "marts/reads_good.sql": "from {{ ref('good') }}",
    "tests/good_is_one.sql": "from {{ ref('good') }} where n <> 1",
}
READS_BAD = {
    "marts/reads_bad.sql": "from {{ ref('bad') }}",
    "marts/reads_reads_bad.sql": "from {{ ref('reads_bad') }}",
    "tests/bad_is_one.sql": "from {{ ref('bad') }} where n <> 1",
}


def read(project: Project, files: dict[str, str]) -> ModelSet:
    folder = project.write(GOOD | files).folder
    return read_models(folder, SOURCES, {}, broken_tables={"torn"})


@pytest.mark.parametrize(
    "files",
    [
        {"marts/bad.sql": "select x'ab' as n"},
        {"marts/bad.sql": "summarize {{ source('lakebed', 'flights') }}"},
        {"marts/bad.sql": "select (1 as n"},
        {"marts/bad.sql": "select {{ 1 / 0 }} as n"},
        {"marts/bad.sql": "{% if %}"},
        {"marts/bad.sql": "{{ config(materialised='table') }}select 1 as n"},
        {"marts/bad.sql": "from {{ ref('nothing') }}"},
        {"marts/bad.sql": "from {{ source('lakebed', 'torn') }}"},
        {"marts/bad.sql": "select 1 as n", "staging/bad.sql": "select 2 as n"},
        {"marts/bad.sql": "select 1 as n", "seeds/bad.csv": "n\n1\n"},
        {"marts/bad.sql": "select 1 as n", "bad.sql": "select 2 as n"},
        {"seeds/bad.csv": ""},
        {"marts/bad.py": "def model(dbt, session):\n    return session.sql('select 1 as n')"},
        {"bad.sql": "select 1 as n"},
        {"hot/bad.sql": "select 1 as n"},
        {"marts/bad.sql": "select 1 as n", "marts/x.yml": "models: [{name: bad, versions: [1]}]"},
        {"marts/bad.sql": "select 1 as n", "marts/x.yml": "models:\n  - name: bad\n   x"},
        {"marts/bad.sql": "select 1 as n", "x.yml": "models:\n  - name: bad\nmodel: 1"},
        {"marts/bad.sql": "select {{ m() }} as n", "macros/m.sql": "{% macro m( %}1"},
        {"marts/bad.sql": "from {{ ref('worse') }}", "marts/worse.sql": "from {{ ref('bad') }}"},
        {"marts/bad.sql": "{{ config(materialized='ephemeral') }}select (1 as n"},
        {"marts/bad.sql": "select n from x", "marts/b.yml": "models: [{name: bad, tags: [' ']}]"},
    ],
)
def test_a_broken_model_goes_with_its_readers_and_its_tests(
    project: Project, files: dict[str, str]
) -> None:
    models = read(project, files | READS_BAD)
    assert [model.name for model in models.models] == ["good", "reads_good"]
    assert [test.name for test in models.tests] == ["good_is_one"]
    broken = {item.name: item for item in models.broken}
    assert {"bad", "reads_bad", "reads_reads_bad", "bad_is_one"} <= broken.keys()
    assert broken["reads_bad"].reads == "bad"
    assert broken["reads_reads_bad"].reads == "reads_bad"
    assert broken["bad"].path is not None
    assert all(str(project.folder) in str(item.error) for item in models.broken)


def test_a_model_that_does_not_fit_the_tables_goes_with_its_readers(project: Project) -> None:
    models = read(project, {"marts/bad.sql": "select nothing as n", **READS_BAD})
    fitting, schemas = fitting_models(models, {})
    assert [model.name for model in fitting.models] == ["good", "reads_good"]
    assert [test.name for test in fitting.tests] == ["good_is_one"]
    assert {item.name: item.reads for item in fitting.broken} == {
        "bad": None,
        "reads_bad": "bad",
        "reads_reads_bad": "reads_bad",
    }
    assert schemas["reads_good"] == {"n": "INTEGER"}


@pytest.mark.parametrize(
    ("files", "name", "about"),
    [
        ({"tests/off.sql": "select 1 from"}, "off", None),
        ({"tests/off.sql": "select {{ no }} from {{ ref('good') }}"}, "off", None),
        (
            {"marts/x.yml": "models: [{name: good, data_tests: [{no_such: {name: aside}}]}]"},
            "aside",
            "good",
        ),
    ],
)
def test_a_broken_test_leaves_the_model_and_is_named(
    project: Project, files: dict[str, str], name: str, about: str | None
) -> None:
    models = read(project, files)
    (broken,) = models.broken
    assert (broken.kind, broken.name, broken.about) == ("test", name, about)
    assert [model.name for model in models.models] == ["good", "reads_good"]


def test_a_broken_file_of_macros_is_no_reason_to_use_another_macro_of_that_name(
    project: Project,
) -> None:
    files = {
        "macros/unique.sql": "{% test not_null(model, column_name) %}select",
        "marts/x.yml": "models: [{name: good, columns: [{name: n, data_tests: [not_null]}]}]",
    }
    models = read(project, files)
    assert {(item.kind, item.name) for item in models.broken} == {
        ("macros", "unique.sql"),
        ("test", "not_null_good_n"),
    }


def test_a_project_file_that_cannot_be_read_leaves_no_model_whose_options_are_unknown(
    project: Project,
) -> None:
    models = read(project, {"dbt_project.yml": "models: ["})
    assert models.models == ()
    assert [item.kind for item in models.broken] == ["project"]


def test_a_selection_takes_what_is_broken_by_its_name(project: Project) -> None:
    models = read(project, {"marts/bad2.sql": "select (1 as n"})
    assert [item.name for item in select(models).broken] == ["bad2"]
    assert [item.name for item in select(models, ["+bad2"]).broken] == ["bad2"]
    assert select(models, ["+bad2"]).models == ()
    assert select(models, ["good"]).broken == ()
    chosen = select(models, ["good bad2"])
    assert [model.name for model in chosen.models] == ["good"]
    assert [item.name for item in chosen.broken] == ["bad2"]
    assert select(models, [], ["bad2"]).broken == ()
