"""Columns before anything ran: their types from DuckDB, their origins from sqlglot."""

from __future__ import annotations

import pytest

from lakebed.models.lineage import column_lineage, source_lineage
from lakebed.models.model import ModelError, ModelSet
from lakebed.models.schemas import model_schemas
from tests.unit.models.conftest import Project

TABLES = {
    "flights": {"carrier": "VARCHAR", "delay": "INTEGER", "time_hour": "TIMESTAMPTZ"},
    "airlines": {"carrier": "VARCHAR", "name": "VARCHAR"},
}
# Shorter to read in a query than the calls of source() behind them.
SHORT = (
    "{% set flights = source('lakebed', 'flights') %}"
    "{% set airlines = source('lakebed', 'airlines') %}"
)


def load(project: Project, files: dict[str, str]) -> ModelSet:
    return project.load({name: SHORT + text for name, text in files.items()})


def lineage_of(project: Project, text: str) -> dict[str, list[tuple[str, str]]]:
    models = load(project, {"marts/m.sql": text})
    schemas = model_schemas(models, TABLES)
    found = column_lineage(models.get("m"), schemas)
    return {
        column: [(step.table, step.column) for step in steps] for column, steps in found.items()
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "select carrier as c, delay + 1 as d from {{ flights }}",
            {"c": [("flights", "carrier")], "d": [("flights", "delay")]},
            id="an expression",
        ),
        pytest.param(
            "with a as (select * from {{ flights }}), b as (select delay as x, carrier from a) "
            "select max(x) as worst from b",
            {"worst": [("flights", "delay")]},
            id="ctes and a star",
        ),
        pytest.param(
            "with flights as (select delay as d from {{ flights }}) select d from flights",
            {"d": [("flights", "delay")]},
            id="a cte with the name of its table",
        ),
        pytest.param(
            "select f.*, a.name from {{ flights }} as f join {{ airlines }} as a using (carrier)",
            {
                "carrier": [("flights", "carrier")],
                "delay": [("flights", "delay")],
                "time_hour": [("flights", "time_hour")],
                "name": [("airlines", "name")],
            },
            id="a join using a column",
        ),
        pytest.param(
            "select concat(a.name, f.carrier) as label, count(*) as n from {{ flights }} as f, "
            "{{ airlines }} as a where f.delay > 0 group by all",
            {"label": [("airlines", "name"), ("flights", "carrier")], "n": []},
            id="two tables, and a count of rows",
        ),
        pytest.param(
            "select carrier from {{ flights }} union all select name from {{ airlines }}",
            {"carrier": [("airlines", "name"), ("flights", "carrier")]},
            id="a union",
        ),
        pytest.param(
            "select (select max(name) from {{ airlines }} as a where a.carrier = f.carrier) as n "
            "from {{ flights }} as f",
            {"n": [("airlines", "name")]},
            id="a scalar subquery",
        ),
        pytest.param(
            "select DELAY as Late from {{ flights }}",
            {"Late": [("flights", "delay")]},
            id="other cases of letters",
        ),
        pytest.param(
            "select sum(delay) over (partition by carrier order by time_hour) as s "
            "from {{ flights }}",
            {"s": [("flights", "carrier"), ("flights", "delay"), ("flights", "time_hour")]},
            id="a window",
        ),
        pytest.param(
            "with recursive r as (select 1 as n union all select n + 1 from r where n < 3) "
            "select n from r",
            {"n": []},
            id="no table at all",
        ),
        pytest.param(
            "select min(columns(*)) from {{ flights }}",
            {"carrier": [], "delay": [], "time_hour": []},
            id="columns that sqlglot does not unfold",
        ),
        pytest.param("select delay + 1 from {{ flights }}", {"(delay + 1)": []}, id="no name"),
        pytest.param(
            "pivot {{ flights }} on carrier in ('UA') using sum(delay) group by time_hour",
            {"time_hour": [], "UA": []},
            id="a pivot",
        ),
    ],
)
def test_a_column_names_the_columns_that_it_is_computed_from(
    project: Project, text: str, expected: dict[str, list[tuple[str, str]]]
) -> None:
    assert lineage_of(project, text) == expected


