"""Every construct that dbt_like_sql/README.md lists, each with what it compiles to."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakebed.models.model import ModelSet, Run
from lakebed.models.parser import load_models
from lakebed.spec.partitions import Grain, window_of
from tests.unit.models.conftest import SOURCES, Project

README = (Path(__file__).parents[3] / "dbt_like_sql/README.md").read_text()
LISTED = re.findall(r"^\| `(\{.+?\})` \|", README, re.M)
SOURCES_BLOCK = "sources: [{name: raw, tables: [{name: trips, identifier: flights}]}]"
BASE = {"staging/stg_flights.sql": "select 1 as n"}

# The construct, the files it stands in, the SQL of the model `a`.
COMPILED: dict[str, tuple[dict[str, str], str]] = {
    "{{ source('lakebed', 'flights') }}": (
        {"marts/a.sql": "from {{ source('lakebed', 'flights') }}"},
        'from "flights"',
    ),
    "{{ source('raw', 'trips') }}": (
        {"marts/a.sql": "from {{ source('raw', 'trips') }}", "marts/s.yml": SOURCES_BLOCK},
        'from "flights"',
    ),
    "{{ ref('stg_flights') }}": (
        {**BASE, "marts/a.sql": "from {{ ref('stg_flights') }}"},
        'from "stg_flights"',
    ),
    "{{ ref('shop', 'stg_flights') }}": (
        {
            "dbt_project.yml": "name: shop",
            "models/stg_flights.sql": "select 1 as n",
            "models/a.sql": "from {{ ref('shop', 'stg_flights') }}",
        },
        'from "stg_flights"',
    ),
    "{{ config(materialized='view') }}": (
        {"marts/a.sql": "{{ config(materialized='view') }}select 1"},
        "select 1",
    ),
    "{{ config(materialized='table') }}": (
        {"marts/a.sql": "{{ config(materialized='table') }}select 1"},
        "select 1",
    ),
    "{{ config(materialized='incremental', unique_key='id') }}": (
        {
            "marts/a.sql": "{{ config(materialized='incremental', unique_key='id') }}select 1 as id"
            "{% if is_incremental() %} from {{ this }}{% endif %}"
        },
        "select 1 as id",
    ),
    "{{ config(incremental_strategy='microbatch', event_time='day', ...) }}": (
        {
            "marts/a.sql": "{{ config(materialized='incremental', event_time='day', "
            "incremental_strategy='microbatch', batch_size='month', begin='2013-01-01') }}"
            "select date '2013-01-02' as day"
        },
        "select date '2013-01-02' as day",
    ),
    "{{ ref('stg_flights').render() }}": (
        {**BASE, "marts/a.sql": "from {{ ref('stg_flights').render() }}"},
        'from "stg_flights"',
    ),
    "{{ config(materialized='ephemeral') }}": (
        {
            "staging/e.sql": "{{ config(materialized='ephemeral') }}select 1 as n -- one",
            "marts/a.sql": "with e as (from {{ ref('e') }}) from e",
        },
        "with __dbt__cte__e as (\nselect 1 as n -- one\n),  e as (from __dbt__cte__e) from e",
    ),
    "{{ config(tags=['a'], owner='team:b', enabled=false) }}": (
        {
            "marts/off.sql": "{{ config(tags=['a'], owner='team:b', enabled=false) }}nonsense",
            "marts/a.sql": "select 1",
        },
        "select 1",
    ),
    '{{ config(pre_hook="...", post_hook="...") }}': (
        {
            "marts/a.sql": '{{ config(pre_hook="set threads = 2", '
            'post_hook="from {{ this }} limit 1") }}select 1'
        },
        "select 1",
    ),
    "{{ config.get('materialized') }}": (
        {
            "marts/s.yml": "models: [{name: a, config: {materialized: table}}]",
            "marts/a.sql": "select '{{ config.get('materialized') }}' as kind",
        },
        "select 'table' as kind",
    ),
    "{{ this }}": ({"marts/a.sql": "select '{{ this.identifier }}' as n"}, "select 'a' as n"),
    "{{ var('late_after_minutes', 15) }}": (
        {"marts/a.sql": "select {{ var('late_after_minutes', 15) }} as n"},
        "select 15 as n",
    ),
    "{{ env_var('REGION', 'eu') }}": (
        {
            "marts/a.sql": "select '{{ env_var('REGION', 'eu') }}{{ env_var('CITY') }}' as n",
            "dbt_project.yml": "model-paths: ['.']\nvars: {lakebed_env_vars: [REGION, CIT*]}",
        },
        "select 'euBonn' as n",
    ),
    "{% if is_incremental() %}": (
        {"marts/a.sql": "select 1{% if is_incremental() %} where false{% endif %}"},
        "select 1",
    ),
    "{{ target.name }}": (
        {"marts/a.sql": "select '{{ target.name }} {{ target.type }}' as t"},
        "select 'lakebed duckdb' as t",
    ),
    "{{ run_started_at }}": (
        {"marts/a.sql": "select '{{ run_started_at }}' as t"},
        "select '1970-01-01 00:00:00+00:00' as t",
    ),
    "{{ log('text', info=true) }}": (
        {"marts/a.sql": "{{ log('text', info=true) }}select 1"},
        "select 1",
    ),
    "{{ exceptions.raise_compiler_error('text') }}": (
        {"marts/a.sql": "select {{ 1 if true else exceptions.raise_compiler_error('text') }}"},
        "select 1",
    ),
    "{{ modules.datetime.date(2024, 1, 31) }}": (
        {
            "marts/a.sql": "select date '{{ modules.datetime.date(2024, 1, 31) }}' as d, "
            "'{{ modules.re.sub('a', 'b', 'aa') }}' as t"
        },
        "select date '2024-01-31' as d, 'bb' as t",
    ),
    "{{ tojson([1, 2]) }}": (
        {"marts/a.sql": "select {{ tojson([1, 2]) }} as n"},
        "select [1, 2] as n",
    ),
    "{% set %}": (
        {
            "marts/a.sql": "{% set names = ['x', 'y'] -%}\nselect\n"
            "{%- for name in names %} 1 as {{ name }}{{ ',' if not loop.last }}{% endfor %}"
        },
        "select 1 as x, 1 as y",
    ),
    "{% macro percent(part, whole, digits=1) %}": (
        {
            "macros/m.sql": "{% macro percent(part, whole, digits=1) %}"
            "round({{ scaled(part)[0] }} / {{ whole }}, {{ digits }}){% endmacro %}"
            "{% macro scaled(x) %}{{ return(['100.0 * ' ~ x]) }}{% endmacro %}",
            "marts/a.sql": "select {{ percent(1, 3) }} as p",
        },
        "select round(100.0 * 1 / 3, 1) as p",
    ),
}


def load(project: Project, files: dict[str, str]) -> ModelSet:
    return load_models(project.write(files).folder, SOURCES, {}, {"CITY": "Bonn"})


@pytest.mark.parametrize(("files", "expected"), COMPILED.values(), ids=COMPILED)
def test_a_construct_compiles_to_what_dbt_makes_of_it(
    project: Project, files: dict[str, str], expected: str
) -> None:
    assert load(project, files).get("a").sql == expected


def test_the_page_lists_the_constructs_that_are_tested_and_no_other() -> None:
    assert {*COMPILED, "{% test is_even(model, column_name) %}"} == set(LISTED)


def test_a_generic_test_of_one_s_own(project: Project) -> None:
    (test,) = load(
        project,
        {
            **BASE,
            "tests/generic/even.sql": "{% test is_even(model, column_name) %}"
            "select * from {{ model }} where {{ column_name }} % 2 <> 0{% endtest %}",
            "staging/s.yml": "models: [{name: stg_flights, columns: [{name: n, data_tests: "
            "[{is_even: {config: {where: n > 0, severity: warn, limit: 5}}}]}]}]",
        },
    ).tests
    assert (test.name, test.model, test.severity) == (
        "is_even_stg_flights_n",
        "stg_flights",
        "warn",
    )
    assert test.sql == (
        'select * from (\nselect * from (select * from "stg_flights" where n > 0) as dbt_subquery '
        "where n % 2 <> 0\n) as dbt_internal_test\nlimit 5"
    )


def test_what_the_run_knows_reaches_the_sql_and_not_the_version(project: Project) -> None:
    models = load(
        project,
        {
            "staging/e.sql": "{{ config(materialized='ephemeral') }}"
            "select '{{ run_started_at.year }}' as y",
            "marts/a.sql": "from {{ ref('e') }}{% if is_incremental() %} where y{% endif %}",
        },
    )
    a = models.get("a")
    run = Run(started_at=datetime(2024, 5, 1, tzinfo=UTC), incremental=True)
    compiled = models.compiled(a, run)
    assert compiled.sql == (
        "with __dbt__cte__e as (\nselect '2024' as y\n)\nfrom __dbt__cte__e where y"
    )
    assert compiled.code_version == a.code_version
    assert compiled.place_of(2).path.name == "e.sql"
    assert compiled.place_of(4).path.name == "a.sql"


def test_a_run_by_windows_sees_the_rows_of_its_window(project: Project) -> None:
    models = load(
        project,
        {
            "staging/e.sql": "{{ config(materialized='ephemeral') }}from {{ ref('t') }}",
            "staging/t.sql": "{{ config(event_time='At') }}select 1 as n",
            "staging/u.sql": "select 1 as n",
            "marts/a.sql": "{{ config(materialized='incremental', begin='2024-01-01', "
            "incremental_strategy='microbatch', event_time='day', batch_size='hour') }}"
            "from {{ ref('t') }}, {{ ref('u') }}, {{ ref('e') }}",
        },
    )
    window = window_of(Grain.HOUR, datetime(2024, 5, 1, 23, 30, tzinfo=UTC))
    compiled = models.compiled(models.get("a"), Run(window=window))
    seen = '(select * from "t" where "At" >= \'2024-05-01 23:00:00\' and "At" < \'2024-05-02\')'
    assert compiled.sql == (
        f'with __dbt__cte__e as (\nfrom "t"\n)\nfrom {seen}, "u", __dbt__cte__e'
    )
    assert compiled.refs == models.get("a").refs


def test_a_dependency_of_the_incremental_run_alone_is_one(project: Project) -> None:
    text = "select 1{% if is_incremental() %} from {{ ref('stg_flights') }}{% endif %}"
    assert load(project, {**BASE, "marts/a.sql": text}).get("a").refs == ("stg_flights",)


def test_options_come_from_the_project_the_yaml_and_the_file_the_nearest_wins(
    project: Project,
) -> None:
    models = load(
        project,
        {
            "dbt_project.yml": "name: shop\nvars: {a: 1, shop: {b: 2}}\n"
            "models: {shop: {+materialized: table, staging: {+materialized: view, +tags: x}}}",
            "models/marts/m.sql": "select {{ var('a') + var('b') }} as n",
            "models/staging/s.sql": "select 1 as n",
            "models/staging/t.sql": "{{ config(materialized='ephemeral', tags='z') }}select 1 as n",
            "models/s.yml": "models: [{name: t, config: {materialized: table, tags: [y]}}]",
        },
    )
    assert {m.name: (m.materialized, m.tags) for m in models.models} == {
        "m": ("table", ()),
        "s": ("view", ("x",)),
        "t": ("ephemeral", ("x", "y", "z")),
    }
    assert models.get("m").sql == "select 3 as n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {**BASE, "marts/s.yml": "models:\n  - name: stg_flihgts"},
            "marts/s.yml:2: the file describes the model 'stg_flihgts', which does not exist. "
            "Did you mean 'stg_flights'?",
        ),
        (
            {**BASE, "marts/s.yml": "models:\n- name: stg_flights\n  data_tests:\n  - uniqe"},
            "marts/s.yml:2: the test 'uniqe' does not exist. Did you mean 'unique'?",
        ),
        (
            {
                **BASE,
                "marts/s.yml": "models:\n- name: stg_flights\n  columns:\n  - name: n\n"
                "    data_tests:\n    - relationships:\n        to: ref('stg')\n        field: n",
            },
            "marts/s.yml:6: ref('stg') names no model. The models are stg_flights.",
        ),
        (
            {**BASE, "marts/s.yml": "models:\n- name: stg_flights\n  config: {materialized: fast}"},
            "marts/s.yml:2: materialized: 'fast' is not a valid option. "
            "Use 'view', 'table', 'incremental' or 'ephemeral'.",
        ),
        (
            {**BASE, "marts/s.yml": "models: ["},
            "marts/s.yml:1: the YAML cannot be read: expected the node content, but found "
            "'<stream end>'. Correct it there.",
        ),
        (
            {
                "marts/a.sql": "select 1\nfrom {{ ref('off') }}",
                "marts/off.sql": "{{ config(enabled=false) }}select 1",
            },
            "marts/a.sql:2: ref('off') names a disabled model. "
            "Enable it, or disable this model too.",
        ),
        (
            {"marts/a.sql": "select {{ run_query('select 1') }}"},
            "marts/a.sql:1: run_query needs a database, and templates run without one. "
            "Write the query in the SQL of the model.",
        ),
        (
            {"marts/a.sql": "\n{{ exceptions.raise_compiler_error('no more') }}"},
            "marts/a.sql:2: no more. The template raises this error.",
        ),
        (
            {"marts/a.sql": "select '{{ env_var('LAKEBED_POSTGRES_URL') }}'"},
            "marts/a.sql:1: env_var('LAKEBED_POSTGRES_URL') would show a secret in the SQL. "
            "Use a variable without a secret: the SQL is printed, stored and shown.",
        ),
        (
            {"seeds/s.csv": ""},
            "seeds/s.csv: the seed is empty. "
            "Write at least a header with the names of its columns.",
        ),
        (
            {"snapshots/s.sql": "{% snapshot s %}{% endsnapshot %}"},
            "snapshots/s.sql: Lakebed does not build snapshots. "
            "Delete the file; the lake keeps a table's history.",
        ),
    ],
    ids=lambda value: None,
)
def test_what_cannot_be_used_is_an_error_with_file_and_line(
    project: Project, files: dict[str, str], message: str
) -> None:
    assert project.error(files) == message
