"""A stock DuckDB reads both tiers as one through the DuckLake catalog of views."""

from __future__ import annotations

from typing import Any

import duckdb
import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from lakebed.cli.main import group
from lakebed.doors.write import ClientCatalogError, grant_reader, refresh_catalog, write_catalog
from lakebed.resources.settings import Settings
from lakebed.store.platform import Platform, open_platform
from tests.conftest import Server
from tests.integration.scaffolding.test_adopt import declared
from tests.support.clients import asked, attached, needs_ducklake
from tests.support.tiers import EACH, MONTHS, ask, do, fill, seen, settle

pytestmark = needs_ducklake

READINGS = "select count(*), sum(number), count(distinct sensor) from readings"
ACCOUNTS = "select opened, id, owner, balance, changed from accounts order by all"


@pytest.fixture
def tiered(platform: Platform) -> Platform:
    """Both tables, two of three months cold, and the catalog."""
    fill(platform)
    fill(platform, "accounts")
    settle(platform, "readings", *MONTHS[:2])
    settle(platform, "accounts", *MONTHS[:2])
    write_catalog(platform)
    return platform


def test_each_row_is_there_once_in_both_tiers(tiered: Platform) -> None:
    assert asked(tiered, READINGS) == seen(tiered, READINGS)
    assert asked(tiered, "select count(*) from readings") == [(3 * EACH,)]
    rows = asked(tiered, ACCOUNTS)
    assert len(rows) == 3 * EACH
    assert rows == seen(tiered, ACCOUNTS)
    assert asked(tiered, "show tables") == [("accounts",), ("readings",)]


def test_an_attached_client_sees_a_move_at_once_and_nothing_is_written_for_it(
    tiered: Platform,
) -> None:
    version = "select schema_version from lakebed.client_catalog"
    with attached(tiered) as client:
        before = client.execute(READINGS).fetchall()
        was = ask(tiered, version)
        settle(tiered, "readings", MONTHS[2])
        do(tiered, "insert into readings values ('2024-01-03Z', 'late', 1, 1000000)")
        ((count, total, _),) = client.execute(READINGS).fetchall()
        assert (count, total) == (before[0][0] + 1, before[0][1] + 1000000)
        settle(tiered, "readings", MONTHS[0])
        assert client.execute(READINGS).fetchall() == [(count, total, 8)]
    assert ask(tiered, version) == was
    assert ask(tiered, "select count(*) from readings") == [(0,)]


def test_one_transaction_of_a_client_is_one_snapshot(tiered: Platform) -> None:
    with attached(tiered) as client:
        client.execute("begin")
        before = client.execute(READINGS).fetchall()
        settle(tiered, "readings", MONTHS[2])
        do(tiered, "insert into readings values ('2024-01-03Z', 'late', 1, 5)")
        assert client.execute(READINGS).fetchall() == before
        client.execute("commit")
        assert client.execute(READINGS).fetchall() != before


def test_a_hot_row_overrides_its_cold_one_and_a_tombstone_hides_it(tiered: Platform) -> None:
    do(
        tiered,
        "insert into accounts select opened, id, 'override', 7, changed from"
        " (values ('2024-01-01 00:05:00Z'::timestamptz, 5, now())) v (opened, id, changed)",
        """select lakebed.delete_row('accounts', '{"opened": "2024-01-01T00:06:00Z", "id": 6}')""",
    )
    rows = asked(tiered, ACCOUNTS)
    assert rows == seen(tiered, ACCOUNTS)
    assert len(rows) == 3 * EACH - 1
    assert [row[2] for row in rows if row[1] in (5, 6)] == ["override"]
    settle(tiered, "accounts", MONTHS[0])
    assert asked(tiered, ACCOUNTS) == rows


