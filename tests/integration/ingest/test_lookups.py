"""A natural key in the source becomes the surrogate key of another table, in one transaction."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.report import LoadReport
from lakebed.ingest.retry import retry_rejects
from lakebed.ingest.writers import LoadConflictError
from lakebed.schema.ddl import DriftError
from lakebed.spec.table import (
    CsvFiles,
    Deletes,
    Grain,
    Lookup,
    Mapped,
    ParquetFiles,
    Partitioning,
    SourceTable,
    Tiering,
)
from lakebed.store.platform import Platform, open_platform
from tests.support.modes import ask, counts, day, deliver, do, load, seen
from tests.support.processes import move_key


class News(pa.DataFrameModel):
    """What a paper said."""

    at: Annotated[pl.Datetime, "us", "UTC"]
    paper: str


NEWS = SourceTable(
    name="news",
    model=News,
    source=CsvFiles(glob="news/*.csv"),
    ignored=("gone",),
    partitioning=Partitioning(
        column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
    ),
    tiering=Tiering(hot_for=timedelta(days=1)),
    lookups=(Lookup(column="paper_id", natural=("paper",), table="papers"),),
)


def articles(*rows: tuple[str, str | None, str | None, str | None]) -> list[dict[str, Any]]:
    names = ("url", "publication name", "country", "city")
    return [dict(zip(names, row, strict=True)) for row in rows]


PUBLISHED = "select url, p.name from articles left join publications p on p.id = publication_id"


def test_articles_name_their_publication_and_refer_to_it(of_modes: Platform) -> None:
    rows = articles(
        ("u1", "Öffentlich", "de", "x"),
        ("u2", "b", "de", None),
        ("u3", None, "fr", "x"),
        ("u4", "b", "de", "x"),
    )
    deliver(of_modes, "articles/1.parquet", rows)
    assert counts(load(of_modes, "articles")) == {"inserted": 4}
    assert ask(of_modes, f"{PUBLISHED} order by 1") == [
        ("u1", "Öffentlich"),
        ("u2", "b"),
        ("u3", None),
        ("u4", "b"),
    ]
    assert ask(of_modes, "select country, city from places order by 1") == [
        ("de", "x"),
        ("fr", "x"),
    ]
    query = "select count(*), count(place), count(distinct place) from articles"
    assert ask(of_modes, query) == [(4, 3, 2)]
    deliver(of_modes, "articles/2.parquet", articles(("u5", "b", None, None), ("u6", "c", "", "")))
    assert counts(load(of_modes, "articles")) == {"inserted": 2}
    assert ask(of_modes, "select count(*) from publications") == [(3,)]
    found = seen(of_modes, "select column_name, column_type from (describe articles)")
    assert found == [
        ("url", "VARCHAR"),
        ("publication_id", "UUID"),
        ("place", "UUID"),
        ("country", "VARCHAR"),
        ("city", "VARCHAR"),
    ]
    with pytest.raises(Exception, match="foreign key"):
        ask(of_modes, "delete from publications where name = 'b' returning 1")


def test_a_parent_of_ones_own_is_used_as_it_is(of_modes: Platform) -> None:
    do(
        of_modes,
        "create table publications (id uuid primary key default gen_random_uuid(),"
        " country text, name text not null unique, made_at timestamptz default now())",
        "insert into publications (name, country) values ('b', 'de')",
    )
    deliver(of_modes, "articles/1.parquet", articles(("u", "b", None, None), ("v", "c", None, "")))
    load(of_modes, "articles")
    rows = ask(of_modes, "select name, country, made_at is null from publications order by 1")
    assert rows == [("b", "de", False), ("c", None, False)]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ("id uuid primary key default gen_random_uuid(), name text", "a unique index on (name)"),
        ("id uuid primary key, name text unique", "set default gen_random_uuid()"),
        ("id bigint primary key, name text unique", "id of publications is bigint"),
        ("id uuid primary key, title text unique", "column name of publications is missing"),
    ],
)
def test_a_parent_that_cannot_be_looked_up_is_refused(
    of_modes: Platform, columns: str, problem: str
) -> None:
    do(of_modes, f"create table publications ({columns})")
    deliver(of_modes, "articles/1.parquet", articles(("u", "b", "c", "d")))
    try:
        load(of_modes, "articles")
    except DriftError as error:
        assert problem in str(error)
    else:
        pytest.fail("it was loaded")


def test_a_child_without_its_foreign_key_is_refused(of_modes: Platform) -> None:
    deliver(of_modes, "articles/1.parquet", articles(("u", "b", "c", "d")))
    load(of_modes, "articles")
    do(of_modes, "alter table articles drop constraint articles_publication_id_fkey")
    with pytest.raises(
        DriftError, match=r"alter table articles add foreign key \(\"publication_id"
    ):
        load(of_modes, "articles")


def matches(*rows: tuple[int, str, str | None]) -> list[dict[str, Any]]:
    return [dict(zip(("number", "home", "away"), row, strict=True)) for row in rows]


PLAYED = (
    "select number, h.name, a.name from matches join teams h on h.id = home_id"
    " left join teams a on a.id = away_id order by number"
)
TEAMS = "create table teams (id uuid primary key default gen_random_uuid(), name text unique)"


def test_rows_whose_parent_is_missing_are_rejected_by_themselves(of_modes: Platform) -> None:
    do(of_modes, TEAMS, "insert into teams (name) values ('a'), ('b')")
    rows = matches((1, "a", "b"), (2, "a", "it's"), (3, "b", None), (4, "x", "y"), (5, "b", "a"))
    path = deliver(of_modes, "matches/1.csv", rows)
    report = load(of_modes, "matches")
    assert counts(report) == {"inserted": 3, "rejected": 2}
    assert ask(of_modes, PLAYED) == [(1, "a", "b"), (3, "b", None), (5, "b", "a")]
    found = ask(
        of_modes,
        "select source_file, row_number, column_name, message, source_row, kind, rule"
        " from lakebed.rejected_row order by row_number",
    )
    row = {"number": "2", "home": "a", "away": "it's"}
    assert found[0] == (str(path), 2, "away", "away: no row of teams has it (it is 'it''s')", row,
        "missing_parent", "teams")  # fmt: skip
    assert found[1][1:4] == (4, "home", "home: no row of teams has it (it is 'x')")
    deliver(of_modes, "matches/1.csv", matches((1, "a", None), (3, "a", "b"), (3, "b", None)))
    assert counts(load(of_modes, "matches")) == {"inserted": 1, "updated": 1, "unchanged": 1}


class Invoice(pa.DataFrameModel):
    """What a customer is to pay, as our own words and units have it."""

    id: pl.Int64
    amount: pl.Int64
    at: Annotated[pl.Datetime, "us", "UTC"]
    raw: pl.Binary
    payer: str


INVOICES = SourceTable(
    name="invoices",
    model=Invoice,
    source=ParquetFiles(glob="invoices/*.parquet"),
    key=("id",),
    write_mode="merge",
    transforms={
        "id": Mapped("Order ID"),
        "amount": Mapped(expr="cast(euros as int) * 100"),
        "at": Mapped("at", format="%d.%m.%Y"),
    },
    lookups=(
        Lookup(
            column="payer_id",
            natural=("payer",),
            table="payers",
            natural_key=("name",),
            insert_missing=False,
        ),
    ),
    reject_share=0.9,
)
PAYERS = "create table payers (id uuid primary key default gen_random_uuid(), name text unique)"
PAID = (
    "select i.id, amount, at::date::text, raw, p.name from invoices i"
    " join payers p on p.id = payer_id order by 1"
)


def invoice(number: int, payer: str, euros: str = "7") -> dict[str, Any]:
    """Return a row as the source has it."""
    more = {"at": "02.03.2024", "raw": b"\x00\xff", "payer": payer}
    return {"Order ID": number, "euros": euros, **more}


def retry(platform: Platform, name: str) -> LoadReport:
    return retry_rejects(platform.settings, platform.postgres, platform.clock, platform.table(name))


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_row_without_a_parent_waits_as_it_was_read_and_loads_once_its_parent_is_there(
    of_modes: Platform, mode: Any
) -> None:
    table = replace(INVOICES, write_mode=mode, changed_files=None)
    platform = open_platform(of_modes.settings, (table,))
    do(platform, PAYERS, "insert into payers (name) values ('a')")
    path = deliver(
        platform, "invoices/1.parquet", [invoice(1, "a"), invoice(2, "b"), invoice(3, "c")]
    )
    assert counts(load(platform, "invoices")) == {"inserted": 1, "rejected": 2}
    kept = ask(
        platform,
        "select row_number, source_row->>'Order ID', source_row->>'euros', source_types::jsonb"
        " from lakebed.rejected_row order by 1",
    )
    types = {"Order ID": ["Int64"], "raw": ["Binary"]}
    assert kept == [(2, "2", "7", types), (3, "3", "7", types)]
    do(platform, "insert into payers (name) values ('b')")
    report = retry(platform, "invoices")
    assert (report.rows_read, report.inserted, report.rejected) == (2, 1, 1)
    same = (700, "2024-03-02", b"\x00\xff")
    assert ask(platform, PAID) == [(1, *same, "a"), (2, *same, "b")]
    # What still lacks its parent is the row that waited, not another one.
    waiting = ask(
        platform,
        "select source_file, row_number, resolved_by is null from lakebed.rejected_row order by 2",
    )
    assert waiting == [(str(path), 2, False), (str(path), 3, True)]


def test_a_row_of_a_full_extract_that_lacks_its_parent_is_not_missing(of_modes: Platform) -> None:
    table = replace(
        INVOICES, deletes=Deletes(full_extract=True, at_most=0.9), changed_files=None, lake_copies=0
    )
    platform = open_platform(of_modes.settings, (table,))
    do(platform, PAYERS, "insert into payers (name) values ('a')")
    deliver(platform, "invoices/1.parquet", [invoice(n, "a") for n in (1, 2, 3)])
    load(platform, "invoices")
    for _ in range(2):
        deliver(platform, "invoices/1.parquet", [invoice(1, "a"), invoice(2, "x")])
        assert load(platform, "invoices").rejected == 1
        assert [row[0] for row in ask(platform, PAID)] == [1, 2]
    # Read again, a reject stands in the place of what was kept of it.
    waiting = "select count(*) from lakebed.rejected_row where resolved_by is null"
    assert ask(platform, waiting) == [(1,)]


def test_too_many_missing_parents_fail_the_load(of_modes: Platform) -> None:
    do(of_modes, TEAMS)
    deliver(of_modes, "matches/1.csv", matches((1, "a", "b")))
    with pytest.raises(LoadConflictError, match=r"1 of 1 rows name home.*Load teams first"):
        load(of_modes, "matches")
    assert ask(of_modes, "select count(*) from lakebed.rejected_row") == [(0,)]


def test_a_parent_whose_name_is_too_long_for_its_index_is_told(of_modes: Platform) -> None:
    long = "".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(200))
    deliver(of_modes, "articles/1.parquet", articles(("u", "a", "b", "c"), ("v", long, "b", "c")))
    with pytest.raises(LoadConflictError, match=r"articles: PostgreSQL refuses a row: index row"):
        load(of_modes, "articles")
    assert ask(of_modes, "select count(*) from publications") == [(0,)]


def test_two_loads_that_need_the_same_parents_make_each_once(of_modes: Platform) -> None:
    base = of_modes.table("articles")
    lookups = (
        Lookup(column="p", natural=("publication name",), table="names", natural_key=("name",)),
        Lookup(column="c", natural=("country",), table="names", natural_key=("name",)),
    )
    tables = [
        replace(
            base, name=name, source=ParquetFiles(glob=f"{name}/*.parquet"), lookups=lookups[::way]
        )
        for name, way in (("one", 1), ("two", -1))
    ]
    platform = open_platform(of_modes.settings, tuple(tables))
    names = [f"n{i:04}" for i in range(2000)]
    for table, order in zip(tables, (names, names[::-1]), strict=True):
        rows = articles(*[(n, n, m, None) for n, m in zip(order, order[::-1], strict=True)])
        deliver(platform, f"{table.name}/1.parquet", rows)
    done: list[int] = []
    threads = [
        threading.Thread(target=lambda t=t: done.append(load(platform, t.name).inserted))
        for t in tables
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [2000, 2000]
    assert ask(platform, "select count(*), count(distinct name) from names") == [(2000, 2000)]
    for table in tables:
        query = f"select count(*) from {table.name} t join names n on n.id = p and n.name = url"  # noqa: S608
        assert ask(platform, query) == [(2000,)]


def test_rows_with_a_surrogate_settle_like_others(of_modes: Platform) -> None:
    platform = open_platform(of_modes.settings, (NEWS,))
    rows = [{"at": day(d), "paper": f"p{d % 3}", "gone": None} for d in (1, 2, 3, 40)]
    deliver(platform, "news/1.csv", rows)
    assert counts(load(platform, "news")) == {"inserted": 4}
    before = seen(platform, 'select "at", paper_id from news order by 1')
    assert move_key(platform, "news", "2024-03").moved == 3
    assert seen(platform, 'select "at", paper_id from news order by 1') == before


def test_a_marked_row_finds_its_row_by_the_surrogate_and_makes_no_parent(
    of_modes: Platform,
) -> None:
    table = replace(
        NEWS,
        tiering=None,
        write_mode="merge",
        changed_files=None,
        key=("at", "paper_id"),
        deletes=Deletes(marker="gone"),
        ignored=(),
    )
    platform = open_platform(of_modes.settings, (table,))
    deliver(platform, "news/1.csv", [{"at": day(1), "paper": p, "gone": None} for p in "abc"])
    assert counts(load(platform, "news")) == {"inserted": 3}
    marked = [{"at": day(1), "paper": p, "gone": "true"} for p in "bx"]
    deliver(platform, "news/2.csv", [*marked, {"at": day(1), "paper": "c", "gone": None}])
    assert counts(load(platform, "news")) == {"unchanged": 1, "marked": 2, "deleted": 1}
    query = "select paper from papers left join news on id = paper_id where at is not null"
    assert sorted(ask(platform, query)) == [("a",), ("c",)]
    assert ask(platform, "select count(*) from papers") == [(3,)]


def test_a_parent_without_a_file_of_its_own_is_read_by_its_name(of_modes: Platform) -> None:
    deliver(
        of_modes, "articles/1.parquet", articles(("u1", "a", "de", "x"), ("u2", "b", "fr", "y"))
    )
    load(of_modes, "articles")
    with of_modes.lake.session() as session:
        found = session.sql(f"{PUBLISHED} order by 1").fetchall()
    assert found == [("u1", "a"), ("u2", "b")]
