"""Tables that refer to each other: one command brings all rows in and out, whatever the order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.load import load_table
from lakebed.ingest.retry import retry_rejects
from lakebed.ingest.unfinished import unfinished_loads
from lakebed.ingest.writers import LoadConflictError, RelatedRowsError
from lakebed.monitoring.findings import Code
from lakebed.monitoring.table_findings import findings_of
from lakebed.monitoring.table_state import read_table_state
from lakebed.operations.load_tables import (
    LoadChoiceError,
    Outcome,
    chosen_loads,
    chosen_tables,
    load_in_order,
)
from lakebed.schema.ddl import ensure_table
from lakebed.spec.table import (
    CsvFiles,
    Deletes,
    JsonFiles,
    Lookup,
    SourceTable,
    SqliteTable,
    TableError,
)
from lakebed.store.platform import Platform
from tests.support.queried import ask

Make = Callable[..., Platform]


class Label(pa.DataFrameModel):
    id: pl.Int64
    name: str


class Artist(pa.DataFrameModel):
    id: pl.Int64
    name: str
    label_id: pl.Int64 = pa.Field(nullable=True)


class Album(pa.DataFrameModel):
    id: pl.Int64
    title: str
    artist_id: pl.Int64 = pa.Field(nullable=True)


MODELS: dict[str, type[pa.DataFrameModel]] = {"album": Album, "artist": Artist, "label": Label}
ARTISTS = "foreign key (artist_id) references artist (id)"
LABELS = "foreign key (label_id) references label (id)"
KEYS = [f"alter table artist add {LABELS}", f"alter table album add {ARTISTS}"]


def shop(make: Make, *statements: str, **how: Any) -> Platform:
    """Return a platform over three tables of a SQLite database, with foreign keys in PostgreSQL."""
    how = {"write_mode": "merge", "deletes": "full_extract", "reject_share": 0.5} | how
    tables = [
        SourceTable(
            name=name,
            model=model,
            source=SqliteTable(database="shop.db", table=name),
            key=("id",),
            **how,
        )
        for name, model in MODELS.items()
    ]
    platform = make(*tables)
    return related(platform, *(statements or KEYS))


def related(platform: Platform, *statements: str) -> Platform:
    with platform.postgres.connect(autocommit=True) as connection:
        for table in platform.tables:
            ensure_table(connection, table)
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]
    return platform


def deliver(platform: Platform, **tables: list[tuple[Any, ...]]) -> None:
    """Make the SQLite database hold these rows."""
    with closing(sqlite3.connect(platform.settings.data / "shop.db")) as shop, shop:
        for name, rows in tables.items():
            columns = MODELS[name].to_schema().columns
            shop.execute(f"drop table if exists {name}")
            shop.execute(f"create table {name} ({', '.join(columns)})")
            marks = ", ".join("?" * len(columns))
            shop.executemany(f"insert into {name} values ({marks})", rows)  # noqa: S608


def load(platform: Platform, *names: str, again: bool = False) -> tuple[list[Any], list[Outcome]]:
    """Load tables, all where none is named; return the reports, and what came of waiting loads."""
    loads = chosen_loads(chosen_tables(platform, names), (), skip_windowed=False)
    outcomes = list(load_in_order(platform, loads, again=again))
    reports = [report for each in outcomes if not each.waited for report in each.reports]
    return reports, [each for each in outcomes if each.waited]


def ids(platform: Platform) -> dict[str, list[int]]:
    return {
        name: [row[0] for row in ask(platform, f"select id from {name} order by 1")]  # noqa: S608
        for name in MODELS
    }


def waiting(platform: Platform) -> list[str]:
    with platform.postgres.connect() as connection:
        return [one.table for one in unfinished_loads(connection)]


def codes(platform: Platform, name: str) -> set[Code]:
    """Return what is found wrong with a table."""
    table, now = platform.table(name), platform.clock.now()
    with platform.postgres.connect(autocommit=True) as connection:
        state = read_table_state(connection, platform.settings, table, now)
    return {finding.code for finding in findings_of(table, state)}


LABEL_ROWS = [(1, "Blue"), (2, "Verve")]
ARTIST_ROWS = [(1, "Ella", 2), (2, "Miles", 1)]
ALBUM_ROWS = [(number, f"album {number}", 1 + number % 2) for number in range(1, 9)]


def test_parents_and_children_that_come_together_are_loaded_together(platform_of: Make) -> None:
    platform = shop(platform_of)
    deliver(platform, label=LABEL_ROWS, artist=ARTIST_ROWS, album=ALBUM_ROWS)
    reports, finished = load(platform)
    assert [report.table for report in reports] == ["label", "artist", "album"]
    assert [report.rejected for report in reports] == [0, 0, 0]
    assert finished == []
    assert ids(platform) == {"label": [1, 2], "artist": [1, 2], "album": list(range(1, 9))}


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_deletes_of_three_levels_and_new_rows_work_in_one_command(
    platform_of: Make, mode: str
) -> None:
    how = {"write_mode": "replace", "deletes": None} if mode == "replace" else {}
    platform = shop(platform_of, **how)
    deliver(platform, label=LABEL_ROWS, artist=ARTIST_ROWS, album=ALBUM_ROWS)
    load(platform)
    more = [(9, "album 9", 3), *(row for row in ALBUM_ROWS if row[2] == 1)]
    deliver(platform, label=[(2, "Verve"), (3, "New")], artist=[(1, "Ella", 2), (3, "Nina", 3)])
    deliver(platform, album=more)
    reports, finished = load(platform)
    assert [report.held for report in reports] == [1, 1, 0]
    assert [each.error for each in finished] == [None] * len(finished)
    assert sum(report.deleted for each in finished for report in each.reports) == 2
    assert ids(platform) == {"label": [2, 3], "artist": [1, 3], "album": [2, 4, 6, 8, 9]}
    assert waiting(platform) == []
    assert load(platform)[1] == []


def test_a_row_whose_parent_comes_later_is_loaded_with_the_parent(platform_of: Make) -> None:
    platform = shop(platform_of)
    deliver(platform, label=LABEL_ROWS, artist=ARTIST_ROWS[:1], album=ALBUM_ROWS)
    (first,), _ = load(platform, "label")
    load(platform, "artist")
    (report,), finished = load(platform, "album")
    assert (report.inserted, report.rejected, finished) == (4, 4, [])
    assert waiting(platform) == ["album"]
    assert codes(platform, "album") == {Code.REJECTS_WAITING, Code.LOAD_WAITS}
    # A full extract that waits is not done: it is read again, though nothing of it has changed.
    (report,), _ = load(platform, "album")
    assert (report.rows_read, report.rejected) == (8, 4)
    deliver(platform, artist=ARTIST_ROWS)
    _, (finished_one,) = load(platform, "artist")
    assert finished_one.table.name == "album"
    assert [report.inserted for report in finished_one.reports] == [4]
    assert ids(platform)["album"] == list(range(1, 9))
    assert waiting(platform) == []
    assert ask(platform, "select count(*) from lakebed.rejected_row where resolved_by is null") == [
        (0,)
    ]
    assert first.rejected == 0


def files(make: Make, *statements: str, **how: Any) -> Platform:
    """Return a platform over three tables of JSON lines, which are appended or merged."""
    how = {"write_mode": "merge", "key": ("id",), "reject_share": 0.5} | how
    tables = [
        SourceTable(name=name, model=model, source=JsonFiles(glob=f"{name}/*.jsonl"), **how)
        for name, model in MODELS.items()
    ]
    return related(make(*tables), *(statements or KEYS))


def write(
    platform: Platform, name: str, file: str, rows: list[tuple[Any, ...]], **more: Any
) -> None:
    folder = platform.settings.data / name
    folder.mkdir(exist_ok=True)
    frame = pl.DataFrame(rows, schema=list(MODELS[name].to_schema().columns), orient="row")
    frame.with_columns(**{key: pl.lit(value) for key, value in more.items()}).write_ndjson(
        folder / file
    )


@pytest.mark.parametrize("mode", ["merge", "append"])
def test_rejects_without_a_parent_leave_the_quarantine_when_it_comes(
    platform_of: Make, mode: str
) -> None:
    platform = files(platform_of, write_mode=mode)
    write(platform, "label", "1.jsonl", LABEL_ROWS)
    write(platform, "artist", "1.jsonl", ARTIST_ROWS[:1])
    write(platform, "album", "1.jsonl", ALBUM_ROWS)
    _, finished = load(platform)
    assert (ids(platform)["album"], finished) == ([2, 4, 6, 8], [])
    write(platform, "artist", "2.jsonl", ARTIST_ROWS[1:])
    _, (one,) = load(platform, "artist")
    assert [report.inserted for report in one.reports] == [4]
    assert ids(platform)["album"] == list(range(1, 9))
    assert waiting(platform) == []
    loads = ask(platform, "select count(*) from lakebed.load where table_name = 'album'")
    load(platform)
    assert ask(platform, "select count(*) from lakebed.load where table_name = 'album'") == loads


def test_a_file_that_was_refused_for_missing_parents_is_loaded_with_them(platform_of: Make) -> None:
    platform = files(platform_of, reject_share=0.01)
    write(platform, "album", "1.jsonl", ALBUM_ROWS)
    reports, _ = load(platform, "album")
    assert len(reports[0].refused) == 1
    write(platform, "label", "1.jsonl", LABEL_ROWS)
    write(platform, "artist", "1.jsonl", ARTIST_ROWS)
    load(platform, "artist", "label")
    assert ids(platform)["album"] == list(range(1, 9))
    assert waiting(platform) == []


def test_marked_deletes_of_three_levels_work_in_one_command(platform_of: Make) -> None:
    how = {"deletes": Deletes(marker="gone")}
    platform = files(platform_of, **how)
    for name, rows in (("label", LABEL_ROWS), ("artist", ARTIST_ROWS), ("album", ALBUM_ROWS)):
        write(platform, name, "1.jsonl", rows, gone=False)
    load(platform)
    write(platform, "label", "2.jsonl", [LABEL_ROWS[0]], gone=True)
    write(platform, "artist", "2.jsonl", [ARTIST_ROWS[1]], gone=True)
    write(platform, "album", "2.jsonl", [row for row in ALBUM_ROWS if row[2] == 2], gone=True)
    _, finished = load(platform)
    assert [each.error for each in finished] == [None] * len(finished)
    assert ids(platform) == {"label": [2], "artist": [1], "album": [2, 4, 6, 8]}
    assert waiting(platform) == []


def test_a_delete_that_a_child_holds_alone_says_which_table_to_load(platform_of: Make) -> None:
    platform = files(platform_of, deletes=Deletes(marker="gone"))
    for name, rows in (("label", LABEL_ROWS), ("artist", ARTIST_ROWS), ("album", ALBUM_ROWS)):
        write(platform, name, "1.jsonl", rows, gone=False)
    load(platform)
    write(platform, "artist", "2.jsonl", [ARTIST_ROWS[1]], gone=True)
    with pytest.raises(RelatedRowsError, match="album"):
        load_table(platform.settings, platform.postgres, platform.clock, platform.table("artist"))
    assert waiting(platform) == ["artist"]
    write(platform, "album", "2.jsonl", [row for row in ALBUM_ROWS if row[2] == 2], gone=True)
    _, (one,) = load(platform, "album")
    assert (one.table.name, [report.deleted for report in one.reports]) == ("artist", [1])


def test_tables_that_refer_to_each_other_in_a_circle_are_loaded(platform_of: Make) -> None:
    circle = "alter table artist add foreign key (label_id) references album (id)"
    how: dict[str, Any] = {"write_mode": "replace", "deletes": None, "reject_share": 1.0}
    platform = shop(platform_of, circle, KEYS[1], **how)
    deliver(platform, label=[], artist=[(1, "Ella", None), (2, "Miles", 1), (3, "Nina", 3)])
    deliver(platform, album=[(1, "one", 1), (2, "two", 2), (3, "three", 2), (4, "four", 9)])
    _, finished = load(platform, "album", "artist")
    assert finished != []
    assert ids(platform)["artist"] == [1, 2, 3]
    assert ids(platform)["album"] == [1, 2, 3]
    assert waiting(platform) == ["album"]  # for an artist who never comes
    assert len(load(platform, "album", "artist")[1]) <= 2
    assert ids(platform)["album"] == [1, 2, 3]


def test_a_parent_that_an_application_writes_lets_the_next_load_finish(platform_of: Make) -> None:
    folk = "create table folk (id bigint primary key)"
    key = "alter table album add foreign key (artist_id) references folk (id)"
    platform = files(platform_of, folk, "insert into folk values (1)", key)
    write(platform, "album", "1.jsonl", ALBUM_ROWS)
    load(platform, "album")
    assert ids(platform)["album"] == [2, 4, 6, 8]
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute("insert into folk values (2)")
    load(platform, "album")
    assert ids(platform)["album"] == list(range(1, 9))
    assert waiting(platform) == []


def test_again_reads_everything_whatever_the_ledger_says(platform_of: Make) -> None:
    platform = shop(platform_of)
    deliver(platform, label=LABEL_ROWS)
    load(platform, "label")
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute("delete from label where id = 1")
        connection.execute("update label set name = 'wrong' where id = 2")
    assert load(platform, "label")[0][0].rows_read == 0
    (report,), _ = load(platform, "label", again=True)
    assert (report.inserted, report.updated) == (1, 1)
    merging = files(platform_of)
    write(merging, "label", "1.jsonl", LABEL_ROWS)
    load(merging, "label")
    with merging.postgres.connect(autocommit=True) as connection:
        connection.execute("delete from label where id = 1")
    (report,), _ = load(merging, "label", again=True)
    assert (report.inserted, report.rows_read) == (1, 2)
    assert load(merging, "label")[0][0].rows_read == 0


def test_an_append_is_not_read_again(platform_of: Make) -> None:
    platform = files(platform_of, write_mode="append")
    with pytest.raises(LoadChoiceError, match="label"):
        load(platform, again=True)
    given = (platform.settings, platform.postgres, platform.clock)
    with pytest.raises(TableError, match="label"):
        load_table(*given, platform.table("label"), again=True)


def test_a_full_extract_has_no_retry_and_says_what_to_do(platform_of: Make) -> None:
    platform = shop(platform_of)
    given = (platform.settings, platform.postgres, platform.clock)
    with pytest.raises(TableError, match="--again"):
        retry_rejects(*given, platform.table("label"))


class Article(pa.DataFrameModel):
    url: str
    paper: str


def test_a_lookup_that_may_not_insert_waits_for_the_parents_file(platform_of: Make) -> None:
    class Paper(pa.DataFrameModel):
        name: str

    lookup = Lookup(
        column="paper_id",
        natural=("paper",),
        table="papers",
        natural_key=("name",),
        insert_missing=False,
    )
    article = SourceTable(
        name="articles", model=Article, source=CsvFiles(glob="a/*.csv"), lookups=(lookup,)
    )
    platform = platform_of(replace(article, reject_share=0.5))
    folder = platform.settings.data / "a"
    folder.mkdir()
    (folder / "1.csv").write_text("url,paper\nu1,x\nu2,y\n")
    with pytest.raises(LoadConflictError):
        load_table(
            platform.settings,
            platform.postgres,
            platform.clock,
            replace(platform.table("articles"), reject_share=0.01),
        )
    assert waiting(platform) == ["articles"]
    assert Paper.to_schema().columns.keys() == {"name"}
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute("insert into papers (name) values ('x'), ('y')")
    load(platform, "articles")
    assert ask(platform, "select count(*) from articles") == [(2,)]
    assert waiting(platform) == []