def test_pruning_by_time_leaves_no_row_out(tiered: Platform) -> None:
    do(tiered, "insert into readings values ('2024-01-03Z', 'late', 1, 5)")
    for condition in (
        "\"at\" < '2024-02-01'",
        "\"at\" >= '2024-01-03' and \"at\" < '2024-02-02'",
        "\"at\" = '2024-01-03'",
        "\"at\" > '2024-02-01' and number % 7 = 3",
    ):
        query = f"select count(*), sum(number) from readings where {condition}"  # noqa: S608
        found = asked(tiered, query)
        assert found == seen(tiered, query)
        assert found[0][0] > 0
    with attached(tiered) as client:
        plan = client.execute(
            "explain analyze select count(*) from readings where \"at\" < '2024-01-10'"
        ).fetchall()[0][1]
    assert "Total Files Read: 1" in plan


def test_a_decimal_that_is_nan_fails_the_query_and_not_the_client(tiered: Platform) -> None:
    do(tiered, "update accounts set balance = 'NaN' where id = 700")
    with attached(tiered) as client:
        with pytest.raises(duckdb.ConversionException, match="NaN"):
            client.execute("select sum(balance) from accounts").fetchall()
        assert client.execute("select count(*), count(owner) from accounts").fetchall() == [
            (3 * EACH, 3 * EACH)
        ]
    do(
        tiered,
        "update accounts set balance = 1 where id = 700",
        "alter table accounts add check (balance <> 'NaN')",
    )
    assert write_catalog(tiered).changed
    hot = (
        "select data_type from duckdb_columns()"
        " where table_name = 'accounts__hot' and column_name = 'balance'"
    )
    assert asked(tiered, hot) == [("DECIMAL(12,2)",)]
    assert asked(tiered, ACCOUNTS) == seen(tiered, ACCOUNTS)


def test_a_role_needs_the_schema_and_nothing_else_and_cannot_write(
    tiered: Platform, server: Server
) -> None:
    role = "reader_of_doors"
    server.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))
    with pytest.raises(ClientCatalogError, match="CREATE ROLE"):
        grant_reader(tiered, role)
    do(tiered, f"create role {role} login")
    try:
        with pytest.raises(duckdb.Error, match="permission denied"), attached(tiered, role) as c:
            c.execute(READINGS)
        grant_reader(tiered, role)
        for read_only in (True, False):
            with attached(tiered, role, read_only=read_only) as client:
                assert client.execute(READINGS).fetchall() == seen(tiered, READINGS)
                for statement in (
                    "insert into tiers.accounts__cold (id) values (1)",
                    "delete from readings",
                    "create table mine (i integer)",
                    "drop table readings",
                ):
                    with pytest.raises(duckdb.Error):
                        client.execute(statement)
        # A new version's views are the role's, too.
        do(tiered, "alter table accounts add check (balance <> 'NaN')")
        assert write_catalog(tiered).changed
        with attached(tiered, role) as client:
            assert len(client.execute(ACCOUNTS).fetchall()) == 3 * EACH
        with tiered.postgres.connect() as connection:
            connection.execute(f"set role {role}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select from readings")
    finally:
        do(tiered, f"drop owned by {role}", f"drop role {role}")
    assert seen(tiered, "select count(*) from readings") == [(3 * EACH,)]


def test_the_version_grows_with_each_change_and_never_goes_back(tiered: Platform) -> None:
    first = write_catalog(tiered)
    assert not first.changed
    do(tiered, "alter table accounts add check (balance <> 'NaN')")
    second = write_catalog(tiered)
    do(tiered, "alter table accounts drop constraint accounts_balance_check")
    third = write_catalog(tiered)
    assert (second.version, third.version) == (first.version + 1, first.version + 2)
    assert refresh_catalog(tiered) == []
    ((views,),) = ask(
        tiered, "select count(*) from lakebed.client_view where retired_at is not null"
    )
    assert views > 0


