"""A reading session takes queries, in whatever form, and nothing that changes anything."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from lakebed.resources.extensions import in_memory
from lakebed.resources.read_errors import LakeReadError, ReadOnlyError
from lakebed.resources.reading_only import check_reads_only


@pytest.fixture(scope="module")
def parser() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = in_memory(["postgres_scanner"])
    connection.execute("create table t as select 1 as id, 'a' as query")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "text",
    [
        "create table x as select 1",
        "create temp view x as select 1",
        "create or replace temp view t as select 2",
        "create temp macro f() as 1",
        "create type mood as enum ('sad')",
        "create schema s",
        "create secret s (type postgres)",
        "create table x as pivot t on id using count(*)",
        "insert into t values (1)",
        "insert into pg.public.t values (1)",
        "update t set id = 2",
        "delete from t",
        "truncate t",
        "merge into t using t s on true when matched then delete",
        "drop table t",
        "alter table t add column x int",
        "comment on table t is 'x'",
        "copy t to 'x.csv'",
        "copy t from 'x.csv'",
        "copy (pivot t on id using count(*)) to 'x'",
        "copy from database memory to pg",
        "export database 'x'",
        "attach 'x.duckdb'",
        "detach pg",
        "use pg",
        "set threads = 1",
        "reset threads",
        "set variable lakebed_readings_0 = []",
        "pragma memory_limit = '1GB'",
        "load x",
        "install x",
        "update extensions",
        "prepare p as delete from t",
        "execute p",
        "deallocate p",
        "vacuum",
        "analyze",
        "checkpoint",
        "force checkpoint",
        "begin",
        "commit",
        "rollback",
        "explain analyze copy (select 1) to 'x'",
        "explain analyze create table x as select 1",
        "explain (analyze) insert into t values (1)",
        "explain (analyze, format json) delete from t",
        "/* select */ explain /* ) */ analyze -- select\n delete from t",
        "select 1; drop table t",
        "select 1; ; copy t to 'x'; select 2",
    ],
)
def test_what_changes_anything_is_refused(parser: duckdb.DuckDBPyConnection, text: str) -> None:
    with pytest.raises(ReadOnlyError) as caught:
        check_reads_only(parser, text)
    assert isinstance(caught.value, LakeReadError)


@pytest.mark.parametrize(
    "text",
    [
        "call postgres_execute('pg', 'delete from t')",
        "from postgres_execute('pg', 'commit')",
        "select * from system.main.postgres_execute('pg', 'x')",
        "select 1 from \"POSTGRES_Execute\" /* ( */ -- (\n ('pg', 'x')",
        "from postgres_query('pg', 'select dblink_exec(''x'')')",
        "from postgres_scan('host=x', 'public', 't')",
        "call postgres_attach('host=x')",
        "call pg_clear_cache()",
        "select (select count(*) from postgres_configure_pool(catalog_name = 'pg'))",
        "from query('from postgres_execute(''pg'', ''x'')')",
        "from query ('fr' || 'om t')",
        "from json_execute_serialized_sql('{}')",
        "call force_checkpoint()",
        "call enable_logging()",
        "select write_log('x')",
        "from arrow_scan(1::pointer, 2::pointer, 3::pointer)",
        "explain analyze from postgres_execute('pg', 'x')",
        "explain from postgres_execute('pg', 'x')",
        "pivot (from postgres_execute('pg', 'x')) on success using count(*)",
        "describe from postgres_execute('pg', 'x')",
        "summarize from postgres_execute('pg', 'x')",
        "with x as (from postgres_execute('pg', 'x')) from x",
    ],
)
def test_functions_that_run_sql_or_change_duckdb_are_refused(
    parser: duckdb.DuckDBPyConnection, text: str
) -> None:
    with pytest.raises(ReadOnlyError):
        check_reads_only(parser, text)


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "from t",
        "table t",
        "values (1)",
        "with x as (select 1) from x",
        "select query from t where query = 'insert into x' -- drop table t",
        "select 'from query(1)', $$postgres_execute('x')$$, e'it''s query(1)' from t",
        "from query_table('t')",
        "describe t",
        "show tables",
        "summarize t",
        "pivot t on id using count(*)",
        "with p as (pivot t on id using count(*)) from p",
        "unpivot t on id",
        "pragma table_info('t')",
        "pragma version",
        "call pragma_version()",
        "explain select 1",
        "explain analyze select 1",
        "explain (analyze) select 1",
        "explain (format json) select 1",
        "explain (analyze, format json) (select 1)",
        "explain (select 1)",
        "explain analyze (select 1)",
        "explain ((select 1))",
        "from read_csv('x.csv')",
        "select * from 'x.parquet'",
        "select 1; select 2",
        "select pg_typeof(1), nextval from (select 1 as nextval)",
    ],
)
def test_queries_are_taken(parser: duckdb.DuckDBPyConnection, text: str) -> None:
    check_reads_only(parser, text)


def test_what_is_not_sql_is_left_to_duckdb_to_say(parser: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.ParserException):
        check_reads_only(parser, "selec 1")


def test_a_long_query_is_checked_in_time(parser: duckdb.DuckDBPyConnection) -> None:
    check_reads_only(parser, "select " + ", ".join(f"abs({n})" for n in range(50_000)))
