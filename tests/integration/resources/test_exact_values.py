"""A query gets exact values of hot rows or is refused: values that DuckDB's types have not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import duckdb
import pandera.polars as pa
import polars as pl
import pytest
from psycopg import sql

from lakebed.exports.write import write_export
from lakebed.models.reading import reading
from lakebed.resources.hot_columns import HotColumn
from lakebed.resources.lake import READER_OPTIONS
from lakebed.resources.pruning import Scan
from lakebed.resources.read_errors import InexactError
from lakebed.resources.settings import Settings
from lakebed.schema.ddl import ensure_table
from lakebed.spec.export import Export
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform, open_platform
from tests.conftest import Server, settings_for
from tests.integration.scaffolding.test_adopt import declared
from tests.support.processes import move_key
from tests.support.tiers import do, seen

EACH = 20
COLUMNS = (
    "amount numeric(12,2), until timestamptz, naive timestamp(3), days int[], fees numeric(6,2)[],"
    " moments timestamptz[], gap interval, sure numeric(12,2) check (sure <> 'NaN'), note text"
)
SANE = "1.5, '2024-05-01Z', '2024-05-01', '{1,2}', '{1.5}', '{2024-05-01Z}', '1 day', 2.5, 'a'"
FAR = "294247-01-10 04:00:54.775807Z"
MISREAD = {
    "amount": "'NaN'",
    "until": f"'{FAR}'",
    "naive": "'294276-12-31 23:59:59.999'",
    "days": "'{{1,2},{3,4}}'",
    "fees": "'{1.5,NaN}'",
    "moments": f"array[null, '{FAR}']::timestamptz[]",
    "gap": "'-infinity'",
}
BEFORE_MARCH = "\"at\" < '2024-03-01'"


@pytest.fixture(scope="module")
def odd(
    server: Server, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """January is cold, February hot, and in March each column has a value that DuckDB has not."""
    name = server.create(migrated)
    settings = settings_for(tmp_path_factory.mktemp("lake"), server.url_of(name))
    do(
        open_platform(settings, ()),
        f"create table odd (id int, at timestamptz not null, {COLUMNS}, primary key (id, at))",
        f"insert into odd select i, m, {SANE} from generate_series(1, {EACH}) i,"  # noqa: S608
        " unnest(array['2024-01-05Z', '2024-02-05Z', '2024-03-05Z']::timestamptz[]) m",
        *(
            f"update odd set {column} = {value} where at >= '2024-03-01Z' and id = {i}"  # noqa: S608
            for i, (column, value) in enumerate(MISREAD.items(), 1)
        ),
    )
    platform = open_platform(settings, (declared(settings, "odd"),))
    assert move_key(platform, "odd", "2024-01").moved == EACH
    yield platform
    server.drop(name)


@pytest.mark.parametrize("column", MISREAD)
def test_a_query_of_a_value_that_duckdb_has_not_is_refused(odd: Platform, column: str) -> None:
    with odd.lake.session() as session:
        for query in (
            f"select max({column}) from odd",  # noqa: S608
            f"select count(*) from odd where {column} is not null and id < 100",  # noqa: S608
            f"with o as (from odd) select {column} from o order by all limit 1",  # noqa: S608
            "from odd",
            "summarize odd",
        ):
            with pytest.raises(InexactError, match=rf"odd\.{column}: 1 hot rows"):
                session.sql(query)
        # Neither other columns nor other times are refused, and the session goes on.
        whole = session.sql("select count(*), sum(sure), count(note) from odd").fetchall()
        assert whole == [(3 * EACH, 3 * EACH * 2.5, 3 * EACH)]
        before = f"select count({column}) from odd where {BEFORE_MARCH}"  # noqa: S608
        assert session.sql(before).fetchall() == [(2 * EACH,)]
        assert session.sql(before).fetchall() == [(2 * EACH,)]


def test_a_filter_on_nan_gives_no_row_with_another_value(odd: Platform) -> None:
    with odd.lake.session() as session, pytest.raises(InexactError, match="NaN"):
        session.sql("select id from odd where amount > 1000000")


def test_the_plain_connection_reads_no_other_value_either(odd: Platform) -> None:
    with odd.lake.session() as session:
        connection = session.connection
        assert connection.execute("select count(*), count(note) from odd").fetchall() == [
            (3 * EACH, 3 * EACH)
        ]
    for column in MISREAD:
        with odd.lake.session() as session, pytest.raises(duckdb.Error, match=rf"odd\.{column}: "):
            session.connection.execute(f"select max({column}) from odd").fetchall()  # noqa: S608


def test_a_pivot_and_an_analysis_read_no_other_value_either(odd: Platform) -> None:
    pivot = "pivot (select {}, id from odd) on id using max({})"
    with odd.lake.session() as session:
        assert len(session.sql(pivot.replace("{}", "note")).fetchall()) == 1
        with pytest.raises(duckdb.Error, match=r"odd\.amount: "):
            session.sql(pivot.replace("{}", "amount")).fetchall()
    with odd.lake.session() as session, pytest.raises(duckdb.Error, match=r"odd\.amount: "):
        session.sql("explain analyze select max(amount) from odd").fetchall()


def test_a_model_over_hot_rows_alone_reads_no_other_value_either(settings: Settings) -> None:
    do(
        open_platform(settings, ()),
        "create table fees (id int primary key, at timestamptz not null, fee numeric(6,2))",
        "insert into fees values (1, '2024-01-01Z', 'NaN'), (2, '2024-01-01Z', 1)",
    )
    platform = open_platform(settings, (declared(settings, "fees"),))
    with platform.lake.session() as session:
        with pytest.raises(InexactError), reading(session, "select sum(fee) from fees"):
            pass
        with reading(session, "select sum(id) from fees") as connection:
            assert connection.execute("select sum(id) from fees").fetchall() == [(3,)]
    do(platform, "update fees set fee = null where fee = 'NaN'")
    assert seen(platform, "select sum(fee) from fees") == [(1,)]


def test_a_check_saves_the_look(odd: Platform) -> None:
    """PostgreSQL's planner knows that no row can be found, and reads none."""
    with odd.lake.session() as session:
        exact = session._exact["odd"]
        assert exact.find_misread(Scan(columns=frozenset({"sure"}))) == {}
        query = exact._query(["sure"], Scan())
    with odd.postgres.connect() as connection:
        name, value = READER_OPTIONS.rpartition(" ")[2].split("=")
        connection.execute(sql.SQL("set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        plan = connection.execute(sql.SQL("explain {}").format(query)).fetchall()
    assert any("One-Time Filter: false" in line for (line,) in plan)
    assert not any("Scan" in line for (line,) in plan)


@pytest.mark.parametrize(
    ("where", "operator"),
    [
        ("id = 7", "="),
        ("id in (3, 9, 5)", "in"),
        ("note = 'b'", "="),
        ("note in ('b', 'it is')", "in"),
        ("note > 'b'", ">"),
        ("sure >= 99.5", ">="),
    ],
)
def test_a_look_reads_the_rows_of_the_query_alone(odd: Platform, where: str, operator: str) -> None:
    """So a query by a key stays one by an index; the rows with odd values are others here."""
    query = f"select count(amount) from odd where {where}"  # noqa: S608
    with odd.lake.session() as session:
        (scan,) = session.needed(query).values()
        assert operator in [c.operator for c in scan.comparisons]
        text = session._exact["odd"]._query(["amount"], scan).as_string()
        assert all(f'"{c.column}" {c.operator} (' in text for c in scan.comparisons)
        assert session.sql(query).fetchall() == session.sql(query).fetchall()
        with pytest.raises(InexactError):
            session.sql("select amount from odd where id = 1")
        with pytest.raises(InexactError):
            session.sql("select amount from odd where id in (1, 5, 9)")
        with pytest.raises(InexactError):
            session.sql("select amount from odd")


@pytest.mark.parametrize("column", MISREAD)
def test_a_query_that_ends_early_looks_at_what_it_reads_alone(odd: Platform, column: str) -> None:
    with odd.lake.session() as session:
        few = f"select id, {column} from odd where {BEFORE_MARCH} limit 25"  # noqa: S608
        assert len(session.sql(few).fetchall()) == 25
        assert session._exact["odd"]._sound == {}
        march = f"select id, {column} from odd where \"at\" >= '2024-03-01'"  # noqa: S608
        found = session.sql(f"{march} and id > 10 limit 5")
        # What is built upon an answer reads no other rows, and none otherwise.
        session.sql("select count(*) from odd")
        assert found.filter("id > 0").aggregate(f"count({column})").fetchall() == [(5,)]
        with pytest.raises(duckdb.Error, match=rf"odd\.{column}"):
            session.sql(f"{march} limit 100")


def test_comparisons_of_other_kinds_are_left_to_duckdb() -> None:
    for column, kind in (
        (HotColumn("t", "character(5)"), "text"),
        (HotColumn("t", "text", is_list=True), "text"),
        (HotColumn("f", "double precision"), "decimal"),
        (HotColumn("i", "bigint"), "decimal"),
        (HotColumn("m", "public.mood", is_enum=True), "text"),
        (HotColumn("t", "text"), "uuid"),
    ):
        assert column.comparable(kind, "=") is None
    assert 'collate "C"' in str(HotColumn("t", "text").comparable("text", "<"))


def test_a_hot_nan_in_a_key_hides_no_cold_row(settings: Settings) -> None:
    """DuckDB would read the key as 0 and take the cold row 0 for one that was updated."""
    do(
        open_platform(settings, ()),
        "create table sums (id numeric(6,0), at timestamptz, note text, primary key (id, at))",
        "insert into sums select i, '2024-01-05Z', 'cold' from generate_series(0, 9) i",
    )
    platform = open_platform(settings, (declared(settings, "sums"),))
    assert move_key(platform, "sums", "2024-01").moved == 10
    late = "insert into sums values ('NaN', '2024-01-05Z', 'hot'), (1, '2024-01-05Z', 'hot')"
    do(platform, late)
    by_note = "select note, count(*) from sums group by 1 order by 1"
    assert seen(platform, by_note) == [("cold", 9), ("hot", 2)]
    cold = "select count(*) from sums where id = 0 and \"at\" < '2024-01-01'"
    assert seen(platform, cold) == [(0,)]
    assert seen(platform, "select count(*), min(note) from sums where id = 0") == [(1, "cold")]
    with pytest.raises(InexactError, match=r"sums\.id: "):
        seen(platform, "select count(*) from sums where id >= 0")


@pytest.mark.parametrize(
    ("change", "column", "query"),
    [
        ("alter amount type numeric", "amount", "select sum(amount) from odd"),
        ("alter amount type double precision", "amount", "select sum(amount) from odd"),
        ("alter amount type numeric(20,5)", "amount", "select sum(amount) from odd"),
        ("alter id type numeric(6,2)", "id", "select sum(id) from odd"),
    ],
)
def test_a_type_that_the_contract_would_round_is_refused(
    settings: Settings, change: str, column: str, query: str
) -> None:
    do(
        open_platform(settings, ()),
        "create table odd (id int primary key, at timestamptz not null, amount numeric(12,2))",
        "insert into odd values (1, '2024-01-05Z', 1.25)",
    )
    platform = open_platform(settings, (declared(settings, "odd"),))
    assert seen(platform, "select amount from odd") == seen(platform, "select 1.25")
    do(platform, f"alter table odd {change}")
    with platform.lake.session() as session:
        with pytest.raises(InexactError, match=rf"odd\.{column} is "):
            session.sql(query)
        assert session.sql('select count("at") from odd').fetchall() == [(1,)]


def test_a_domain_reads_as_the_type_that_it_is_of(settings: Settings) -> None:
    do(
        open_platform(settings, ()),
        "create domain price as numeric(6,2)",
        "create domain code as text",
        "create domain dearer as price",
        "create table odd (id int primary key, at timestamptz not null, p numeric(6,2), c text,"
        " d numeric(6,2))",
        "insert into odd values (1, '2024-01-05Z', 1.25, 'B', 2), (2, '2024-01-05Z', 100, 'a', 3)",
    )
    platform = open_platform(settings, (declared(settings, "odd"),))
    do(
        platform,
        "alter table odd alter p type price, alter c type code, alter d type dearer",
    )
    for query, ids in (
        ("select id from odd where p > 2", [(2,)]),
        ("select id from odd where c > 'B'", [(2,)]),
        ("select id from odd where c in ('B', 'b')", [(1,)]),
        ("select id from odd where p = 1.25 and d < 2.5", [(1,)]),
    ):
        assert seen(platform, query) == ids
    do(platform, "update odd set d = 'NaN' where id = 1")
    with pytest.raises(InexactError, match=r"odd\.d: 1 hot rows"):
        seen(platform, "select max(d) from odd")
    assert seen(platform, "select max(p) from odd") == seen(platform, "select 100::decimal(6,2)")


class Measured(pa.DataFrameModel):
    id: int
    exact: str = pa.Field(metadata={"postgres": "numeric"})
    fee: Annotated[pl.Decimal, 6, 2]


def test_a_table_that_postgres_is_asked_for_is_exact_too(
    platform_of: Callable[..., Platform],
) -> None:
    """Its numeric without a precision travels as text, its other columns do not."""
    table = SourceTable(name="measured", model=Measured)
    platform = platform_of(table)
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
    do(platform, "insert into measured values (1, 'NaN', 1.5), (2, '1e-40', 'NaN')")
    exact = "select exact from measured order by id"
    assert seen(platform, exact) == [("NaN",), (f"0.{'0' * 39}1",)]
    assert seen(platform, "select id from measured where exact = 'NaN'") == [(1,)]
    with pytest.raises(InexactError, match=r"measured\.fee: "):
        seen(platform, "select sum(fee) from measured")


def test_an_array_may_be_declared_with_more_dimensions_than_its_values_have(
    settings: Settings,
) -> None:
    do(
        open_platform(settings, ()),
        "create table odd (id int primary key, at timestamptz not null, days int[][])",
        "insert into odd values (1, '2024-01-05Z', '{1,2}'), (2, '2024-01-05Z', null)",
    )
    platform = open_platform(settings, (declared(settings, "odd"),))
    assert seen(platform, "select days from odd order by id") == [([1, 2],), (None,)]
    assert seen(platform, "select id from odd where \"at\" < '2024-02-01' order by 1") == [
        (1,),
        (2,),
    ]
    do(platform, "update odd set days = '{{1},{2}}' where id = 2")
    with pytest.raises(InexactError, match=r"odd\.days: "):
        seen(platform, "select days from odd")
    assert seen(platform, "select count(*) from odd") == [(2,)]


def test_a_column_with_infinities_or_a_list_is_known_by_its_type() -> None:
    def condition(column: HotColumn) -> str:
        found = column.misread()
        return "" if found is None else found.as_string()

    assert "Infinity" in condition(HotColumn("n", "numeric"))
    assert "Infinity" not in condition(HotColumn("n", "numeric(6,2)"))
    assert "array_ndims" in condition(HotColumn("l", "text", is_list=True))
    for kind in ("text", "integer", "double precision", "date", "time without time zone", "uuid"):
        assert HotColumn("x", kind).misread() is None


def test_an_export_reads_no_other_value_either(odd: Platform, tmp_path: Path) -> None:
    target = tmp_path / "odd.csv"
    with pytest.raises(InexactError, match=r"odd\.amount: "):
        write_export(odd, Export(name="odd", path=str(target), columns=("id", "amount")))
    assert not target.exists()
    done = write_export(odd, Export(name="odd", path=str(target), columns=("id", "sure")))
    assert done.rows == 3 * EACH
