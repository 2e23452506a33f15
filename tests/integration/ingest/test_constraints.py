"""Exactly the rows that PostgreSQL would refuse are found, and nothing is changed by looking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandera.polars as pa
import polars as pl
import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg import sql

from lakebed.ingest.constraints import TooManyViolationsError, Violation, find_violations
from lakebed.ingest.contract import to_arrow
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform

ROWS = 5_000


class Model(pa.DataFrameModel):
    id: pl.Int64
    boss: pl.Int64 = pa.Field(nullable=True)
    word: str = pa.Field(nullable=True)
    low: pl.Int64


TABLE = SourceTable(name="staff", model=Model, key=("id",))
CREATE = """\
create table word (word text primary key); insert into word values ('a'), ('b');
create table staff (id bigint primary key, boss bigint, word text, low bigint not null)"""

Find = Callable[..., list[Violation]]


@pytest.fixture
def find(platform: Platform, tmp_path: Path) -> Find:
    """Find what violates in rows that are all good but for what is given as row -> changes."""

    def run(
        ddl: str, changes: dict[int, dict[str, Any]], before: str = "", **more: Any
    ) -> list[Violation]:
        rows = [{"id": i, "boss": None, "word": "a", "low": i * 10} for i in range(ROWS)]
        for index, change in changes.items():
            rows[index] |= change
        schema = {"id": pl.Int64, "boss": pl.Int64, "word": pl.String, "low": pl.Int64}
        path = tmp_path / "rows.parquet"
        pq.write_table(to_arrow(TABLE, pl.DataFrame(rows, schema=schema)), path)
        with platform.postgres.connect() as connection:
            connection.execute(f"{CREATE}; {ddl}; {before}")
            held = connection.execute("select count(*) from staff").fetchall()
            target = sql.Identifier("public", "staff")
            try:
                return find_violations(connection, target, TABLE.columns, path, **more)
            finally:
                assert connection.execute("select count(*) from staff").fetchall() == held
                assert connection.execute("select to_regclass('lakebed_suspects')").fetchall() == [
                    (None,)
                ]
                connection.rollback()

    return run


EXCLUDE = """\
alter table staff add constraint apart exclude using gist (int8range(low, low + 10) with &&)"""
TRIGGER = """\
create function refuse() returns trigger language plpgsql as
$$ begin if new.low = -7 then raise 'seven is refused'; end if; return new; end $$;
create trigger refuse before insert on staff for each row execute function refuse()"""


@pytest.mark.parametrize(
    ("ddl", "changes", "bad", "reason"),
    [
        ("alter table staff add check (low >= 0)", {3: {"low": -1}}, [3], "low >= 0"),
        (
            "alter table staff add check (word <> 'x' or low > 5)",
            {0: {"word": "x"}, 4999: {"word": "x", "low": 5}, 7: {"word": None}},
            [0, 4999],
            "breaks the constraint",
        ),
        ("alter table staff add check (100 / low > 0)", {}, None, "division by zero"),
        (
            "alter table staff add foreign key (word) references word",
            {5: {"word": "zz"}, 6: {"word": None}, 4000: {"word": ""}},
            [5, 4000],
            "no parent in public.word",
        ),
        (
            "alter table staff add foreign key (word) references word"
            " deferrable initially deferred",
            {5: {"word": "zz"}},
            [5],
            "no parent in public.word",
        ),
        (
            "alter table staff add foreign key (boss) references staff",
            {1: {"boss": 4999}, 2: {"boss": 9999}, 4000: {"boss": 2}, 3: {"boss": 4000}},
            [2, 3, 4000],
            "no parent in public.staff",
        ),
        (EXCLUDE, {100: {"low": 5}, 4000: {"low": 39_995}}, [100, 4000], "conflicting key"),
        (TRIGGER, {17: {"low": -7}, 4998: {"low": -7}}, [17, 4998], "seven is refused"),
        ("", {}, [], ""),
    ],
)  # fmt: skip
def test_the_rows_that_violate_are_found_with_the_reason(
    find: Find, ddl: str, changes: dict[int, dict[str, Any]], bad: list[int] | None, reason: str
) -> None:
    if bad is None:  # low = 0 fails in the expression itself, from 101 on it is not true
        with pytest.raises(TooManyViolationsError, match=r"division by zero|100 / low"):
            find(ddl or "select", changes)
        return
    found = find(ddl or "select", changes)
    assert [violation.row for violation in found] == bad
    assert all(reason in violation.fault.message for violation in found)


def test_a_merge_meets_rows_that_are_there_and_an_append_must_not(find: Find) -> None:
    unique = "alter table staff add constraint one_low unique (low)"
    there = "insert into staff values (1, null, 'a', 77), (9001, null, 'a', 40)"
    found = find(unique, {}, there, key=("id",))
    assert [(v.row, v.fault.rule) for v in found] == [(4, "one_low")]
    with pytest.raises(psycopg.errors.UniqueViolation):
        find(unique, {}, there)


def test_more_violations_than_wanted_are_an_error_with_the_first(find: Find) -> None:
    bad = {i: {"low": -1} for i in range(100, 200)}
    with pytest.raises(TooManyViolationsError, match=r"more than 10 rows.*row 101 of those"):
        find("alter table staff add check (low >= 0)", bad, limit=10)