def test_columns_are_known_without_the_model_s_own_schema(project: Project) -> None:
    models = load(project, {"marts/m.sql": "select * from {{ flights }}"})
    assert column_lineage(models.get("m"), TABLES) == {
        column: [("flights", column)] for column in TABLES["flights"]
    }


def test_a_column_of_an_unknown_table_has_no_lineage(project: Project) -> None:
    models = load(project, {"marts/m.sql": "select carrier from {{ flights }}"})
    assert column_lineage(models.get("m"), {}) == {"carrier": []}


def test_answers_have_the_spelling_of_the_tables(project: Project) -> None:
    models = load(project, {"marts/m.sql": "select DELAY as d from {{ flights }}"})
    assert column_lineage(models.get("m"), {"flights": {"Delay": "INTEGER"}}) == {
        "d": [("flights", "Delay")]
    }


def test_an_exotic_type_does_not_stop_the_tracing(project: Project) -> None:
    models = load(project, {"marts/m.sql": "select a, b from {{ flights }}"})
    schemas = {"flights": {"a": "STRUCT(x UNION(i INTEGER, s VARCHAR))[]", "b": "no type at all"}}
    assert column_lineage(models.get("m"), schemas) == {
        "a": [("flights", "a")],
        "b": [("flights", "b")],
    }


def test_source_lineage_goes_through_models_down_to_tables(project: Project) -> None:
    models = load(
        project,
        {
            "staging/stg.sql": "select carrier as c, delay as d, 1 as one from {{ flights }}",
            "marts/top.sql": "select a.name, s.d + s.one as e from {{ ref('stg') }} as s "
            "join {{ airlines }} as a on a.carrier = s.c",
        },
    )
    schemas = model_schemas(models, TABLES)
    assert column_lineage(models.get("top"), schemas)["e"] == [("stg", "d"), ("stg", "one")]
    assert source_lineage(models, schemas)["top"] == {
        "name": [("airlines", "name")],
        "e": [("flights", "delay")],
    }


class TestSchemas:
    def test_a_model_s_columns_and_types_are_those_that_duckdb_gives(
        self, project: Project
    ) -> None:
        models = load(
            project,
            {
                "marts/a.sql": "select time_hour, avg(delay) as d from {{ flights }} group by all",
                "marts/b.sql": "select d > 1 as late, cast(1.5 as decimal(5, 2)) as x "
                "from {{ ref('a') }}",
            },
        )
        schemas = model_schemas(models, TABLES)
        assert schemas["flights"] == TABLES["flights"]
        assert schemas["a"] == {"time_hour": "TIMESTAMP WITH TIME ZONE", "d": "DOUBLE"}
        assert schemas["b"] == {"late": "BOOLEAN", "x": "DECIMAL(5,2)"}

    def test_an_unknown_column_is_an_error_with_its_line_in_the_file(
        self, project: Project
    ) -> None:
        text = (
            "{% set many = 3 %}\nselect\n{% for n in range(many) %}\n    {{ n }} as c{{ n }},\n"
            "{% endfor %}\n    dellay\nfrom {{ flights }}"
        )
        models = load(project, {"marts/a.sql": text})
        with pytest.raises(ModelError) as caught:
            model_schemas(models, TABLES)
        assert caught.value.line == 6
        assert str(caught.value).removeprefix(f"{project.folder}/") == (
            "marts/a.sql:6: DuckDB refuses 'a': Binder Error: Referenced column "
            '"dellay" not found in FROM clause! Candidate bindings: "delay" '
            "(line 10 of the compiled SQL). Correct the query or its inputs."
        )

    def test_a_sum_of_texts_is_an_error(self, project: Project) -> None:
        models = load(project, {"marts/a.sql": "select\n    sum(carrier) as s\nfrom {{ flights }}"})
        with pytest.raises(ModelError, match=r"a\.sql:2: DuckDB refuses 'a': Binder"):
            model_schemas(models, TABLES)
