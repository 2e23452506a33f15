"""What PostgreSQL 18 brought: NOT NULL NOT VALID, NOT ENFORCED, and generated virtual columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg import sql

from lakebed.errors import TieringError
from lakebed.ingest.load import load_table
from lakebed.resources.settings import Settings
from lakebed.scaffolding.adoption import AdoptionError, adopt
from lakebed.schema.apply import read_plan
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.restore import restore
from tests.conftest import open_folder, settings_for
from tests.support import postgres18
from tests.support.debian import debian_server
from tests.support.processes import move_key
from tests.support.tiers import ask, do, seen

PROGRAMS = postgres18.programs()
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="there is no PostgreSQL 18")

EVENTS = "create table events (id bigint, at timestamptz not null, name text, primary key (id, at))"
ROWS = "insert into events values (1, '2024-01-05', null), (2, '2024-01-06', 'b')"
NOT_VALID = "alter table events add constraint named not null name not valid"


@pytest.fixture(scope="module")
def server_18() -> Iterator[str]:
    assert PROGRAMS is not None
    with open_folder() as folder, debian_server(folder, programs=PROGRAMS) as url:
        yield url


@pytest.fixture
def settings(server_18: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a home whose database is this test's own."""
    import psycopg

    name = f"t_{tmp_path.name.lower()}"[:60]
    with psycopg.connect(server_18, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    settings = settings_for(tmp_path, server_18.replace("/postgres?", f"/{name}?"))
    settings.data.mkdir(exist_ok=True)
    yield settings


@pytest.fixture
def adopted(settings: Settings) -> Callable[..., Platform]:
    def make(*statements: str) -> Platform:
        platform = open_platform(settings, ())
        do(platform, *statements)
        with platform.postgres.connect(autocommit=True) as connection:
            found = adopt(connection, "events", platform.clock.now(), hot_for=timedelta(days=30))
        return open_platform(settings, (found.table,))

    return make


def bring_back(platform: Platform) -> int:
    (table,) = platform.tables
    window = window_for_key(table.require_partitioning.grain, "2024-01")
    return restore(platform.postgres, platform.lake, table, window, platform.clock.now()).rows


def test_not_null_that_is_not_valid_may_hold_nulls(adopted: Callable[..., Platform]) -> None:
    platform = adopted(EVENTS, ROWS, NOT_VALID)
    (table,) = platform.tables
    assert table.column("name").nullable
    with platform.postgres.connect(autocommit=True) as connection:
        assert read_plan(connection, table, platform.clock.now()).changes == ()
    whole = "select id, name from events order by id"
    move_key(platform, "events", "2024-01")
    assert seen(platform, whole) == [(1, None), (2, "b")]
    do(platform, "alter table events alter column name set default 'changed'")
    with pytest.raises(TieringError, match="NOT VALID"):
        bring_back(platform)
    assert seen(platform, whole) == [(1, None), (2, "b")]
    do(platform, "alter table events drop constraint named")
    assert bring_back(platform) == 2
    assert ask(platform, whole) == [(1, None), (2, "b")]


def test_a_validated_not_null_is_one(adopted: Callable[..., Platform]) -> None:
    rows = ROWS.replace("null", "'a'")
    platform = adopted(EVENTS, rows, NOT_VALID, "alter table events validate constraint named")
    assert not platform.tables[0].column("name").nullable


def test_a_foreign_key_that_is_not_enforced_hinders_nothing(
    adopted: Callable[..., Platform],
) -> None:
    child = (
        "create table notes (event bigint, at timestamptz, constraint told foreign key (event, at)"
        " references events not enforced)"
    )
    note = "insert into notes values (1, '2024-01-05'), (99, now())"
    platform = adopted(EVENTS, ROWS, child, note)
    assert move_key(platform, "events", "2024-01").moved == 2
    assert ask(platform, "select count(*) from notes") == [(2,)]


def test_an_enforced_one_is_refused(adopted: Callable[..., Platform]) -> None:
    with pytest.raises(AdoptionError, match="told"):
        adopted(
            EVENTS,
            "create table notes (event bigint, at timestamptz,"
            " constraint told foreign key (event, at) references events)",
        )


def test_a_generated_virtual_column_moves_and_comes_back(
    adopted: Callable[..., Platform],
) -> None:
    virtual = EVENTS.replace(
        "primary key", "double bigint generated always as (id * 2), primary key"
    )
    platform = adopted(virtual, ROWS)
    whole = "select id, double from events order by id"
    assert seen(platform, whole) == [(1, 2), (2, 4)]
    move_key(platform, "events", "2024-01")
    assert seen(platform, whole) == [(1, 2), (2, 4)]
    assert bring_back(platform) == 2
    assert ask(platform, whole) == [(1, 2), (2, 4)]


def test_a_check_that_is_not_enforced_rejects_no_row(settings: Settings) -> None:
    from dataclasses import replace

    from lakebed.spec.table import CsvFiles
    from tests.tables.readings import readings

    table: SourceTable = replace(
        readings, source=CsvFiles(glob="*.csv"), tiering=None, reject_share=0.9
    )
    platform = open_platform(settings, (table,))
    header = "at,sensor,value,number\n"
    file = platform.settings.data / "1.csv"
    file.write_text(f"{header}2024-01-01T00:00:00Z,a,1,1\n")
    load_table(platform.settings, platform.postgres, platform.clock, table)
    do(
        platform,
        "alter table readings add constraint low check (value < 5) not enforced",
        "alter table readings add constraint known check (sensor <> 'bad')",
    )
    second = platform.settings.data / "2.csv"
    second.write_text(f"{header}2024-01-02T00:00:00Z,a,9,2\n2024-01-02T00:00:00Z,bad,1,3\n")
    report = load_table(platform.settings, platform.postgres, platform.clock, table)
    assert (report.inserted, report.rejected) == (1, 1)
    assert ask(platform, "select rule from lakebed.rejected_row") == [("known",)]
