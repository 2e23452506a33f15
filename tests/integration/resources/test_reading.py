"""A query sees hot and cold as one table; leaving files out never changes its answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakebed.resources.hot_columns import HotColumn
from lakebed.resources.read_errors import ReadOnlyError, SessionEndedError
from lakebed.resources.session import LakeReadError, ReadSession
from lakebed.resources.tiers import LakeTable
from lakebed.resources.touched import touched
from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import Platform, open_platform
from tests.conftest import Server, settings_for
from tests.support.processes import move_key

MONTHS = [f"2024-{month:02d}" for month in range(1, 7)]
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def settled(
    server: Server, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """Half a year of readings and accounts, four months of it cold, with late rows in March."""
    name = server.create(migrated)
    platform = open_platform(settings_for(tmp_path_factory.mktemp("lake"), server.url_of(name)))
    with platform.postgres.connect(autocommit=True) as connection:
        for table in platform.tables:
            ensure_table(connection, table)
            windows = [window_for_key(table.require_partitioning.grain, key) for key in MONTHS]
            ensure_partition_tables(connection, table, windows)
        hours = "select '2024-01-01Z'::timestamptz + i * interval '3 hours' as t, i"
        hours += " from generate_series(0, 1440) i"
        connection.execute(
            f"insert into readings select t, 's' || i % 7, i / 10.0, i from ({hours})"  # noqa: S608
        )
        connection.execute(
            f"insert into accounts select t, i, 'o' || i % 5, i, t from ({hours})"  # noqa: S608
        )
        for table in platform.tables:
            for key in MONTHS[:4]:
                move_key(platform, table.name, key)
        connection.execute("insert into readings values ('2024-03-05Z', 's1', 1, -1)")
        connection.execute(
            f"insert into accounts select t, i, 'late', -1, t from ({hours})"  # noqa: S608
            " where t >= '2024-03-05Z' and t < '2024-03-06Z'"
        )
    yield platform
    server.drop(name)


def both(session: ReadSession, query: str) -> tuple[list[Any], list[Any]]:
    """Return the answer with files left out, and with all of them."""
    pruned = session.sql(query).fetchall()
    return pruned, session.connection.sql(query).fetchall()


QUERIES = [
    "select count(*), sum(number) from readings",
    "select count(*), sum(balance), count(distinct id) from accounts",
    "select number from readings where \"at\" = '2024-02-03 12:00:00Z'",
    "select count(*) from readings where \"at\" >= '2024-02-15' and \"at\" < '2024-03-15'",
    "select count(*) from readings where \"at\" between '2024-02-01' and '2024-03-01'",
    "select count(*) from readings where \"at\" > '2024-01-31 21:00:00Z'",
    "select count(*) from readings where \"at\" < '2024-02-01'",
    "select count(*) from readings where '2024-02-01' > \"at\"",
    "select count(*) from readings where not (\"at\" >= '2024-02-01')",
    "select count(*) from readings where \"at\" < '2024-01-09' or \"at\" >= '2024-04-20'",
    "select count(*) from readings where (\"at\" >= '2024-04-01' and \"at\" < '2024-04-02')"
    " or (\"at\" >= '2024-01-01' and \"at\" < '2024-01-02')",
    "select count(*) from readings where \"at\" < '2024-01-09' or sensor = 's3'",
    "select count(*) from readings where \"at\" in ('2024-01-01', '2024-04-01')",
    "select count(*) from readings where \"at\"::date = '2024-03-05'",
    "select count(*) from readings where date_trunc('month', \"at\") = '2024-03-01'",
    'select count(*) from readings where year("at") = 2024 and month("at") = 2',
    "select count(*) from readings where \"at\" + interval 1 month < '2024-03-01'",
    "select count(*) from readings where \"at\" < 'infinity'",
    'select min("at"), max("at"), min(number), max(number) from readings',
    'select number from readings order by "at" limit 3',
    'select number from readings order by "at" desc limit 3',
    'select number from readings where "at" < \'2024-03-01\' order by "at" desc limit 3',
    "with feb as (select * from readings where \"at\" >= '2024-02-01' and \"at\" < '2024-03-01')"
    " select count(*), (select count(*) from readings) from feb",
    "with feb as materialized (select * from readings where \"at\" < '2024-02-01')"
    " select count(*) from feb join readings using (sensor) where feb.number < 3",
    "select count(*) from readings a join readings b on a.number = b.number"
    " where a.\"at\" < '2024-02-01' and b.\"at\" >= '2024-01-15'",
    'select count(*) from readings r join accounts a on r."at" = a.opened'
    " where r.\"at\" >= '2024-03-01'",
    "select count(*) from accounts a left join readings r"
    " on a.id = r.number and r.\"at\" >= '2024-04-01'",
    'select count(*) from readings where "at" >= (select max(changed) - interval 40 days'
    " from accounts)",
    "select count(*) from readings r where exists (from accounts a"
    " where a.opened = r.\"at\" and a.opened < '2024-01-05')",
    "select sensor, count(*) from readings group by all having min(\"at\") < '2024-02-01'"
    " order by 1",
    'select number, lag(number) over (order by "at", number) from readings'
    " qualify \"at\" >= '2024-04-29' and \"at\" < '2024-05-02' order by 1",
    'select count(*) from (select *, row_number() over (order by "at") n from readings)'
    " where \"at\" >= '2024-04-30' and n > 10",
    "select count(*) from readings where \"at\" < '2024-02-01' union all"
    " select count(*) from readings where \"at\" >= '2024-04-01' order by 1",
    "select count(*) from readings where \"at\" >= '2024-02-10' and \"at\" < '2024-02-12' union all"
    " select count(*) from readings where \"at\" >= '2024-04-10' and \"at\" < '2024-04-13'"
    " order by 1",
    "select owner, sum(balance) from accounts where opened >= '2024-03-05'"
    " and opened < '2024-03-06' group by all",
    "select count(*) from readings where \"at\" >= '2024-03-01' and \"at\" < '2024-02-01'",
    'pivot (select month("at") m, sensor from readings where "at" < \'2024-03-01\')'
    " on m using count(*) order by sensor",
    "from readings select count(*) where \"at\" >= timestamptz '2024-02-01 00:00:00+02'",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_has_the_same_answer_with_and_without_pruning(
    settled: Platform, query: str
) -> None:
    with settled.lake.session() as session:
        pruned, whole = both(session, query)
    assert pruned == whole
    assert pruned


days = st.integers(-2, 185).map(lambda day: START + timedelta(days=day, hours=day % 3))
comparisons = st.builds(
    lambda operator, day: f"\"at\" {operator} '{day.isoformat()}'",
    st.sampled_from(["<", "<=", ">", ">=", "=", "<>"]),
    days,
)
conditions = st.recursive(
    comparisons | st.just("sensor = 's1'") | st.just("value < 60"),
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("(not {})".format, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=25)
@given(st.lists(conditions, min_size=2, max_size=6))
def test_no_condition_on_time_loses_a_row(settled: Platform, found: list[str]) -> None:
    with settled.lake.session() as session:
        for condition in found:
            query = f"select count(*), sum(number) from readings where {condition}"  # noqa: S608
            pruned, whole = both(session, query)
            assert pruned == whole, condition


def files(session: ReadSession, query: str) -> list[str]:
    return sorted(
        Path(f).stem.removesuffix("_g0001")[-7:] for t in touched(session, query) for f in t.files
    )


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("true", ["2024_01", "2024_02", "2024_03", "2024_04"]),
        ("\"at\" >= '2024-05-01'", []),
        ("\"at\" < '2024-01-20'", ["2024_01"]),
        ("\"at\" >= '2024-02-15' and \"at\" < '2024-03-15'", ["2024_02", "2024_03"]),
        ("date_trunc('month', \"at\") = '2024-03-01'", ["2024_03"]),
        ("\"at\" = '2024-02-03 12:00:00Z' and sensor = 's1'", ["2024_02"]),
    ],
)
def test_files_that_cannot_hold_an_answer_are_not_opened(
    settled: Platform, condition: str, expected: list[str]
) -> None:
    with settled.lake.session() as session:
        assert files(session, f"select count(*) from readings where {condition}") == expected  # noqa: S608


def test_an_older_answer_is_not_changed_by_the_next_query(settled: Platform) -> None:
    with settled.lake.session() as session:
        truth = session.connection.sql("select count(*) from readings").fetchall()
        first = session.sql("select count(*) from readings")
        second = session.sql("select count(*) from readings where \"at\" >= '2024-05-01'")
        assert first.fetchall() == truth
        assert second.fetchall() != truth
        assert session.connection.sql("select count(*) from readings").fetchall() == truth


def test_a_view_or_macro_of_ones_own_hides_no_cold_row(settled: Platform) -> None:
    january = "from readings where \"at\" < '2024-02-01'"
    with settled.lake.session() as session:
        session.connection.execute(f"create temp view mine as {january}")
        session.connection.execute(
            f"create temp macro ours() as table {january} and \"at\" >= '2024-01-01'"
        )
        session.sql("select count(*) from readings where \"at\" >= '2024-05-01'")
        assert session.sql("select count(*) from mine").fetchall() == [(248,)]
        assert session.sql("select count(*) from ours()").fetchall() == [(248,)]


def test_a_query_that_fails_leaves_the_session_whole(settled: Platform) -> None:
    with settled.lake.session() as session:
        with pytest.raises(duckdb.Error, match="no_such"):
            session.sql("select no_such from readings")
        assert session.sql("select count(*) from readings").fetchall() == [(1442,)]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("select max(at) from readings", True),
        ("from readings where AT >= '2024-02-01'", True),
        ('select max("at") frm readings where', False),
    ],
)
def test_a_parser_error_says_which_column_needs_quotes(
    settled: Platform, text: str, hint: bool
) -> None:
    with settled.lake.session() as session:
        with pytest.raises(duckdb.ParserException) as caught:
            session.sql(text)
        assert ('write "at"' in str(caught.value)) == hint
        assert session.sql('select min("at") from readings').fetchall() == [(START,)]


def test_a_query_that_fails_while_it_runs_ends_the_session(settled: Platform) -> None:
    with settled.lake.session() as session:
        with pytest.raises(duckdb.ConversionException):
            session.sql("select cast(sensor as int) from readings")
        for ask in (
            lambda: session.sql("select 1"),
            lambda: session.sql("rollback"),
            lambda: session.needed("from readings"),
            lambda: session.connection,
            lambda: session.stream("from readings").__enter__(),
        ):
            with pytest.raises(SessionEndedError, match="Conversion Error"):
                ask()
    with settled.lake.session() as session:
        assert session.sql("select count(*) from readings").fetchall() == [(1442,)]


def test_a_stream_that_fails_on_the_way_ends_the_session(settled: Platform) -> None:
    fails = "select cast(sensor as int) from readings"
    with settled.lake.session() as session:
        with session.stream("select 1") as rows:
            assert rows.fetchall() == [(1,)]
        with suppress(duckdb.ConversionException), session.stream(fails) as rows:
            rows.fetchall()
        with pytest.raises(SessionEndedError):
            session.sql("select 1")


def test_what_failed_on_the_plain_connection_ends_the_session_too(settled: Platform) -> None:
    with settled.lake.session() as session:
        with suppress(duckdb.ConversionException):
            session.connection.execute("select cast('x' as int)").fetchall()
        for _ in range(2):
            with pytest.raises(SessionEndedError):
                session.sql("select count(*) from readings")


@pytest.mark.parametrize("text", ["commit", "rollback", "begin"])
def test_the_snapshot_cannot_be_ended(settled: Platform, text: str) -> None:
    with settled.lake.session() as session:
        with pytest.raises(LakeReadError, match="one snapshot"):
            session.sql(text)
        assert session.sql("select count(*) from readings").fetchall() == [(1442,)]


def test_nothing_else_is_asked_while_a_stream_is_open(settled: Platform) -> None:
    with settled.lake.session() as session:
        with session.stream("from readings") as rows:
            first = rows.fetchmany(100)
            for ask in (
                lambda: session.sql("select 1"),
                lambda: session.needed("from readings"),
                lambda: session.connection,
                lambda: session.stream("from accounts").__enter__(),
            ):
                with pytest.raises(LakeReadError, match="a stream is open"):
                    ask()
            assert len(first) + len(rows.fetchall()) == 1442
        assert session.sql("select count(*) from readings").fetchall() == [(1442,)]


def test_another_thread_is_refused_while_one_asks(settled: Platform) -> None:
    with settled.lake.session() as session, ThreadPoolExecutor(1) as thread:
        with session.pruned("from readings"):
            other = thread.submit(session.sql, "select count(*) from readings")
            with pytest.raises(LakeReadError, match="another thread"):
                other.result()
        answer = thread.submit(lambda: session.sql("select count(*) from readings").fetchall())
        assert answer.result() == [(1442,)]


@pytest.mark.parametrize(
    ("name", "pruned_by"), [("until", "at"), ("at>", None), ("x AND at", None)]
)
def test_no_file_is_left_out_where_a_name_could_mislead(
    settled: Platform, name: str, pruned_by: str | None
) -> None:
    table = LakeTable("odd", (("at", "TIMESTAMPTZ"), (name, "TIMESTAMPTZ")), time="at")
    with settled.lake.session() as session:
        session.hot = {"odd": {n: HotColumn(n, "timestamp with time zone") for n in ("at", name)}}
        assert session._pruned_by(table) == pruned_by


def test_a_scan_that_hot_rows_do_without_hides_no_cold_row(settled: Platform) -> None:
    """`value` is a constant of the hot rows there, for which the plan has the second scan alone."""
    lost = "select number from readings where value is not null"
    with settled.postgres.connect(autocommit=True) as connection:
        connection.execute("alter table readings rename column value to no_value")
    try:
        with settled.lake.session() as session:
            cold = session.connection.sql(f"select count(*) from ({lost})").fetchall()  # noqa: S608
        assert cold[0][0] > 900
        union = f"{lost} union all select number from readings where \"at\" >= '2030-01-01'"  # noqa: S608
        for text in (union, lost):
            with settled.lake.session() as session:
                copy = "create table memory.main.readings as from readings limit 1"
                session.connection.execute(copy)
                assert session.sql(f"select count(*) from ({text})").fetchall() == cold  # noqa: S608
    finally:
        with settled.postgres.connect(autocommit=True) as connection:
            connection.execute("alter table readings rename column no_value to value")


@pytest.mark.parametrize(
    "text",
    [
        "select 1; select 2",
        "select 1; pivot readings on sensor using count(*)",
        "pivot readings on sensor using count(*); select 1",
        "pivot readings on sensor using count(*); pivot readings on number using count(*)",
        "",
    ],
)
def test_anything_but_one_statement_is_refused(settled: Platform, text: str) -> None:
    with settled.lake.session() as session, pytest.raises(LakeReadError, match="one statement"):
        session.sql(text)


def test_a_pivot_that_finds_its_columns_itself_reads_all_files(settled: Platform) -> None:
    pivot = "pivot (select sensor from readings) on sensor using count(*)"
    with settled.lake.session() as session:
        session.sql("select count(*) from readings where \"at\" >= '2024-05-01'")
        row = session.sql(pivot).fetchall()[0]
        with session.stream(f"with p as ({pivot}) from p") as streamed:
            assert streamed.fetchall()[0] == row
        assert session.sql("select count(*) from readings").fetchall() == [(sum(row),)]


def test_a_session_is_one_snapshot(settled: Platform) -> None:
    with settled.lake.session() as session:
        before = session.sql("select count(*) from readings").fetchall()
        with settled.postgres.connect() as connection:
            connection.execute("insert into readings values ('2024-06-05Z', 's1', 1, -2)")
        assert session.sql("select count(*) from readings").fetchall() == before
    with settled.lake.session() as session:
        assert session.sql("select count(*) from readings").fetchall() != before
    with settled.postgres.connect() as connection:
        connection.execute("delete from readings where number = -2")


def test_a_reader_cannot_write(settled: Platform) -> None:
    with settled.lake.session() as session, pytest.raises(duckdb.Error, match="read-only"):
        session.connection.execute("delete from pg.public.readings")


@pytest.mark.parametrize(
    "text",
    [
        "create table x as select 1",
        "delete from pg.public.readings",
        "copy readings to 'readings.csv'",
        "call postgres_execute('pg', 'commit; delete from readings')",
        "explain analyze create temp table x as from readings",
    ],
)
def test_only_queries_are_answered_and_the_session_goes_on(settled: Platform, text: str) -> None:
    with settled.lake.session() as session:
        with pytest.raises(ReadOnlyError):
            session.sql(text)
        with pytest.raises(ReadOnlyError), session.stream(text):
            pass
        assert session.sql("select count(*) from readings").fetchall() == [(1442,)]


def test_postgres_refuses_writes_of_the_plain_connection(settled: Platform) -> None:
    """Even where a COMMIT in the text has ended the session's own read-only transaction."""
    with settled.lake.session() as session, pytest.raises(duckdb.Error, match="read-only"):
        session.connection.execute("call postgres_execute('pg', 'commit; delete from readings')")
    with settled.lake.session() as session:
        assert session.sql("select count(*) from readings").fetchall() == [(1442,)]


def test_a_table_that_nobody_loaded_is_empty(platform: Platform) -> None:
    with platform.lake.session() as session:
        found = session.sql("select count(*), max(balance) from accounts").fetchall()
        described = session.sql("describe accounts").fetchall()
    assert found == [(0, None)]
    assert [row[1] for row in described][:2] == ["TIMESTAMP WITH TIME ZONE", "BIGINT"]
