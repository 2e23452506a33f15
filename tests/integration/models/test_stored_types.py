"""Stored models give what their queries give, type and value; an increment changes no value."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from lakebed.resources.settings import Settings
from lakebed.tiering.catalog_file import write_catalog
from tests.support.projects import Project

KINDS = ("view", "table", "incremental")
ODD = """
select
    1 as n,
    sum(x) as total,
    interval '2000 hours' as budget,
    interval '-1 day' as late,
    '12:00:00+05:30'::timetz as begins,
    'b'::enum('b', 'a') as mood,
    union_value(num := 2) as either,
    md5_number('key') as key,
    [sum(x)] as totals,
    1 as twice, 2 as twice
from (values (9007199254740993)) t(x)
"""


@pytest.fixture
def project(settings: Settings, tmp_path: Path) -> Project:
    folder = tmp_path / "sql"
    folder.mkdir()
    return Project(settings, folder)


def test_every_materialization_gives_the_types_and_values_of_the_query(project: Project) -> None:
    files = {f"a/as_{kind}.sql": f"{{{{ config(materialized='{kind}') }}}}{ODD}" for kind in KINDS}
    files["a/keys.sql"] = (
        "select count(*) as same from {{ ref('as_table') }} join {{ ref('as_view') }} using (key)"
    )
    results = project.write(files).build()
    assert {result.status for result in results.values()} == {"ok"}
    expected = _seen(project, "as_view")
    assert expected[0][1:3] == ["HUGEINT", "INTERVAL"]
    for kind in KINDS[1:]:
        assert _seen(project, f"as_{kind}") == expected
    assert project.rows("from keys") == [(1,)]
    # The form that a column needed is the one that its next run begins with.
    assert {result.status for result in project.build().values()} == {"ok"}
    assert project.rows("select distinct total from as_incremental") == [(9007199254740993,)]
    with duckdb.connect(write_catalog(project.platform), read_only=True) as catalog:
        for kind in KINDS:
            relation = catalog.sql(f"from as_{kind}")
            assert list(map(str, relation.types)) == expected[0]


def _seen(project: Project, name: str) -> tuple[list[str], list[tuple[object, ...]]]:
    with project.platform.lake.session() as session:
        kinds = list(map(str, session.sql(f'from "{name}"').types))
        texts = f'select columns(*)::varchar from "{name}"'  # noqa: S608  (names of this file)
        return kinds, session.sql(texts).fetchall()


def test_keys_of_every_form_meet_their_rows(project: Project) -> None:
    def keyed(*numbers: int) -> str:
        rows = ", ".join(f"({n})" for n in numbers)
        return (
            "{{ config(materialized='incremental', unique_key=['key', 'took']) }}"  # noqa: S608  (numbers of this file)
            "select md5_number(n::varchar) as key, to_hours(n) as took, sum(n)::hugeint as n"
            f" from (values {rows}) t(n) group by all"
        )

    project.write({"a/inc.sql": keyed(1, 2)}).build()
    project.write({"a/inc.sql": keyed(2, 3)}).build()
    assert project.rows("select n from inc order by n") == [(1,), (2,), (3,)]


def test_files_in_several_forms_are_one_table(project: Project) -> None:
    def adding(value: str) -> str:
        return f"{{{{ config(materialized='incremental') }}}}select {value}::hugeint as n"

    for value in ("1", "1::hugeint << 100", "3"):
        results = project.write({"a/inc.sql": adding(value)}).build()
        assert results["inc"].error is None
    assert project.rows("select n from inc order by n") == [(1,), (3,), (2**100,)]


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        ("qty", "1", "1.6"),
        ("qty", "1", "true"),
        ("day", "date '2026-01-01'", "timestamp '2026-01-02 13:00'"),
        ("price", "1.25::decimal(10,2)", "1.256::decimal(10,3)"),
        ("share", "0.5::float", "0.1::double"),
        ("at", "timestamp_s '2026-01-01'", "timestamp '2026-01-01 00:00:00.5'"),
        ("code", "1", "'007'"),
    ],
)
@pytest.mark.parametrize("rule", ["ignore", "append_new_columns"])
def test_an_increment_that_would_change_a_value_is_refused(
    project: Project, column: str, first: str, second: str, rule: str
) -> None:
    head = f"{{{{ config(materialized='incremental', on_schema_change='{rule}') }}}}"
    project.write({"a/inc.sql": f"{head}select {first} as {column}"}).build()
    before = project.rows("from inc")
    result = project.write({"a/inc.sql": f"{head}select {second} as {column}"}).build()["inc"]
    assert result.status == "failed"
    assert result.error is not None
    assert column in result.error
    assert project.rows("from inc") == before


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("1", "2::bigint", [1, 2]),
        ("1", "2.0", [1, 2]),
        ("1::hugeint", "2", [1, 2]),
        ("'a'", "2", ["2", "a"]),
        ("1.25::decimal(10,2)", "null", [None, 1.25]),
    ],
)
def test_an_increment_whose_values_fit_goes_through(
    project: Project, first: str, second: str, expected: list[object]
) -> None:
    head = "{{ config(materialized='incremental') }}"
    project.write({"a/inc.sql": f"{head}select {first} as v"}).build()
    result = project.write({"a/inc.sql": f"{head}select {second} as v"}).build()["inc"]
    assert result.error is None
    found = [row[0] for row in project.rows("from inc")]
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_a_column_that_cannot_be_stored_is_named(project: Project) -> None:
    result = project.write(
        {"a/odd.sql": "{{ config(materialized='table') }}select 1 as n, 42::variant as odd"}
    ).build()["odd"]
    assert result.status == "failed"
    assert result.error is not None
    assert "'odd'" in result.error
    assert "VARIANT" in result.error
