"""Reading a folder of models: what comes out of good files, and what is said about bad ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import pytest

from lakebed.models.model import ModelError
from lakebed.models.parser import load_models
from tests.unit.models.conftest import Project

READS_FLIGHTS = "select carrier from {{ source('lakebed', 'flights') }}"


def test_a_model_says_all_that_its_file_says(project: Project) -> None:
    text = (
        "-- One row a flight.\n"
        "-- Really.\n"
        "{{ config(materialized='table', tags=['a', 'b'], owner='team:air') }}\n"
        "select f.carrier, s.n\n"
        "from {{ source('lakebed', 'flights') }} as f, {{ ref('stg') }} as s\n"
    )
    models = project.load({"marts/daily/mart.sql": text, "staging/stg.sql": "select 1 as n"})

    mart = models.get("mart")
    assert mart.key == ("marts", "mart")
    assert mart.path == project.folder / "marts/daily/mart.sql"
    assert mart.raw_sql == text
    assert mart.sql == (
        '-- One row a flight.\n-- Really.\n\nselect f.carrier, s.n\nfrom "flights" as f, "stg" as s'
    )
    assert mart.description == "One row a flight.\nReally."
    assert (mart.materialized, mart.tags, mart.owner) == ("table", ("a", "b"), "team:air")
    assert (mart.sources, mart.refs) == (("flights",), ("stg",))
    assert mart.upstream == ("flights", "stg")
    assert mart.code_version == hashlib.sha256(f"table\0{mart.sql}".encode()).hexdigest()


def test_a_model_without_config_is_a_view_without_tags_owner_or_description(
    project: Project,
) -> None:
    model = project.load({"staging/plain.sql": "select 1 as n"}).get("plain")
    assert (model.materialized, model.tags, model.owner, model.description) == (
        "view",
        (),
        None,
        "",
    )


def test_models_come_after_the_models_that_they_read(project: Project) -> None:
    models = project.load(
        {
            "marts/a.sql": "from {{ ref('b') }} natural join {{ ref('c') }}",
            "marts/b.sql": "from {{ ref('d') }}",
            "marts/c.sql": "from {{ ref('d') }}",
            "staging/d.sql": READS_FLIGHTS,
        }
    )
    names = [model.name for model in models.models]
    assert names[0] == "d"
    assert names[-1] == "a"
    assert set(names[1:3]) == {"b", "c"}


def test_hidden_files_and_files_of_other_kinds_are_no_models(project: Project) -> None:
    models = project.load(
        {"staging/.#a.sql": "nonsense", "staging/a.sql": "select 1 as n", "staging/a.md": "text"}
    )
    assert [model.name for model in models.models] == ["a"]


def test_an_empty_folder_holds_no_models(project: Project) -> None:
    assert project.load({}).models == ()


class TestTemplates:
    def test_loops_conditions_and_set_have_the_meaning_of_jinja(self, project: Project) -> None:
        text = (
            "{% set carriers = ['UA', 'AA'] %}select "
            "{% for c in carriers %}'{{ c }}' as {{ c | lower }}{% if not loop.last %}, "
            "{% endif %}{% endfor %}"
        )
        assert project.load({"marts/a.sql": text}).get("a").sql == "select 'UA' as ua, 'AA' as aa"

    def test_a_variable_has_its_value_else_its_default(self, project: Project) -> None:
        files = {"marts/a.sql": "select {{ var('late', 15) }} as n"}
        assert project.load(files).get("a").sql == "select 15 as n"
        assert project.load(files, late=30).get("a").sql == "select 30 as n"

    def test_a_macro_sees_the_caller_s_ref_and_the_macros_of_other_files(
        self, project: Project
    ) -> None:
        model = project.load(
            {
                "macros/a.sql": "{% macro rows(m) %}select {{ one() }} as n from {{ ref(m) }}"
                "{% endmacro %}",
                "macros/b.sql": "{% macro one() %}1{% endmacro %}",
                "staging/base.sql": "select 2 as n",
                "marts/top.sql": "{{ rows('base') }}",
            }
        ).get("top")
        assert model.sql == 'select 1 as n from "base"'
        assert model.refs == ("base",)

    def test_a_later_config_overrides_and_tags_add_up(self, project: Project) -> None:
        text = (
            "{{ config(materialized='table', tags='a') }}"
            "{{ config(materialized='view', tags=['b', 'a']) }}select 1 as n"
        )
        model = project.load({"marts/a.sql": text}).get("a")
        assert (model.materialized, model.tags) == ("view", ("a", "b"))

    def test_this_is_the_model_s_own_quoted_name(self, project: Project) -> None:
        assert project.load({"marts/a.sql": "select '{{ this }}' as n"}).get("a").sql == (
            "select '\"a\"' as n"
        )

    def test_a_cte_may_have_the_name_of_the_table_that_it_reads(self, project: Project) -> None:
        text = (
            "with flights as (select * from {{ source('lakebed', 'flights') }}) "
            "select * from flights"
        )
        assert project.load({"marts/a.sql": text}).get("a").sources == ("flights",)

    def test_each_line_of_compiled_sql_knows_its_line_in_the_file(self, project: Project) -> None:
        text = (
            "{{ config(\n    materialized='view'\n) }}\n"
            "select\n"
            "{%- for n in range(2) %}\n"
            "    {{ n }} as c{{ n }},\n"
            "{%- endfor %}\n"
            "    {{ var('x', 3) }}\n"
            "        as last\n"
        )
        model = project.load({"marts/a.sql": text}).get("a")
        compiled = [line.strip() for line in model.sql.split("\n")]
        where = {line: model.line_of(n) for n, line in enumerate(compiled, 1) if line}
        assert where == {"select": 4, "0 as c0,": 6, "1 as c1,": 6, "3": 8, "as last": 9}

    def test_text_captured_in_a_variable_is_what_it_is_in_jinja(self, project: Project) -> None:
        text = (
            "{% set n %}2{% endset %}select\n"
            "{% for i in range(n | int) %}{{ i }} as c{{ i }},\n{% endfor %}\n1 as last"
        )
        model = project.load({"marts/a.sql": text}).get("a")
        assert model.sql == "select\n0 as c0,\n1 as c1,\n\n1 as last"
        assert model.lines == (1, 2, 2, 2, 4)


@pytest.mark.parametrize(
    "query",
    ["select * from elsewhere.base", "select * from base(3)", "with base as (select 1) from base"],
    ids=["a qualified name", "a table function", "a cte"],
)
def test_what_only_looks_like_a_model_s_name_is_left_alone(project: Project, query: str) -> None:
    models = project.load({"staging/base.sql": "select 1 as n", "marts/a.sql": query})
    assert models.get("a").upstream == ()


class TestDescriptions:
    @pytest.mark.parametrize(
        ("header", "description"),
        [
            ("-- one\n--\n-- two\n", "one\n\ntwo"),
            ("/* one\n   two */\n", "one\ntwo"),
            ("/*\n * one\n * two\n */\n", "one\ntwo"),
            ("{{ config(tags='x') }}\n\n-- after config\n", "after config"),
            ("{# not for readers #}\n-- of {{ var('what', 'flights') }}\n", "of flights"),
            ("-- first\n\n-- second\n", "first"),
            ("", ""),
        ],
        ids=["lines", "block", "starred", "after config", "rendered", "up to a gap", "none"],
    )
    def test_the_leading_comment_is_the_description(
        self, project: Project, header: str, description: str
    ) -> None:
        files = {"marts/a.sql": f"{header}select 1 as n -- not this\n"}
        assert project.load(files).get("a").description == description

    def test_config_overrides_the_comment(self, project: Project) -> None:
        files = {"marts/a.sql": "-- no\n{{ config(description='yes') }}\nselect 1 as n"}
        assert project.load(files).get("a").description == "yes"


class TestTests:
    FILES: ClassVar = {
        "staging/stg.sql": READS_FLIGHTS,
        "staging/other.sql": READS_FLIGHTS,
        "marts/mart.sql": "from {{ ref('stg') }}",
    }

    def test_a_test_belongs_to_the_model_that_is_built_last(self, project: Project) -> None:
        models = project.load(
            {
                **self.FILES,
                "tests/assert_both.sql": "-- a lost carrier\n"
                "from {{ ref('mart') }} anti join {{ ref('stg') }} using (carrier)",
                "tests/assert_one.sql": "{{ config(severity='warn') }}from {{ ref('stg') }}",
            }
        )
        both, one = models.tests
        assert (both.name, both.model, both.severity) == ("assert_both", "mart", "error")
        assert (both.description, both.refs) == ("a lost carrier", ("mart", "stg"))
        assert (one.name, one.model, one.severity) == ("assert_one", "stg", "warn")
        assert models.tests_of("mart") == (both,)
        assert models.tests_of("other") == ()

    def test_a_test_of_nothing_is_refused(self, project: Project) -> None:
        assert project.error({"tests/assert_x.sql": "select 1"}) == (
            "tests/assert_x.sql: the test names no model and no table, so it belongs to none. "
            "Name one by ref() or source()."
        )

    def test_a_test_of_a_source_table_belongs_to_the_table(self, project: Project) -> None:
        models = project.load({"tests/assert_x.sql": READS_FLIGHTS})
        assert [test.name for test in models.tests_of("flights")] == ["assert_x"]

    def test_a_test_is_not_materialized(self, project: Project) -> None:
        text = "{{ config(materialized='table') }}from {{ ref('stg') }}"
        assert project.error({**self.FILES, "tests/assert_x.sql": text}) == (
            "tests/assert_x.sql:1: config() has no option 'materialized' here. "
            "The options are description, enabled, error_if, limit, meta, severity, "
            "store_failures, store_failures_as, tags, warn_if, where."
        )

    def test_two_tests_of_one_name_are_refused(self, project: Project) -> None:
        text = "from {{ ref('stg') }}"
        files = {**self.FILES, "tests/a/same.sql": text, "tests/b/same.sql": text}
        assert project.error(files) == (
            "tests/b/same.sql: the test 'same' is also defined by tests/a/same.sql. "
            "Rename one of them."
        )


BAD_TEMPLATES = {
    "unknown ref": (
        "select 1\nfrom {{ ref('bse') }}",
        "marts/bad.sql:2: ref('bse') names no model. Did you mean 'base'?",
    ),
    "ref of a source table": (
        "from {{ ref('flights') }}",
        "marts/bad.sql:1: ref('flights') names no model. "
        "It is a source table: write {{ source('lakebed', 'flights') }}.",
    ),
    "ref of two names": (
        "from {{ ref('pkg', 'base') }}",
        "marts/bad.sql:1: ref() does not accept ('pkg', 'base'). Write {{ ref('model') }}.",
    ),
    "unknown source": (
        "from {{ source('lakbed', 'flights') }}",
        "marts/bad.sql:1: source('lakbed', 'flights') names no source. Did you mean 'lakebed'?",
    ),
    "unknown table": (
        "select *\n\nfrom {{ source('lakebed', 'flihgts') }}",
        "marts/bad.sql:3: source('lakebed', 'flihgts') names no table. Did you mean 'flights'?",
    ),
    "source of a model": (
        "from {{ source('lakebed', 'base') }}",
        "marts/bad.sql:1: source('lakebed', 'base') names no table. "
        "It is a model: write {{ ref('base') }}.",
    ),
    "source of one name": (
        "from {{ source('flights') }}",
        "marts/bad.sql:1: source() takes a source and a table, not 1 names. "
        "Write {{ source('lakebed', 'table') }}.",
    ),
    "unknown option": (
        "{{ config(materialised='table') }}\nselect 1",
        "marts/bad.sql:1: config() has no option 'materialised' here. Did you mean 'materialized'?",
    ),
    "unknown materialization": (
        "\n{{ config(materialized='fast') }}\nselect 1",
        "marts/bad.sql:2: config(materialized='fast') is not a valid option. "
        "Use 'view', 'table', 'incremental' or 'ephemeral'.",
    ),
    "bad tags": (
        "{{ config(tags=['two words']) }}select 1",
        "marts/bad.sql:1: config(tags=['two words']) is not a valid option. A tag has letters, "
        "digits, '_', '-' and '.'. Write a list: tags=['daily'].",
    ),
    "bad owner": (
        "{{ config(owner='somebody') }}select 1",
        "marts/bad.sql:1: config(owner='somebody') is not a valid option. "
        "An owner is an e-mail address or 'team:' and a name.",
    ),
    "bad description": (
        "{{ config(description=3) }}select 1",
        "marts/bad.sql:1: config(description=3) is not a valid option. Write one text in quotes.",
    ),
    "variable without value": (
        "select {{ var('lat') }}",
        "marts/bad.sql:1: var('lat') has no value and no default. Add a default, "
        "{{ var('lat', 0) }}, or set the variable. Did you mean 'late'?",
    ),
    "template syntax": (
        "select 1\n{% for x in y %}",
        "marts/bad.sql:2: the template cannot be read: Unexpected end of template. Jinja was "
        "looking for the following tags: 'endfor' or 'else'. The innermost block that needs to be "
        "closed is 'for'. Correct the {{ ... }} or {% ... %} there.",
    ),
    "undefined name": (
        "select 1\n,\n{{ percnt(1, 2) }}",
        "marts/bad.sql:3: the template failed: 'percnt' is undefined. Did you mean 'percent'?",
    ),
    "fault of an expression": (
        "select 1,\n{{ 1 / 0 }}",
        "marts/bad.sql:2: the template failed: division by zero. Correct the expression there.",
    ),
    "escape from the sandbox": (
        "{{ ref.__globals__ }}",
        "marts/bad.sql:1: the template failed: access to attribute '__globals__' of 'method' "
        "object is unsafe. Correct the expression there.",
    ),
}

BAD_SQL = {
    "syntax": (
        "select 1 as a,\n    (2 as b\nfrom t",
        "marts/bad.sql:3: the SQL cannot be read near 'from': Expecting ). "
        "Correct the query there.",
    ),
    "syntax after lines that the template adds": (
        "select\n{% for n in range(5) %}\n    {{ n }} as c{{ n }},\n{% endfor %}\n    (1 as x\n",
        "marts/bad.sql:5: the SQL cannot be read near 'x': Expecting ). Correct the query there.",
    ),
    "end of text": (
        "select 1\nfrom",
        "marts/bad.sql:2: the SQL cannot be read near 'from': Expected table name. "
        "Correct the query there.",
    ),
    "open quote": (
        "select 1,\n'abc\nfrom t",
        "marts/bad.sql:2: the SQL cannot be read: the text that starts there has no closing '. "
        "Close it.",
    ),
    "open comment": (
        "select 1\n/* abc",
        "marts/bad.sql:2: the SQL cannot be read: it ends within a comment or a name. Close it.",
    ),
    "no query": ("-- later\n", "marts/bad.sql: the file contains no query. Write one select."),
    "two queries": (
        "select 1\n;\nselect 2",
        "marts/bad.sql:2: the query contains a semicolon. "
        "Remove it: a file is one query without a semicolon.",
    ),
    "no select": (
        "-- text\ncreate table x as select 1",
        "marts/bad.sql:2: the file contains a CREATE statement, not a query. "
        "Write one select; config(materialized=...) decides how its rows are stored.",
    ),
    "bare name": (
        "{{ config(\nmaterialized='view'\n) }}\nselect 1\nfrom BASE",
        "marts/bad.sql:5: the SQL names 'BASE' directly, and the asset graph cannot see that. "
        "Write {{ ref('base') }} or {{ source('lakebed', 'base') }}.",
    ),
    "self": (
        "select 1\nfrom {{ this }}",
        "marts/bad.sql:2: the view 'bad' reads itself. Read its inputs by ref() or source().",
    ),
}


@pytest.mark.parametrize(
    ("text", "message"),
    [*BAD_TEMPLATES.values(), *BAD_SQL.values()],
    ids=[*BAD_TEMPLATES, *BAD_SQL],
)
def test_a_bad_model_is_an_error_that_names_place_fault_and_remedy(
    project: Project, text: str, message: str
) -> None:
    files = {
        "macros/percent.sql": "{% macro percent(a, b) %}{{ a }} / {{ b }}{% endmacro %}",
        "staging/base.sql": "select 1 as n",
        "marts/bad.sql": text,
    }
    assert project.error(files, late=15) == message


BAD_FILES: dict[str, tuple[dict[str, str], str]] = {
    "duplicate name": (
        {"marts/a.sql": "select 1", "staging/a.sql": "select 1"},
        "staging/a.sql: the model 'a' is also defined by marts/a.sql. "
        "Rename one of them: a folder does not make a name unique.",
    ),
    "name of a source table": (
        {"staging/flights.sql": "select 1"},
        "staging/flights.sql: the model 'flights' has the name of a source table. "
        "Rename the file, by custom to stg_flights.sql.",
    ),
    "no group": (
        {"loose.sql": "select 1"},
        "loose.sql: the file lies outside of every group. Move it into staging/ or marts/.",
    ),
    "group of the platform": (
        {"hot/a.sql": "select 1"},
        "hot/a.sql: the folder 'hot' has a name that Lakebed reserves. "
        "Move the file into staging/ or marts/.",
    ),
    "name that needs quotes": (
        {"marts/My-Model.sql": "select 1"},
        "marts/My-Model.sql: the model 'My-Model' has a name that would need quotes in SQL. "
        "Use small letters, digits and '_', a letter first, at most 100 in all.",
    ),
    "cycle": (
        {
            "marts/a.sql": "select 1\nfrom {{ ref('b') }}",
            "marts/b.sql": "select 1\n\nfrom {{ ref('c') }}",
            "marts/c.sql": "select 1\n\n\nfrom {{ ref('a') }}",
            "marts/d.sql": "from {{ ref('a') }}",
        },
        "marts/a.sql:2: the models read each other in a circle: a -> b -> c -> a. "
        "Remove one ref() of the circle.",
    ),
    "fault in a macro": (
        {
            "macros/m.sql": "{% macro rows() %}\nfrom {{ ref('nothing') }}\n{% endmacro %}",
            "marts/a.sql": "select 1 {{ rows() }}",
        },
        "macros/m.sql:2: ref('nothing') names no model. The models are a.",
    ),
    "syntax of a macro": (
        {"macros/m.sql": "\n{% macro rows( %}", "marts/a.sql": "select 1"},
        "macros/m.sql:2: the template cannot be read: expected token 'name', got '%'. "
        "Correct the {{ ... }} or {% ... %} there.",
    ),
    "macro with dbt's name": (
        {"macros/m.sql": "{% macro ref(x) %}{% endmacro %}"},
        "macros/m.sql:1: the macro 'ref' has the name of dbt's own function. Give it another name.",
    ),
    "two macros of one name": (
        {
            "macros/m.sql": "{% macro x() %}{% endmacro %}",
            "macros/n.sql": "\n{% macro x() %}{% endmacro %}",
        },
        "macros/n.sql:2: the macro 'x' has the name of a macro before it. Give it another name.",
    ),
}


@pytest.mark.parametrize(("files", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_files_that_do_not_fit_together_are_an_error(
    project: Project, files: dict[str, str], message: str
) -> None:
    assert project.error(files) == message


def test_a_file_that_is_no_text_is_an_error(project: Project) -> None:
    (project.folder / "marts").mkdir()
    (project.folder / "marts/a.sql").write_bytes(b"select 1,\n'\xff\xfe'")
    assert project.error({}) == "marts/a.sql:2: the file is not UTF-8 text. Save it as UTF-8."


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"the folder of models does not exist\. Create it, or set"
    ):
        load_models(tmp_path / "nothing", {})


def test_asking_for_an_unknown_model_offers_the_nearest(project: Project) -> None:
    models = project.load({"marts/daily.sql": "select 1 as n"})
    with pytest.raises(
        ModelError, match=r"the model 'dayly' does not exist\. Did you mean 'daily'\?"
    ):
        models.get("dayly")
