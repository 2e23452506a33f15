"""Tables of PostgreSQL and MariaDB servers: every value as it is there, every row once."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import pandera.polars as pa
import polars as pl
import psycopg
import pytest

from lakebed.importing.import_database import plan_import, run_import
from lakebed.importing.sources import open_source
from lakebed.ingest.incremental import new_files_of
from lakebed.ingest.sources.reader import SourceError
from lakebed.ingest.sources.readers import reader_of
from lakebed.resources.settings import Settings
from lakebed.spec.table import SourceTable, SqlTable
from lakebed.store.platform import Platform
from tests.conftest import Server, open_folder
from tests.support.queried import ask, day, events, load, load_well, orders, whats

Make = Callable[..., Platform]
Do = Callable[..., None]

SHOP = (
    "create table orders (id integer primary key, customer text, amount decimal(12, 2),"
    " changed timestamp(6) not null)"
)


@pytest.fixture
def shop(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Do]:
    """Another database of the embedded server, whose URL is in SHOP_URL."""
    name = server.create()
    monkeypatch.setenv("SHOP_URL", server.url_of(name))

    def do(*statements: str) -> None:
        with psycopg.connect(server.url_of(name), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    yield do
    server.drop(name)


@pytest.fixture(scope="session")
def mariadb_socket() -> Iterator[Path]:
    """A private MariaDB server, by its socket."""
    found = shutil.which("mariadbd") or shutil.which("mysqld")
    if found is None:
        pytest.skip("no mariadbd here: apt-get install mariadb-server")
    with open_folder() as folder:
        data, socket = folder / "data", folder / "s"
        options = ["--no-defaults", f"--datadir={data}", "--lc-messages-dir=/usr/share/mysql"]
        subprocess.run(
            ["mariadb-install-db", *options, "--auth-root-authentication-method=normal",
             "--skip-test-db", "--user=root"],
            check=True, capture_output=True,
        )  # fmt: skip
        running = subprocess.Popen(
            [found, *options, f"--socket={socket}", "--skip-networking", "--user=root",
             "--pid-file=" + str(folder / "pid"), "--sql-mode=", "--innodb-buffer-pool-size=32M"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for(socket, running)
            yield socket
        finally:
            running.terminate()
            running.wait(60)


def _wait_for(socket: Path, running: subprocess.Popen[bytes]) -> None:
    import pymysql

    for _ in range(300):
        assert running.poll() is None, "mariadbd ended at once"
        with suppress(pymysql.err.OperationalError):
            pymysql.connect(unix_socket=str(socket), user="root").close()
            return
        time.sleep(0.1)
    raise TimeoutError("mariadbd does not answer")


@pytest.fixture
def maria(mariadb_socket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Do]:
    """An empty database of the MariaDB server, whose URL is in SHOP_URL."""
    import pymysql

    def do(*statements: str, database: str | None = "shop") -> None:
        connection = pymysql.connect(
            unix_socket=str(mariadb_socket), user="root", database=database, charset="utf8mb4"
        )
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    do(
        "create database shop character set utf8mb4",
        "create or replace user reader identified by 'p@ss word'",
        "grant select on shop.* to reader",
        database=None,
    )
    password = quote("p@ss word")
    url = f"mysql+pymysql://reader:{password}@localhost/shop?unix_socket={mariadb_socket}"
    monkeypatch.setenv("SHOP_URL", url)
    yield do
    do("drop database shop", database=None)


@pytest.fixture(params=["shop", "maria"])
def either(request: pytest.FixtureRequest) -> Do:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


ORDERS = SqlTable(url_setting="SHOP_URL", table="orders")
EVENTS = SqlTable(url_setting="SHOP_URL", table="events")
LOG = "create table events (at integer, what varchar(20))"


def test_new_and_late_rows_of_a_server_are_merged(platform_of: Make, either: Do) -> None:
    platform = platform_of(orders(ORDERS, lag=timedelta(days=2)))
    either(SHOP, "insert into orders values (1, 'Zürich €', 1.10, '2024-03-01 00:00:00.123456'),"
           " (2, null, null, '2024-03-08')")  # fmt: skip
    assert load_well(platform, "orders").inserted == 2
    assert ask(platform, "select id, customer, amount::text, changed from orders order by id") == [
        (1, "Zürich €", "1.10", day(1) + timedelta(microseconds=123456)),
        (2, None, None, day(8)),
    ]
    assert load_well(platform, "orders").load_id is None
    either("insert into orders values (3, 'late', 3, '2024-03-07'), (4, 'n', 4, '2024-03-09')")
    report = load_well(platform, "orders")
    assert (report.inserted, report.updated, report.unchanged) == (2, 0, 1)
    with platform.postgres.connect() as connection:
        table = platform.table("orders")
        found = reader_of(table, platform.settings).glance()
        assert new_files_of(connection, table, found) == []


def test_ties_of_a_server_are_appended_once(platform_of: Make, either: Do) -> None:
    platform = platform_of(events(EVENTS))
    either(LOG, "insert into events values (1, 'a'), (2, 'b'), (2, 'b')")
    load_well(platform, "events")
    either("delete from events where at = 1", "insert into events values (2, 'b'), (2, 'c')")
    assert load_well(platform, "events").inserted == 2
    assert whats(platform) == [(1, "a"), (2, "b"), (2, "b"), (2, "b"), (2, "c")]


@pytest.mark.parametrize("end", ["", ";", " -- the first", " ; -- the first; or not", ";; /* ; */"])
def test_a_query_is_read_as_a_table_is(platform_of: Make, either: Do, end: str) -> None:
    query = "".join(("select at, upper(what) as what from events where what <> 'a:b'", end))
    platform = platform_of(events(SqlTable(url_setting="SHOP_URL", query=query)))
    either(LOG, "insert into events values (1, 'a:b'), (2, 'b')")
    load_well(platform, "events")
    either("insert into events values (3, 'c')")
    assert load_well(platform, "events").rows_read == 1
    assert whats(platform) == [(2, "B"), (3, "C")]


def test_a_table_without_a_cursor_is_read_whole_again(platform_of: Make, either: Do) -> None:
    platform = platform_of(orders(ORDERS, cursor=None))
    either(SHOP, "insert into orders values (1, 'a', 1, '2024-03-01')")
    load_well(platform, "orders")
    either("update orders set customer = 'z'")
    for _ in range(50):  # PostgreSQL counts a change up to a second after it
        if load_well(platform, "orders").updated:
            break
        time.sleep(0.1)
    assert ask(platform, "select customer from orders") == [("z",)]


def test_a_sensor_sees_a_table_that_cannot_tell_once_an_hour(platform_of: Make, maria: Do) -> None:
    table = orders(ORDERS, cursor=None)
    platform = platform_of(table)
    maria(SHOP, "insert into orders values (1, 'a', 1, '2024-03-01')")
    with platform.postgres.connect(autocommit=True) as connection:
        reader = reader_of(table, platform.settings)
        seen = {item.version for _ in range(3) for item in reader.glance()}
        assert len(seen) <= 2  # the hour may have ended in between
        assert len(new_files_of(connection, table, reader.glance())) == 1
        before = reader.glance()
        load_well(platform, "orders")
        assert new_files_of(connection, table, before) == []
        assert len(new_files_of(connection, table, reader.find())) == 1


class Hard(pa.DataFrameModel):
    """What drivers damage."""

    id: pl.Int64
    flag: bool = pa.Field(nullable=True)
    big: Annotated[pl.Decimal, 20, 0] = pa.Field(nullable=True)
    price: Annotated[pl.Decimal, 38, 18] = pa.Field(nullable=True)
    ratio: pl.Float64 = pa.Field(nullable=True)
    small: pl.Float32 = pa.Field(nullable=True)
    born: pl.Date = pa.Field(nullable=True)
    at: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(nullable=True)
    doc: str = pa.Field(nullable=True)
    bytes: pl.Binary = pa.Field(nullable=True)
    bits: pl.Int64 = pa.Field(nullable=True)


def hard() -> SourceTable:
    source = SqlTable(url_setting="SHOP_URL", table="hard")
    return SourceTable(name="hard", model=Hard, source=source, cursor="id", reject_share=0.9)


def test_mysql_values_arrive_or_are_rejected_by_themselves(platform_of: Make, maria: Do) -> None:
    platform = platform_of(hard())
    maria(
        "create table hard (id int primary key, flag tinyint(1), big bigint unsigned,"
        " price decimal(38, 18), ratio double, small float, born date, at datetime(6), doc json,"
        " bytes varbinary(10), bits bit(10))",
        "insert into hard values (1, 1, 18446744073709551615,"
        " 12345678901234567890.123456789012345678, 0.1, 16777217.0 / 3,"
        " '2024-02-29', '2024-03-01 12:00:00.000001', '{\"a\": \"é\"}',"
        " x'00ff', b'1000000001')",
        "insert into hard (id, born) values (2, '0000-00-00')",
        "insert into hard (id, flag) values (3, 2)",
        "insert into hard (id, at) values (4, '0000-00-00 00:00:00')",
        "insert into hard (id) values (5)",
    )
    report = load_well(platform, "hard")
    assert (report.inserted, report.rejected) == (2, 3)
    rows = ask(platform, "select * from hard order by id")
    assert [str(rows[0][2]), str(rows[0][3])] == [
        "18446744073709551615", "12345678901234567890.123456789012345678",
    ]  # fmt: skip
    assert rows[0][4] == 0.1
    assert rows[0][5] == float(pl.Series([16777217.0 / 3]).cast(pl.Float32)[0])
    assert rows[0][6:] == (
        date(2024, 2, 29), datetime(2024, 3, 1, 12, microsecond=1, tzinfo=UTC),
        '{"a": "é"}', b"\x00\xff", 513,
    )  # fmt: skip
    assert rows[1] == (5, *[None] * 10)
    rejects = ask(platform, "select column_name from lakebed.rejected_row order by row_number")
    assert rejects == [("born",), ("flag",), ("at",)]


def test_postgres_values_arrive_or_are_rejected_by_themselves(platform_of: Make, shop: Do) -> None:
    platform = platform_of(hard())
    shop(
        "create table hard (id int primary key, flag bool, big numeric, price numeric,"
        " ratio float8, small float4, born date, at timestamptz, doc jsonb, bytes bytea, bits int)",
        "insert into hard values (1, true, 18446744073709551615,"
        " 12345678901234567890.123456789012345678, 0.1, 0.1, '2024-02-29',"
        " '2024-03-01 12:00:00.000001+00', '{\"a\": \"é\"}', '\\x00ff', 513)",
        "insert into hard (id, born) values (2, 'infinity')",
        "insert into hard (id, at) values (3, '294276-12-31 23:59:59')",
        "insert into hard (id, at) values (4, '0044-03-15 12:00 BC')",
        "insert into hard (id, big) values (5, 'NaN')",
        "insert into hard (id, big) values (6, 1.5)",
        "insert into hard (id, ratio) values (7, 'NaN'), (8, '-infinity')",
    )
    report = load_well(platform, "hard")
    assert (report.inserted, report.rejected) == (3, 5)
    rows = ask(platform, "select * from hard order by id")
    assert [str(rows[0][2]), str(rows[0][3])] == [
        "18446744073709551615", "12345678901234567890.123456789012345678",
    ]  # fmt: skip
    assert rows[0][6:] == (
        date(2024, 2, 29), datetime(2024, 3, 1, 12, microsecond=1, tzinfo=UTC),
        '{"a": "é"}', b"\x00\xff", 513,
    )  # fmt: skip
    assert str(rows[1][4]) == "nan"
    assert rows[2][4] == float("-inf")
    rejects = ask(platform, "select column_name from lakebed.rejected_row order by row_number")
    assert rejects == [("born",), ("at",), ("at",), ("big",), ("big",)]


def test_no_error_tells_the_password(
    platform_of: Make, maria: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = platform_of(events(EVENTS))
    with pytest.raises(SourceError, match="exist") as raised:
        load(platform, "events")
    assert "ss word" not in str(raised.value)
    for url, message in (
        ("postgresql://u:hunter2@127.0.0.1:1/d", "the database says"),
        ("mysql+pymysql://u:hunter2@127.0.0.1:1/d", "the database says"),
        ("oracle9://u:hunter2@h/d", "is not installed"),
        ("postgresql://u:hunter2@127.0.0.1:abc/d", "is not a URL"),
        ("hunter2", "is not a URL"),
    ):
        monkeypatch.setenv("SHOP_URL", url)
        with pytest.raises(SourceError, match=message) as raised:
            load(platform, "events")
        assert "hunter2" not in str(raised.value)
        assert raised.value.__cause__ is None
    monkeypatch.delenv("SHOP_URL")
    with pytest.raises(SourceError, match="SHOP_URL is not set"):
        load(platform, "events")
    assert "hunter2" not in repr(platform.tables)


def test_a_mariadb_database_is_imported_with_its_structure(
    settings: Settings, maria: Do, tmp_path: Path
) -> None:
    maria(
        "create table part (id int auto_increment primary key, code varchar(20) not null unique,"
        " price decimal(10, 2) default 1.50, constraint dear check (price > 0))",
        "create table line (a int primary key, part int not null, note varchar(20) default 'none',"
        " key by_note (note), foreign key (part) references part (id) on delete cascade)",
        "insert into part (code, price) values ('a', 1.25), ('b', null)",
        "insert into line (a, part) values (1, 1), (2, 2)",
    )
    own = replace(settings, tables=tmp_path / "tables")
    report = run_import(own, plan_import(own, open_source(own, "sql:SHOP_URL")))
    assert report.problems == []
    assert {one.table: one.rows for one in report.checks} == {"part": 2, "line": 2}
    created = {(one.kind, one.name) for one in report.structure if one.state == "created"}
    assert created >= {
        ("identity", "id"), ("unique key", "code"), ("check", "dear"), ("index", "by_note"),
        ("foreign key", "line_part_fkey"), ("default", "price"), ("default", "note"),
    }  # fmt: skip
    assert report.left_out == ()
