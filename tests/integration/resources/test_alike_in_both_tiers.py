"""A query finds a value in either tier or in none: filters mean the same hot and cold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lakebed.errors import VerificationError
from lakebed.resources.settings import Settings
from lakebed.store.platform import Platform, open_platform
from tests.conftest import Server, settings_for
from tests.integration.scaffolding.test_adopt import bring_back, declared
from tests.support.processes import move_key
from tests.support.tiers import ask, do, seen

EACH = 30
ODD = (
    "create table odd (id int, at timestamptz not null, ip inet, ci cidr, js json, jb jsonb,"
    " b bytea, primary key (id, at))",
    "insert into odd select i, m, '10.0.0.1', '10.0.0.0/24', '{\"a\":1}', '{\"b\": 1, \"a\": 2}',"
    " '\\xff00' from generate_series(1, 30) i,"
    " unnest(array['2024-01-05Z', '2024-02-05Z']::timestamptz[]) m",
)


@pytest.fixture(scope="module")
def odd(
    server: Server, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """A table with the same rows in January, which is cold, and in February, which is hot."""
    name = server.create(migrated)
    settings = settings_for(tmp_path_factory.mktemp("lake"), server.url_of(name))
    do(open_platform(settings, ()), *ODD)
    platform = open_platform(settings, (declared(settings, "odd"),))
    assert move_key(platform, "odd", "2024-01").moved == EACH
    yield platform
    server.drop(name)


def nodes(plan: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in plan:
        yield node
        yield from nodes(node["children"])


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("ip = '10.0.0.1'", False),
        ("ip = '10.0.0.1/32'", True),
        ("ip in ('10.0.0.1/32', 'none')", True),
        ("ip < '10.0.0.1/33'", True),
        ("ip = 'foo'", False),
        ("ip = (select '10.0.0.1/32')", True),
        ("ci = '10.0.0/24'", False),
        ("ci = '10.0.0.0/24'", True),
        ("js = '{\"a\":1}'", True),
        ("js in ('x', 'y')", False),
        ('jb = \'{"b": 1, "a": 2}\'', False),
        ('jb = \'{"a": 2, "b": 1}\'', True),
        ("jb = 'abc'", False),
        ("b = '\\xff\\x00'::blob", True),
        ("b > '\\xfe'::blob", True),
    ],
)
def test_a_filter_means_the_same_hot_and_cold(odd: Platform, condition: str, found: bool) -> None:
    query = f"select count(*) filter (\"at\" < '2024-02-01'), count(*) from odd where {condition}"  # noqa: S608
    assert seen(odd, query) == [(EACH, 2 * EACH) if found else (0, 0)]


def test_other_filters_still_go_along_to_postgres(odd: Platform) -> None:
    query = (
        "select count(*) from odd where id = 1 and ip = '10.0.0.1/32' and \"at\" >= '2024-02-02'"
    )
    with odd.lake.session() as session:
        (plan,) = session.bare.execute(f"explain (format json) {query}").fetchall()
    (scan,) = [n for n in nodes(json.loads(plan[1])) if n["name"].strip() == "POSTGRES_SCAN"]
    pushed = str(scan["extra_info"]["Filters"])
    assert "id=1" in pushed and "at" in pushed and "ip" not in pushed


_NUMBERS = (
    "select i, m, {} from unnest(array['2024-01-05Z', '2024-02-05Z']::timestamptz[]) m,"
    " (select i, (array['-0.0', '-0.0', '{}', 'NaN', 'Infinity', '-Infinity', '1.5', '-3', '1e9',"
    " null])[1 + i % 10] as v from generate_series(0, 99) i) v"
)
_FINITE = "case when v in ('NaN', 'Infinity', '-Infinity') then 0 else v::numeric end"
FLOATS = (
    "create table floats (id int, at timestamptz not null, f float8, g float4, n numeric(12,2),"
    " primary key (id, at))",
    "insert into floats " + _NUMBERS.format(f"v::float8, v::float4, {_FINITE}", "0.0"),
    # No other zero than -0.0: there is no 0.0 in the dictionary of its file.
    "create table zeros (id int, at timestamptz not null, f float8, primary key (id, at))",
    "insert into zeros " + _NUMBERS.format("v::float8", "-0.0"),
)


@pytest.fixture(scope="module")
def floats(
    server: Server, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    name = server.create(migrated)
    settings = settings_for(tmp_path_factory.mktemp("lake"), server.url_of(name))
    do(open_platform(settings, ()), *FLOATS)
    tables = (declared(settings, "floats"), declared(settings, "zeros"))
    platform = open_platform(settings, tables)
    for table in tables:
        assert move_key(platform, table.name, "2024-01").moved == 100
    yield platform
    server.drop(name)


@pytest.mark.parametrize(
    ("table", "column"), [("floats", "f"), ("floats", "g"), ("floats", "n"), ("zeros", "f")]
)
def test_a_number_is_found_alike_hot_and_cold(floats: Platform, table: str, column: str) -> None:
    values = ["0", "-0.0::double", "1.5", "-3"]
    if column != "n":
        values += ["'nan'::double", "'inf'::double", "1000"]
    with floats.lake.session() as session:
        for value in values:
            for condition in ("{} = {v}", "{} <> {v}", "{} < {v}", "{} >= {v}", "{} in ({v}, 77)"):
                where = condition.replace("{v}", value).format(column)
                cold = "count(*) filter (\"at\" < '2024-02-01')"
                query = f"select {cold}, count(*) from {table} where {where}"  # noqa: S608
                ((moved, both),) = session.sql(query).fetchall()
                # Nothing is pushed below a limit.
                rows = f"select count(*) from (from {table} limit 1000) where {where}"  # noqa: S608
                assert session.sql(rows).fetchall() == [(both,)], where
                assert 2 * moved == both, where


ENDLESS = (
    "create table endless (id int primary key, at timestamptz not null, until timestamptz,"
    " naive timestamp(3), day date, untils timestamptz[], naives timestamp[], days date[])",
    "insert into endless select i, '2024-01-05Z', e::timestamptz, e::timestamp, e::date,"
    " array[e, null]::timestamptz[], array[null, e]::timestamp[], array[e]::date[]"
    " from (values (1, 'infinity'), (2, '-infinity'), (3, null), (4, '2024-01-01'),"
    " (5, '0044-03-15 BC'), (6, '1999-12-31 23:59:59.999')) v (i, e)",
)
TEXTS = "select id, until::text, naive::text, day::text, untils::text, naives::text, days::text"


def test_infinite_times_settle_and_come_back(settings: Settings) -> None:
    do(open_platform(settings, ()), *ENDLESS)
    platform = open_platform(settings, (declared(settings, "endless"),))
    before = ask(platform, f"{TEXTS} from endless order by id")
    read = seen(platform, f"{TEXTS} from endless order by id")
    assert move_key(platform, "endless", "2024-01").rows == 6
    assert seen(platform, f"{TEXTS} from endless order by id") == read
    assert seen(platform, "select id from endless where until = 'infinity'") == [(1,)]
    assert seen(platform, "select id from endless where day < '0001-01-01'::date order by 1") == [
        (2,),
        (5,),
    ]
    bring_back(platform, "2024-01")
    assert ask(platform, f"{TEXTS} from endless order by id") == before


def test_a_time_that_duckdb_takes_for_infinity_stays_hot(settings: Settings) -> None:
    do(
        open_platform(settings, ()),
        *ENDLESS,
        "update endless set until = '294247-01-10 04:00:54.775807Z' where id = 1",
    )
    platform = open_platform(settings, (declared(settings, "endless"),))
    with pytest.raises(VerificationError, match="column until: "):
        move_key(platform, "endless", "2024-01")
