"""A database of a server is imported with its structure, by reflection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from lakebed.importing.import_database import plan_import, run_import
from lakebed.importing.sources import open_source
from lakebed.resources.settings import Settings
from lakebed.store.platform import open_platform
from tests.conftest import Server
from tests.support.queried import ask

STATEMENTS = """
create type mood as enum ('good', 'bad');
create table part (id serial primary key, code text not null unique, open boolean default true,
  price numeric(10, 2) constraint dear check (price > 0), mood mood default 'good',
  made timestamptz not null default now());
create table line (a int generated always as identity primary key, part int not null
  references part on delete cascade, note varchar(20) default 'none');
create index by_part on line (part);
create unique index low on part (lower(code)) where open;
create view cheap as select * from part where price < 1;
insert into part (code, price) values ('a', 1.25), ('b', null);
insert into line (part) values (1), (2);
"""


def test_a_postgres_database_is_imported_with_its_structure(
    settings: Settings, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(settings, tables=tmp_path / "tables")
    database = server.create()
    try:
        with psycopg.connect(server.url_of(database)) as connection:
            connection.execute(STATEMENTS)
        monkeypatch.setenv("SHOP_URL", server.url_of(database))
        report = run_import(own, plan_import(own, open_source(own, "sql:SHOP_URL")))
        assert report.problems == []
        assert {one.table: (one.source_rows, one.rows) for one in report.checks} == {
            "line": (2, 2),
            "part": (2, 2),
        }
        created = {(one.kind, one.name) for one in report.structure if one.state == "created"}
        assert created >= {
            ("identity", "id"),
            ("identity", "a"),
            ("unique key", "part_code_key"),
            ("unique key", "low"),
            ("index", "by_part"),
            ("check", "dear"),
            ("foreign key", "line_part_fkey"),
            ("default", "note"),
        }
        assert [(one.kind, one.name) for one in report.left_out] == [
            ("default", "part.mood"),
            ("view", "cheap"),
        ]
        platform = open_platform(own)
        made = ask(platform, "insert into part (code) values ('c') returning id, open")
        assert made == [(3, True)]
        again = run_import(own, plan_import(own, open_source(own, "sql:SHOP_URL")))
        assert {one.state for one in again.structure} == {"exists"}
    finally:
        server.drop(database)