ODD = (
    "create table odd (id int, at timestamptz not null, s smallint, l bigint, f real, d float8,"
    " n numeric(20,4), yes boolean, t text, v varchar(9), b bytea, day date, clock time,"
    " naive timestamp, zoned timetz, gap interval, u uuid, js json, jb jsonb, ip inet, ci cidr,"
    " ints int[], texts text[], primary key (id, at),"
    " check (n <> 'NaN'), check (array_ndims(ints) = 1), check (array_ndims(texts) = 1),"
    " check (isfinite(gap)))",
    "insert into odd select i, m, -32768, -9223372036854775808, '-0.0', 'NaN',"
    " -1234567890123456.7891, true, E'it''s \\\\xDEAD \\u00e9', 'v', '\\x00ff5c', '0044-03-15 BC',"
    " '24:00', 'infinity', '12:00:00.000001-03:30', '1 mon -2 days 03:04:05.000006',"
    " '6ba7b810-9dad-11d1-80b4-00c04fd430c8', '{\"a\":1}', '{\"b\": 1, \"a\": 2}', '10.0.0.1',"
    " '10.0.0.0/24', '{1,null,-3}', array['', null, 'NULL', 'a\"b,{}']"
    " from generate_series(1, 3) i, unnest(array['2024-01-05Z', '2024-02-05Z']::timestamptz[]) m",
    "insert into odd (id, at) select 9, m from"
    " unnest(array['2024-01-05Z', '2024-02-05Z']::timestamptz[]) m",
    "insert into odd (id, at, f, d, day, naive, ints, texts) select 10, m, 'Infinity', 5e-324,"
    " 'infinity', '-infinity', '{}', '{}' from"
    " unnest(array['2024-01-05Z', '2024-02-05Z']::timestamptz[]) m",
)


def test_every_type_comes_alike_from_both_tiers(settings: Settings) -> None:
    do(open_platform(settings, ()), *ODD)
    platform = open_platform(settings, (declared(settings, "odd"),))
    settle(platform, "odd", "2024-01")
    assert write_catalog(platform).left_out == {}
    with platform.lake.session() as session:
        columns = session.sql("describe odd").fetchall()
        texts = ", ".join(f'"{name}"::varchar' for name, *_ in columns if name != "at")
        expected = session.sql(f'select "at", {texts} from odd order by all').fetchall()  # noqa: S608
    with attached(platform) as client:
        assert [row[:2] for row in client.execute("describe odd").fetchall()] == [
            row[:2] for row in columns
        ]
        found = client.execute(f'select "at", {texts} from odd order by all').fetchall()  # noqa: S608
    assert found == expected
    half = len(found) // 2
    assert [row[1:] for row in found[:half]] == [row[1:] for row in found[half:]]


def test_what_no_form_can_carry_keeps_its_table_out_by_name(settings: Settings) -> None:
    do(
        open_platform(settings, ()),
        "create table deep (id int primary key, at timestamptz not null default now(), ints int[])",
        "insert into deep (id, ints) values (1, '{{1,2},{3,4}}')",
        "create table flat (id int primary key, at timestamptz not null default now())",
        "insert into flat (id) values (1)",
    )
    platform = open_platform(settings, (declared(settings, "deep"), declared(settings, "flat")))
    written = write_catalog(platform)
    assert written.tables == ("flat",)
    assert 'ADD CHECK (array_ndims("ints") = 1)' in written.left_out["deep"]
    assert asked(platform, "select id from flat") == [(1,)]
    with pytest.raises(duckdb.CatalogException):
        asked(platform, "from deep")
    do(platform, "delete from deep", 'alter table deep add check (array_ndims("ints") = 1)')
    assert write_catalog(platform).left_out == {}


def test_attach_prints_one_statement_first(tiered: Platform, monkeypatch: Any) -> None:
    settings = tiered.settings
    monkeypatch.setenv("LAKEBED_HOME", str(settings.home))
    monkeypatch.setenv("LAKEBED_TABLES", str(settings.tables))
    url = settings.postgres_url
    assert url is not None
    monkeypatch.setenv("LAKEBED_POSTGRES_URL", url.replace("postgres:@", "postgres:secret-word@"))
    result = CliRunner().invoke(group, ["attach"])
    assert result.exit_code == 0, result.output
    first, blank, *_ = result.stdout.splitlines()
    assert first.startswith("ATTACH 'ducklake:postgres:") and first.endswith(", READ_ONLY);")
    assert blank == ""
    assert "secret-word" not in result.output
    with attached(tiered) as client:
        client.execute(first.replace(" AS lake ", " AS again "))
        assert client.execute("select count(*) from again.readings").fetchall() == [(3 * EACH,)]
