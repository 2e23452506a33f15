"""A SQLite database is imported whole: rows, keys, indexes, defaults, and the comparison."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lakebed.cli import main as cli
from lakebed.importing.import_database import ImportReport, plan_import, run_import
from lakebed.importing.sources import open_source
from lakebed.importing.structure import ImportSourceError
from lakebed.resources.settings import Settings
from lakebed.schema.apply import read_plan
from lakebed.store.platform import open_platform
from tests.support import processes
from tests.support.queried import ask

STATEMENTS = (
    "create table Artist (ArtistId integer primary key autoincrement, Name text not null unique,"
    " Active boolean not null default 1 check (Active in (0, 1)))",
    "create table Album (AlbumId integer primary key, Title varchar(99) not null"
    " default 'untitled', ArtistId integer not null references Artist on delete cascade,"
    " Price numeric(8, 2) constraint price_positive check (Price > 0),"
    " Released datetime default current_timestamp, Length real, Cover blob,"
    " Previous integer references Album (AlbumId))",
    "create table Note (Body text, Score real default (abs(-2)))",
    'create index "IFK Album" on Album (ArtistId, Title desc)',
    "create index ByTitle on Album (lower(Title))",
    "create unique index Dear on Album (Title) where Price > 5",
    "create index Notes on Note (Body)",
    "create index Odd on Note (hex(Body))",
    "create view Cheap as select * from Album where Price < 1",
    "create trigger Kept after delete on Note begin select 1; end",
    "insert into Artist values (1, 'AC/DC', 1), (7, 'Björk', 0)",
    "insert into Album values"
    " (1, 'Post', 7, 9.99, '1995-06-13 00:00:00.123456', 0.1, x'00ff', null),"
    " (2, 'Homogenic', 7, 0.30, '1997-09-22 12:00:00', 1e20, null, 1),"
    " (3, 'Powerage', 1, null, null, null, x'', null)",
    "insert into Note values ('a', 1), ('a', 1.5), (null, null)",
)


@pytest.fixture
def shop(settings: Settings) -> Path:
    path = settings.data / "shop.db"
    run(path, *STATEMENTS)
    return path


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, tables=tmp_path / "tables")


def run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def bring(settings: Settings, **patterns: tuple[str, ...]) -> ImportReport:
    plan = plan_import(settings, open_source(settings, "sqlite:shop.db"), **patterns)
    return run_import(settings, plan)


def states(report: ImportReport) -> dict[tuple[str, str], str]:
    return {(one.kind, one.name): one.state for one in report.structure}


def test_one_import_brings_rows_and_structure_and_a_second_changes_nothing(
    own: Settings, shop: Path
) -> None:
    report = bring(own)
    assert report.problems == []
    assert {one.table: one.rows for one in report.checks} == {"artist": 2, "album": 3, "note": 3}
    assert [one.not_compared for one in report.checks] == [(), (), ()]
    first = states(report)
    assert {key for key, state in first.items() if state != "created"} == {
        ("primary key", "artist_pkey"),
        ("primary key", "album_pkey"),
    }
    platform = open_platform(own)
    constraints = ask(
        platform,
        "select conname::text, pg_get_constraintdef(oid) from pg_constraint"
        " where conrelid::regclass::text in ('album', 'artist') and contype in ('f', 'c')"
        " and convalidated order by 1",
    )
    assert [text for _, text in constraints if text.startswith("FOREIGN")] == [
        'FOREIGN KEY ("ArtistId") REFERENCES artist("ArtistId") ON DELETE CASCADE',
        'FOREIGN KEY ("Previous") REFERENCES album("AlbumId")',
    ]
    assert dict(constraints)["price_positive"] == 'CHECK (("Price" > (0)::numeric))'
    assert len(constraints) == 4
    indexes = {name: text for name, text in ask(
        platform,
        "select indexname::text, split_part(indexdef, ' USING btree ', 2) from pg_indexes"
        " where tablename in ('album', 'artist', 'note') and indexname not like '%pkey'",
    )}  # fmt: skip
    assert indexes == {
        "artist_Name_key": '("Name")',
        "IFK Album": '("ArtistId", "Title" DESC)',
        "ByTitle": '(lower("Title"))',
        "Dear": '("Title") WHERE ("Price" > (5)::numeric)',
        "Notes": '("Body")',
    }
    assert ask(
        platform,
        'insert into artist ("Name") values (\'new\') returning "ArtistId", "Active"',
    ) == [(8, True)]
    assert ask(platform, "delete from artist where \"Name\" = 'new' returning 1") == [(1,)]
    assert [(one.kind, one.name) for one in report.left_out] == [
        ("index", "Note.Odd"), ("view", "Cheap"), ("trigger", "Kept"),
    ]  # fmt: skip
    assert report.left_out[0].text == "CREATE INDEX Odd on Note (hex(Body))"

    again = bring(own)
    assert again.problems == []
    assert sum(one.rows_read for one in again.loads) == 0
    assert states(again) == dict.fromkeys(first, "exists")


def test_a_later_import_brings_changes_deletes_and_new_objects(own: Settings, shop: Path) -> None:
    bring(own)
    run(
        shop,
        "insert into Artist values (40, 'Cher', 1)",
        "insert into Album (AlbumId, ArtistId) values (20, 40), (21, 40)",
        "update Album set Price = 1.5 where AlbumId = 3",
        "delete from Album where ArtistId = 7",
        "delete from Artist where ArtistId = 7",
        "insert into Note values ('b', 2)",
        "create table Late (Id integer primary key, AlbumId int references Album)",
        "insert into Late values (5, 3), (6, 20), (7, null)",
        "create index Fresh on Album (Length)",
    )
    report = bring(own)
    assert report.problems == []
    assert {one.table: one.rows for one in report.checks} == {
        "artist": 2, "album": 3, "note": 4, "late": 3,
    }  # fmt: skip
    assert {key for key, state in states(report).items() if state == "created"} == {
        ("identity", "Id"), ("index", "Fresh"), ("foreign key", "late_AlbumId_fkey"),
    }  # fmt: skip
    platform = open_platform(own)
    assert ask(platform, 'insert into artist ("Name") values (\'n\') returning "ArtistId"') == [
        (41,)
    ]
    ask(platform, "delete from artist where \"Name\" = 'n' returning 1")
    # The delete of a parent cascades to rows that a third table refers to: it waits for that table.
    run(
        shop,
        "delete from Late where AlbumId = 3",
        "delete from Album where AlbumId = 3",
        "delete from Artist where ArtistId = 1",
    )
    report = bring(own)
    assert report.problems == []
    assert {one.table: one.rows for one in report.checks} == {
        "artist": 1, "album": 2, "note": 4, "late": 2,
    }  # fmt: skip


def test_what_fails_is_named_with_its_sql_and_the_rest_stands(own: Settings, shop: Path) -> None:
    run(shop, "insert into Album (AlbumId, Title, ArtistId, Price) values (9, 'Lost', 99, 1)")
    report = bring(own)
    failed = [one for one in report.structure if one.state == "failed"]
    assert [one.name for one in failed] == ["album_ArtistId_fkey"]
    assert failed[0].sql.startswith('alter table "public"."album" add constraint')
    assert "99" in failed[0].why
    assert failed[0].sql in report.problems[0]
    assert states(report)["foreign key", "album_Previous_fkey"] == "created"
    left = ask(
        open_platform(own), "select 1 from pg_constraint where conname like '%ArtistId_fkey'"
    )
    assert left == []
    run(shop, "insert into Artist values (99, 'Found', 1)")
    assert bring(own).problems == []


def test_plan_and_replace_keep_the_structure(own: Settings, shop: Path) -> None:
    bring(own)
    platform = open_platform(own)
    with platform.postgres.connect(autocommit=True) as connection:
        now = platform.clock.now()
        plans = [read_plan(connection, table, now).changes for table in platform.tables]
    assert plans == [(), (), ()]
    assert platform.table("note").write_mode == "replace"
    run(shop, "update Note set Score = 7")
    report = bring(own)
    assert report.problems == []
    assert set(states(report).values()) == {"exists"}


def test_a_difference_is_found_in_each_kind_of_column(own: Settings, shop: Path) -> None:
    bring(own)
    ask(
        open_platform(own),
        'update album set "Title" = \'post\', "Price" = 9.98, "Length" = 0.2, "Cover" = \'x\','
        ' "Released" = "Released" + interval \'1 microsecond\' where "AlbumId" = 1 returning 1',
    )
    ask(open_platform(own), 'delete from note where "Body" is null returning 1')
    report = bring(own)
    wrong = {one.table: one.differences for one in report.checks}
    assert wrong["note"] == ("3 rows in the source, 2 here, 0 rejected",)
    assert {text.partition(":")[0] for text in wrong["album"]} == {
        "Title", "Price", "Length", "Cover", "Released",
    }  # fmt: skip
    assert wrong["artist"] == ()


def test_patterns_choose_tables_and_existing_files_are_kept(own: Settings, shop: Path) -> None:
    report = bring(own, include=("a*",), exclude=("*tist",))
    assert [one.table for one in report.checks] == ["album"]
    assert [one.why for one in report.structure if one.state == "left out"] == [
        "table Artist was not imported"
    ]
    file = own.tables / "album.py"
    file.write_text(file.read_text() + "# mine\n")
    plan = plan_import(own, open_source(own, "sqlite:shop.db"))
    assert [one.name for one in plan.files] == ["artist", "note"]
    assert file.read_text().endswith("# mine\n")
    with pytest.raises(ImportSourceError, match="no table to import"):
        bring(own, include=("none",))
    with pytest.raises(ImportSourceError, match=r"No file none\.db"):
        open_source(own, "sqlite:none.db")


def test_the_command_prints_the_plan_the_report_and_exits_with_1_where_a_side_differs(
    own: Settings,
    shop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own.tables.mkdir()
    for name, value in own.environment().items():
        monkeypatch.setenv(name, value)

    def command(*options: str) -> tuple[int, str, str]:
        code = 0
        try:
            cli.main(["import", "sqlite:shop.db", *options])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    code, out, err = command("--dry-run")
    assert (code, err) == (0, "")
    assert "foreign key (ArtistId) references Artist (ArtistId)" in out
    assert list(own.tables.iterdir()) == []
    code, out, err = command()
    assert code == 0, err
    assert "same: 8 columns" in out
    assert "select * from Album where Price < 1" in out
    ask(open_platform(own), 'update album set "Price" = 1 where "AlbumId" = 1 returning 1')
    code, out, err = command("--json")
    document = json.loads(out)
    assert (code, document["same"]) == (1, False)
    assert document["problems"] == [
        "album: Price: sum 1029 in the source, 130 here",
        "album: Price: max 999 in the source, 100 here",
    ]
    assert "album: Price: sum 1029" in err


def import_and_die(settings: Settings, at: str) -> None:
    def die(step: str) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    plan = plan_import(settings, open_source(settings, "sqlite:shop.db"))
    run_import(
        settings,
        plan,
        on_step=die,
        on_load=lambda table, rows: die(table),
        on_structure=lambda outcome: die(f"{outcome.kind} {outcome.name}"),
    )


@pytest.mark.thorough
def test_an_import_that_is_killed_anywhere_is_finished_by_the_next(
    own: Settings, shop: Path
) -> None:
    for at in ("load", "artist", "create structure", "index ByTitle", "compare"):
        assert processes.run(import_and_die, own, at) == -signal.SIGKILL
    report = bring(own)
    assert report.problems == []
    assert {one.table: one.rows for one in report.checks} == {"artist": 2, "album": 3, "note": 3}
    assert set(states(report).values()) == {"exists"}
