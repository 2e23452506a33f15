"""Tables of SQLite and DuckDB databases: every value as it is there, every row once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.incremental import new_files_of
from lakebed.ingest.sources.reader import SourceError
from lakebed.ingest.sources.readers import reader_of
from lakebed.spec.table import DuckdbTable, SourceTable, SqliteTable, TableError
from lakebed.store.platform import Platform, open_platform
from tests.conftest import settings_for
from tests.support import processes
from tests.support.queried import Order, ask, day, events, load, load_well, orders, whats

Make = Callable[..., Platform]


def sqlite(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def duck(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


SHOP = "create table orders (id integer primary key, customer text, amount decimal, changed text)"
LOG = 'create table events ("at" integer, what text)'
MAKERS = [
    pytest.param(sqlite, SqliteTable(database="log.db", table="events"), id="sqlite"),
    pytest.param(duck, DuckdbTable(database="log.db", table="events"), id="duckdb"),
]


class Anything(pa.DataFrameModel):
    """One column of each type."""

    id: pl.Int64
    whole: pl.Int64 = pa.Field(nullable=True)
    real: pl.Float64 = pa.Field(nullable=True)
    text: str = pa.Field(nullable=True)
    bytes: pl.Binary = pa.Field(nullable=True)


def anything(**more: Any) -> SourceTable:
    source = SqliteTable(database="any.db", table="anything")
    return SourceTable(
        name="anything", model=Anything, source=source, cursor="id", reject_share=0.9, **more
    )


def test_the_values_of_a_mixed_column_are_judged_one_by_one(platform_of: Make) -> None:
    platform = platform_of(anything())
    sqlite(
        platform.settings.data / "any.db",
        "create table anything (id integer, whole integer, real real, text, bytes blob)",
        "insert into anything values (1, 9223372036854775807, 0.1, 'x', x'00ff')",
        "insert into anything values (2, 'oops', 1e308, 5, 'text')",
        "insert into anything values (3, 1.5, 3, 0.30000000000000004, null)",
        "insert into anything values (4, '12', 5e-324, cast(x'ff' as text), x'')",
        "insert into anything values (5, null, -0.0, 'Zürich', x'')",
        "insert into anything values (6, -1, 9e999, 'a' || char(0), x'')",
    )
    report = load_well(platform, "anything")
    assert (report.rows_read, report.inserted, report.rejected) == (6, 2, 4)
    rows = ask(platform, "select id, whole, real, text, bytes from anything order by id")
    assert rows == [(1, 2**63 - 1, 0.1, "x", b"\x00\xff"), (5, None, 0.0, "Zürich", b"")]
    found = ask(platform, "select row_number, column_name, rule from lakebed.rejected_row")
    assert sorted((number, column) for number, column, _ in found) == [
        (2, "whole"), (3, "whole"), (4, "text"), (6, "text"),
    ]  # fmt: skip


def test_a_real_keeps_every_bit_and_becomes_text_as_python_writes_it(platform_of: Make) -> None:
    platform = platform_of(anything())
    values = [0.1, 1 / 3, 2**0.5, 1e-300, 123456789.123456789, 5e-324]
    path = platform.settings.data / "any.db"
    sqlite(path, "create table anything (id integer, whole integer, real, text, bytes blob)")
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "insert into anything values (?, null, ?, ?, null)",
            [(i, value, value) for i, value in enumerate(values)] + [(99, 2**60, "text")],
        )
        connection.commit()
    assert load_well(platform, "anything").inserted == len(values) + 1
    rows = ask(platform, "select real, text from anything where id < 99 order by id")
    assert rows == [(value, repr(value)) for value in values]


def test_a_table_without_rowid_a_view_and_a_generated_column_are_read(platform_of: Make) -> None:
    path_of = platform_of().settings.data / "shop.db"
    sqlite(
        path_of,
        "create table pairs (at integer, what text, primary key (what, at)) without rowid",
        "insert into pairs values (1, 'a'), (2, 'b')",
        "create view seen as select at + 10 as at, what from pairs",
        "create table made (at integer, what text generated always as ('w' || at) virtual)",
        "insert into made (at) values (7)",
    )
    for table, rows in (
        ("pairs", [(1, "a"), (2, "b")]),
        ("seen", [(11, "a"), (12, "b")]),
        ("made", [(7, "w7")]),
    ):
        platform = platform_of(events(SqliteTable(database="shop.db", table=table)))
        ask_before = whats(platform) if table != "pairs" else []
        load_well(platform, "events")
        assert [row for row in whats(platform) if row not in ask_before] == rows


@pytest.mark.parametrize(
    ("stored", "dates"),
    [
        pytest.param("'2024-03-01 12:00:00'", {}, id="text"),
        pytest.param("'2024-03-01T12:00:00Z'", {}, id="text-with-t"),
        pytest.param("1709294400", {"changed": "unix"}, id="unix"),
        pytest.param("1709294400.0", {"changed": "unix"}, id="unix-real"),
        pytest.param("1709294400000", {"changed": "unix_ms"}, id="milliseconds"),
        pytest.param("2460371.0", {"changed": "julian"}, id="julian"),
    ],
)
def test_a_moment_arrives_however_it_is_stored_and_new_rows_are_found(
    platform_of: Make, stored: str, dates: Any
) -> None:
    source = SqliteTable(database="shop.db", table="orders", dates=dates)
    platform = platform_of(orders(source))
    shop = platform.settings.data / "shop.db"
    sqlite(
        shop,
        "create table orders (id integer primary key, customer, amount, changed datetime)",
        f"insert into orders values (1, 'a', 1.5, {stored})",  # noqa: S608
    )
    load_well(platform, "orders")
    later = stored.replace("03-01", "03-02") if "'" in stored else f"{stored} + 1"
    sqlite(shop, f"insert into orders values (2, 'b', 2, {later})")  # noqa: S608
    assert load_well(platform, "orders").inserted == 1
    assert ask(platform, "select id, changed from orders order by id")[0] == (1, day(1, 12))


def test_a_number_is_no_moment_where_nothing_says_what_it_counts(platform_of: Make) -> None:
    platform = platform_of(orders(SqliteTable(database="shop.db", table="orders")))
    sqlite(
        platform.settings.data / "shop.db",
        "create table orders (id integer primary key, customer, amount, changed integer)",
        "insert into orders values (1, 'a', 1, 1709294400)",
    )
    report = load(platform, "orders")
    assert "dates=" in report.refused[0].problem


@pytest.mark.parametrize(("make", "source"), MAKERS)
def test_ties_at_the_cursor_are_loaded_once_in_whatever_order_they_come(
    platform_of: Make, make: Any, source: Any
) -> None:
    platform = platform_of(events(source))
    log = platform.settings.data / "log.db"
    make(log, LOG, "insert into events values (1, 'a'), (2, 'b'), (2, 'b'), (2, 'c')")
    load_well(platform, "events")
    make(
        log,
        "create table other as select * from events",
        "delete from events",
        "insert into events values (2, 'new'), (2, 'b')",
        "insert into events select * from other order by what desc",
        "insert into events values (3, 'd')",
    )
    report = load_well(platform, "events")
    assert (report.rows_read, report.inserted) == (3, 3)
    expected = [(1, "a"), (2, "b"), (2, "b"), (2, "b"), (2, "c"), (2, "new"), (3, "d")]
    assert whats(platform) == expected
    make(log, "insert into events values (3, 'd')")
    load_well(platform, "events")
    assert whats(platform) == [*expected, (3, "d")]


@pytest.mark.parametrize(("make", "source"), MAKERS)
def test_an_unchanged_database_is_not_read_again(platform_of: Make, make: Any, source: Any) -> None:
    platform = platform_of(events(source))
    make(platform.settings.data / "log.db", LOG, "insert into events values (1, 'a')")
    load_well(platform, "events")
    table = platform.table("events")
    with platform.postgres.connect() as connection:
        found = reader_of(table, platform.settings).glance()
        assert new_files_of(connection, table, found) == []
    assert load_well(platform, "events").load_id is None


@pytest.mark.parametrize(("make", "source"), MAKERS)
def test_an_append_with_a_lag_takes_late_rows_once_and_no_older_ones(
    platform_of: Make, make: Any, source: Any
) -> None:
    platform = platform_of(events(source, lag=10))
    log = platform.settings.data / "log.db"
    make(log, LOG, "insert into events values (80, 'old'), (95, 'x'), (100, 'y')")
    load_well(platform, "events")
    make(log, "insert into events values (92, 'late'), (95, 'x'), (85, 'too late'), (101, 'z')")
    assert load_well(platform, "events").inserted == 3
    make(log, "insert into events values (99, 'late')")
    assert load_well(platform, "events").inserted == 1
    expected = [
        (80, "old"),
        (92, "late"),
        (95, "x"),
        (95, "x"),
        (99, "late"),
        (100, "y"),
        (101, "z"),
    ]
    assert whats(platform) == expected


def test_a_merge_with_a_lag_takes_what_came_late_and_rewrites_nothing_else(
    platform_of: Make,
) -> None:
    source = SqliteTable(database="shop.db", table="orders")
    platform = platform_of(orders(source, lag=timedelta(days=2)))
    shop = platform.settings.data / "shop.db"
    sqlite(
        shop,
        SHOP,
        "insert into orders values (1, 'a', 1, '2024-03-01'), (2, 'b', 2, '2024-03-08'),"
        " (3, 'c', 3, '2024-03-09')",
    )
    load_well(platform, "orders")
    sqlite(
        shop,
        "insert into orders values (4, 'late', 4, '2024-03-08'), (5, 'too late', 5, '2024-03-02')",
        "update orders set amount = 20 where id = 2",
    )
    report = load_well(platform, "orders")
    assert (report.inserted, report.updated, report.unchanged) == (1, 1, 1)
    found = ask(platform, "select id, amount::int from orders order by id")
    assert found == [(1, 1), (2, 20), (3, 3), (4, 4)]


def test_a_new_column_of_a_database_is_added_where_the_table_evolves(platform_of: Make) -> None:
    platform = platform_of(events(SqliteTable(database="log.db", table="events"), key=("at",),
                                  write_mode="merge", new_columns="evolve"))  # fmt: skip
    log = platform.settings.data / "log.db"
    sqlite(log, LOG, "insert into events values (1, 'a')")
    load_well(platform, "events")
    sqlite(log, "alter table events add column note text", "alter table events add n integer",
           "insert into events values (2, 'b', 'new', 5)")  # fmt: skip
    load_well(platform, "events")
    found = ask(platform, "select at, note, n from events order by at")
    assert found == [(1, None, None), (2, "new", 5)]


def test_a_table_may_be_replaced_or_emptied_of_what_its_database_lacks(platform_of: Make) -> None:
    log, shop = (platform_of().settings.data / name for name in ("log.db", "shop.db"))
    source = SqliteTable(database="log.db", table="events")
    replaced = events(source, write_mode="replace")
    kept = orders(SqliteTable(database="shop.db", table="orders"), deletes="full_extract")
    platform = platform_of(replaced, kept)
    sqlite(log, LOG, "insert into events values (1, 'a'), (2, 'b')")
    rows = "(1, 'a', 1, '2024-03-02'), (2, 'b', 2, '2024-03-01'), (3, 'c', 3, '2024-03-01')"
    sqlite(shop, SHOP, f"insert into orders values {rows}")  # noqa: S608
    load_well(platform, "events")
    load_well(platform, "orders")
    sqlite(log, "delete from events where what = 'a'", "insert into events values (0, 'z')")
    sqlite(shop, "delete from orders where id = 2")
    load_well(platform, "events")
    load_well(platform, "orders")
    assert whats(platform) == [(0, "z"), (2, "b")]
    assert ask(platform, "select id from orders order by id") == [(1,), (3,)]
    assert load_well(platform, "events").load_id is None


TABLE_FILE = """
from lakebed.spec.table import SqliteTable
from tests.support.queried import events as declared
events = declared(SqliteTable(database="log.db", table="events"), lag=10)
"""


@pytest.mark.parametrize("step", ["extracted", "copied", "written", "recorded", "committed"])
@pytest.mark.thorough
def test_a_killed_load_of_a_database_loads_each_row_once_when_run_again(
    tmp_path: Path, database: str, step: str
) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "events.py").write_text(TABLE_FILE)
    settings = settings_for(tmp_path, database, LAKEBED_TABLES=str(tables))
    settings.data.mkdir()
    platform = open_platform(settings)
    log = settings.data / "log.db"
    rows = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)"
    sqlite(log, LOG, f"insert into events {rows} select i / 3, 'x' || i % 2 from n")  # noqa: S608
    for _ in range(2):
        assert processes.run(processes.load, settings, "events", step, None) == -9
        assert processes.run(processes.load, settings, "events", None, None) == 0
        with closing(sqlite3.connect(log)) as connection:
            there = connection.execute("select * from events order by 1, 2").fetchall()
        assert whats(platform) == there
        sqlite(log, "insert into events values (333, 'x1'), (325, 'late'), (334, 'new')")


def test_a_merge_without_a_cursor_reads_the_whole_table_when_it_changed(platform_of: Make) -> None:
    platform = platform_of(orders(SqliteTable(database="*.db", table="orders"), cursor=None))
    shop = platform.settings.data / "shop.db"
    sqlite(shop, SHOP, "insert into orders values (1, 'a', 1, '2024-03-01')")
    load_well(platform, "orders")
    sqlite(shop, "update orders set customer = 'z'")
    assert load_well(platform, "orders").updated == 1


def test_rows_in_the_write_ahead_log_count(platform_of: Make) -> None:
    platform = platform_of(events(SqliteTable(database="log.db", table="events")))
    with closing(sqlite3.connect(platform.settings.data / "log.db")) as writer:
        writer.execute("pragma journal_mode = wal")
        writer.execute(LOG)
        for number in range(3):
            writer.execute("insert into events values (?, 'x')", [number])
            writer.commit()
            assert load_well(platform, "events").inserted == 1
    assert whats(platform) == [(0, "x"), (1, "x"), (2, "x")]


def test_an_append_whose_columns_changed_does_not_guess_at_its_boundary(platform_of: Make) -> None:
    source = SqliteTable(database="shop.db", table="orders")
    shop = platform_of().settings.data / "shop.db"
    sqlite(shop, SHOP, "insert into orders values (1, 'a', 1, '2024-03-01')")
    load_well(platform_of(orders(source, write_mode="append", key=())), "orders")
    sqlite(shop, "insert into orders values (2, 'b', 2, '2024-03-01')")
    report = load(platform_of(orders(source, write_mode="append")), "orders")
    assert "have changed since" in report.refused[0].problem


def test_what_is_no_database_or_lacks_the_table_is_said(platform_of: Make) -> None:
    platform = platform_of(orders(SqliteTable(database="shop.db", table="orders")))
    with pytest.raises(SourceError, match="the file does not exist"):
        load(platform, "orders")
    shop = platform.settings.data / "shop.db"
    sqlite(shop, LOG)
    assert "there are: events" in load(platform, "orders").refused[0].problem
    shop.write_text("no database " * 100)
    assert "SQLite cannot read it" in load(platform, "orders").refused[0].problem
    platform = platform_of(orders(DuckdbTable(database="shop.db", table="orders")))
    assert "DuckDB cannot read it" in load(platform, "orders").refused[0].problem


def test_every_type_of_duckdb_arrives_or_is_text(platform_of: Make) -> None:
    class Wide(pa.DataFrameModel):
        huge: Annotated[pl.Decimal, 38, 0]
        id: str
        tags: str
        span: str
        at: Annotated[pl.Datetime, "us", "UTC"]
        mood: str

    source = DuckdbTable(database="w.duckdb", table="wide", schema="s")
    platform = platform_of(SourceTable(name="wide", model=Wide, source=source, cursor="huge"))
    duck(
        platform.settings.data / "w.duckdb",
        "create schema s",
        "create type mood as enum ('sad', 'glad')",
        "create table s.wide as select 12345678901234567890123::hugeint as huge,"
        " '550e8400-e29b-41d4-a716-446655440000'::uuid as id, ['a', 'b\"'] as tags,"
        " interval 1 month as span, timestamptz '2024-03-01 01:00:00+01' as at,"
        " 'glad'::mood as mood",
    )
    load_well(platform, "wide")
    assert ask(platform, "select * from wide") == [
        (
            12345678901234567890123, "550e8400-e29b-41d4-a716-446655440000",
            '["a","b\\""]', "1 month", day(1), "glad",
        )
    ]  # fmt: skip


def test_an_infinite_time_of_duckdb_is_a_reject_of_its_own(platform_of: Make) -> None:
    source = DuckdbTable(database="shop.db", table="orders")
    platform = platform_of(orders(source, reject_share=0.9))
    duck(
        platform.settings.data / "shop.db",
        "create table orders (id integer, customer text, amount decimal(5, 1), changed timestamp)",
        "insert into orders values (1, 'a', 1, 'infinity'), (2, 'b', 2, '2024-03-01')",
    )
    report = load_well(platform, "orders")
    assert (report.inserted, report.rejected) == (1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cursor": None, "write_mode": "append"}, "declare one, use merge"),
        ({"lag": 5}, "Expected a timedelta"),
        ({"lag": timedelta(days=-1)}, "Expected 0 or more"),
        ({"lag": timedelta(days=1), "cursor": None}, "and a cursor"),
    ],
)
def test_a_queried_table_that_makes_no_sense_is_refused(options: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        orders(SqliteTable(database="shop.db", table="orders"), **options)


def test_a_lag_of_a_date_is_of_whole_days() -> None:
    table = orders(SqliteTable(database="a", table="b"), lag=timedelta(hours=1))
    assert table.floor_of(day(2).date()) == day(1).date()
    assert Order.__doc__


@pytest.mark.parametrize("lag", [None, 5])
@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_row_that_breaks_the_contract_hides_no_other_by_its_cursor(
    platform_of: Make, mode: str, lag: int | None
) -> None:
    more: dict[str, Any] = {"reject_share": 0.9, "lag": lag, "write_mode": mode}
    if mode == "merge":
        more["key"] = ("at", "what")
    platform = platform_of(events(SqliteTable(database="log.db", table="events"), **more))
    log = platform.settings.data / "log.db"
    sqlite(log, LOG, "insert into events values (1, 'a'), (2, 'b'), (9999, x'ff'), (2, x'fe')")
    done = load_well(platform, "events")
    assert (done.inserted, done.rejected, done.cursor_to) == (2, 2, "2")
    for number in range(3, 6):
        sqlite(log, f"insert into events values ({number}, 'c')")  # noqa: S608
        again = load_well(platform, "events")
        assert (again.inserted, again.rejected) == (1, 0)
    sqlite(
        log, "delete from events where typeof(what) = 'blob'", "insert into events values (6, 'e')"
    )
    assert load_well(platform, "events").inserted == 1
    assert [at for at, _ in whats(platform)] == [1, 2, 3, 4, 5, 6]
    assert ask(platform, "select count(*) from lakebed.rejected_row") == [(2,)]


def test_a_source_in_which_only_bad_rows_are_new_says_so_and_goes_on(platform_of: Make) -> None:
    source = SqliteTable(database="log.db", table="events")
    platform = platform_of(events(source, reject_share=0.9))
    log = platform.settings.data / "log.db"
    sqlite(log, LOG, "insert into events values (1, 'a')")
    load_well(platform, "events")
    sqlite(log, "insert into events values (2, x'ff')")
    assert "break the contract" in load(platform, "events").refused[0].problem
    sqlite(log, "insert into events values (3, 'b')")
    assert load_well(platform, "events").inserted == 1
    sqlite(
        log, "update events set what = 'mended' where at = 2", "insert into events values (4, 'c')"
    )
    load_well(platform, "events")
    assert [at for at, _ in whats(platform)] == [1, 3, 4]
