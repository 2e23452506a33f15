"""A DuckDB file is imported whole: rows, keys, indexes, defaults, and the comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb

from lakebed.importing.import_database import ImportReport, plan_import, run_import
from lakebed.importing.sources import open_source
from lakebed.resources.settings import Settings
from lakebed.store.platform import open_platform
from tests.support.queried import ask

STATEMENTS = """
create sequence numbers start 5;
create table part (id integer primary key default nextval('numbers'), code varchar unique not null,
  price decimal(10, 2) check (price > 0), open boolean default true,
  made timestamp default current_timestamp, seen timestamptz, day date, hour time, weight double,
  picture blob, huge hugeint, tags varchar[]);
create table line (a integer, part integer references part (id), primary key (a));
create index "by part" on line (part);
create unique index low on part (lower(code));
create view cheap as select * from part where price < 1;
insert into part values
  (1, 'a', 1.25, true, '2024-01-01 00:00:00.000001', '2024-06-01 12:00:00+02', '2024-02-29',
   '23:59:59.5', 0.1, 'x', 12345678901234567890123456789012345678, ['a']),
  (2, 'ß', 0.01, false, null, null, null, null, 1e300, null, null, null);
insert into line values (1, 2), (2, null);
"""


def bring(settings: Settings) -> ImportReport:
    return run_import(settings, plan_import(settings, open_source(settings, "duckdb:shop.duckdb")))


def test_a_duckdb_file_is_imported_and_compared(settings: Settings, tmp_path: Path) -> None:
    own = replace(settings, tables=tmp_path / "tables")
    with duckdb.connect(str(own.data / "shop.duckdb")) as connection:
        connection.execute(STATEMENTS)
    report = bring(own)
    assert report.problems == []
    assert {one.table: (one.source_rows, one.rows) for one in report.checks} == {
        "line": (2, 2),
        "part": (2, 2),
    }
    states = {(one.kind, one.name): one.state for one in report.structure}
    assert set(states.values()) == {"created", "exists"}
    assert states["foreign key", "line_part_fkey"] == "created"
    assert states["index", "by part"] == "created"
    assert states["unique key", "low"] == "created"
    assert states["check", "part_price_check"] == "created"
    assert [(one.kind, one.name) for one in report.left_out] == [("view", "cheap")]
    platform = open_platform(own)
    assert ask(platform, "insert into part (code) values ('c') returning id, open") == [(3, True)]
    ask(platform, "delete from part where id = 3 returning 1")
    with duckdb.connect(str(own.data / "shop.duckdb")) as connection:
        connection.execute("delete from line where a = 1; insert into line values (3, 1)")
    again = bring(own)
    assert again.problems == []
    assert {one.state for one in again.structure} == {"exists"}
    ask(platform, "update part set weight = 0.2, price = 1.26 where id = 1 returning 1")
    assert {text.partition(":")[0] for one in bring(own).checks for text in one.differences} == {
        "weight",
        "price",
    }


def test_intervals_are_imported_and_a_table_without_a_table_file_is_named(
    settings: Settings, tmp_path: Path
) -> None:
    own = replace(settings, tables=tmp_path / "tables")
    with duckdb.connect(str(own.data / "shop.duckdb")) as connection:
        connection.execute(
            "create table ride (id integer primary key, took interval, stops interval[],"
            " leaves timetz, flags bit, far bignum);"
            "insert into ride values (1, '1 year 2 days 03:04:05.5', ['1 day'],"
            " '12:00:00+02', '101', '123456789012345678901234567890123456789012345');"
            "create table odd (id integer, ctid integer)"
        )
    report = bring(own)
    assert list(report.failures) == ["odd"]
    assert "table odd of shop.duckdb was left out" in report.problems[0]
    assert list(bring(own).failures) == ["odd"]  # also where no other table file is missing
    assert "'postgres': 'interval'" in (own.tables / "ride.py").read_text()
    platform = open_platform(own)
    query = (
        "select took = '1 year 2 days 03:04:05.5', stops, leaves = '12:00+02', flags, far from ride"
    )
    far = "123456789012345678901234567890123456789012345"
    assert ask(platform, query) == [(True, '["1 day"]', True, "101", far)]
