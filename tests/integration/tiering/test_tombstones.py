"""A settled row that is deleted is gone at once for every reader, and from its file with a fold."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from lakebed.errors import TieringError
from lakebed.schema.apply import read_plan
from lakebed.schema.ddl import DriftError, ensure_partition_tables, ensure_table
from lakebed.schema.registry import upsert_tiered_table
from lakebed.schema.tiering_blockers import read_tiering_blockers
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain, Partitioning, SourceTable, Tiering
from lakebed.store.fingerprint import fingerprint_query, read_fingerprint
from lakebed.store.platform import Platform
from lakebed.tiering.move import move
from lakebed.tiering.partition import Partition
from lakebed.tiering.pending import waiting
from tests.support.modes import ask, do
from tests.support.processes import all_rows, move_key

KEY = "2024-02"
BY_MONTH = Partitioning(column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC))


class Event(pa.DataFrameModel):
    """Events of an application."""

    at: Annotated[pl.Datetime, "us", "UTC"]
    id: pl.Int64
    note: str = pa.Field(nullable=True)


events = SourceTable(
    name="events",
    model=Event,
    key=("at", "id"),
    partitioning=BY_MONTH,
    tiering=Tiering(hot_for=timedelta(days=1)),
)


@pytest.fixture
def settled(platform_of: Callable[..., Platform]) -> Platform:
    """Events 0 to 9 of February, in the cold tier."""
    platform = platform_of(events)
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, events)
        ensure_partition_tables(connection, events, [window_for_key(Grain.MONTH, KEY)])
    insert(platform, *range(10))
    move_key(platform, "events", KEY)
    return platform


def insert(platform: Platform, *ids: int, note: str = "first") -> None:
    values = ", ".join(
        f"('2024-02-01Z'::timestamptz + {id} * interval '1 hour', {id}, '{note}')" for id in ids
    )
    do(platform, f"insert into events values {values}")  # noqa: S608


def key_of(id: int) -> str:
    return f'{{"id": {id}, "at": "2024-02-01T{id:02}:00:00Z"}}'


def delete(platform: Platform, *ids: int) -> list[bool]:
    return [
        ask(platform, f"select lakebed.delete_row('events', '{key_of(id)}')")[0][0] for id in ids
    ]


def seen(platform: Platform) -> list[tuple[int, str]]:
    with platform.lake.session() as session:
        both = "select id, note from events order by all"
        assert session.sql(both).fetchall() == session.connection.sql(both).fetchall()
        return session.sql(both).fetchall()


def first(*missing: int) -> list[tuple[int, str]]:
    return [(id, "first") for id in range(10) if id not in missing]


def tombstones(platform: Platform) -> list[int]:
    rows = ask(
        platform, "select (key ->> 'id')::int from lakebed.cold_delete order by cold_delete_id"
    )
    return [id for (id,) in rows]


def manifest(platform: Platform) -> list[tuple[int, int, bool]]:
    return ask(
        platform, "select generation, rows, superseded_at is null from lakebed.cold_file order by 1"
    )


def test_a_deleted_row_is_gone_at_once_and_leaves_the_file_with_the_fold(settled: Platform) -> None:
    assert delete(settled, 3, 4) == [False, False]
    assert seen(settled) == first(3, 4)
    folded = move_key(settled, "events", KEY)
    assert (folded.generation, folded.rows, folded.moved) == (2, 8, 0)
    assert (folded.overridden, folded.deletes) == (2, 2)
    assert (seen(settled), tombstones(settled)) == (first(3, 4), [])
    assert manifest(settled) == [(1, 10, False), (2, 8, True)]


def test_a_hot_row_is_deleted_with_the_cold_one_below_it(settled: Platform) -> None:
    insert(settled, 3, 20, note="second")
    assert delete(settled, 3, 20, 21) == [True, True, False]
    assert seen(settled) == first(3)
    assert move_key(settled, "events", KEY).rows == 9
    assert seen(settled) == first(3)


def test_a_row_that_comes_back_is_seen_whatever_its_tombstone_says(settled: Platform) -> None:
    delete(settled, 3)
    insert(settled, 3, note="second")
    expected = sorted([*first(3), (3, "second")])
    assert seen(settled) == expected
    assert move_key(settled, "events", KEY).rows == 10
    assert (seen(settled), tombstones(settled)) == (expected, [])


def test_deletes_alone_are_work_and_a_partition_without_a_row_has_no_file(
    settled: Platform,
) -> None:
    table, now = settled.table("events"), settled.clock.now()
    with settled.postgres.connect() as connection:
        assert waiting(connection, table, now) == []
    delete(settled, *range(10))
    with settled.postgres.connect() as connection:
        assert [window.key for window in waiting(connection, table, now)] == [KEY]
    folded = move_key(settled, "events", KEY)
    assert (folded.path, folded.rows, folded.overridden, folded.deletes) == (None, 0, 10, 10)
    assert (seen(settled), tombstones(settled)) == ([], [])
    assert manifest(settled) == [(1, 10, False)]
    insert(settled, 5, note="second")
    assert move_key(settled, "events", KEY).generation == 2
    assert seen(settled) == [(5, "second")]


def test_deletes_of_rows_that_are_not_there_write_no_file(settled: Platform) -> None:
    delete(settled, 11, 12)
    folded = move_key(settled, "events", KEY)
    assert (folded.path, folded.overridden, folded.deletes) == (None, 0, 2)
    assert (manifest(settled), tombstones(settled)) == ([(1, 10, True)], [])


@pytest.mark.parametrize("back", [False, True], ids=["deleted", "deleted and back"])
@pytest.mark.parametrize("hot", [False, True], ids=["cold", "cold and hot"])
@pytest.mark.parametrize("step", ["counted", "copied"])
def test_a_delete_during_a_fold_is_not_lost(
    settled: Platform, step: str, hot: bool, back: bool
) -> None:
    insert(settled, 8, note="late")
    if hot:
        insert(settled, 3, note="second")
    delete(settled, 9)
    visits: list[str] = []

    def meanwhile(label: str) -> None:
        visits.append(label)
        if label == step and visits.count(step) == 1:
            delete(settled, 3, 3)
            if back:
                insert(settled, 3, note="third")

    folded = move_key(settled, "events", KEY, on_step=meanwhile)
    expected = sorted([*first(3, 8, 9), (8, "late"), *([(3, "third")] if back else [])])
    assert seen(settled) == expected
    assert visits.count("counted") == (2 if hot else 1)
    assert folded.deletes == (3 if hot else 1)
    assert tombstones(settled) == ([] if hot else [3, 3])
    move_key(settled, "events", KEY)
    assert (seen(settled), tombstones(settled)) == (expected, [])


def test_a_row_that_the_fold_has_taken_from_hot_is_deleted_from_its_file(settled: Platform) -> None:
    insert(settled, 3, note="second")
    done: list[bool] = []
    deleting = Thread(target=lambda: done.extend(delete(settled, 3)))

    def meanwhile(label: str) -> None:
        if label == "deleted":
            deleting.start()
            wait_for_a_lock(settled)

    move_key(settled, "events", KEY, on_step=meanwhile)
    deleting.join(30)
    assert (done, seen(settled), tombstones(settled)) == ([False], first(3), [3])
    move_key(settled, "events", KEY)
    assert seen(settled) == first(3)


def wait_for_a_lock(platform: Platform) -> None:
    """Wait until somebody waits for a row of another transaction."""
    for _ in range(3000):
        if ask(
            platform,
            "select 1 from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock'",
        ):
            return
        time.sleep(0.01)
    raise TimeoutError("nobody waits")


def test_a_tombstone_that_is_taken_back_during_the_fold_starts_it_again(settled: Platform) -> None:
    delete(settled, 3)
    visits: list[str] = []

    def take_back(label: str) -> None:
        visits.append(label)
        if label == "copied" and visits.count("copied") == 1:
            do(settled, "delete from lakebed.cold_delete")

    assert move_key(settled, "events", KEY, on_step=take_back).path is None
    assert seen(settled) == first()


def test_a_row_that_came_back_is_lost_where_a_fold_leaves_its_tombstone(
    settled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Partition, "consume_tombstones", lambda self: None)
    delete(settled, 3)
    insert(settled, 3, note="second")
    move_key(settled, "events", KEY)
    assert seen(settled) == first(3)


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ("nothing", "{}", "nothing is not a known tiered table"),
        ("events", "[1]", "not a JSON object"),
        ("events", '{"id": 1}', "needs a value of at"),
        ("events", '{"id": null, "at": "2024-02-01Z"}', "needs a value of id"),
        ("events", '{"id": 1, "at": "2024-02-01Z", "Id": 1}', "Id is not in the key"),
        ("events", '{"id": "x", "at": "2024-02-01Z"}', "bigint"),
    ],
)
def test_a_delete_that_makes_no_sense_is_refused(
    settled: Platform, table: str, key: str, words: str
) -> None:
    with pytest.raises(psycopg.Error, match=words):
        ask(settled, f"select lakebed.delete_row('{table}', '{key}')")
    assert (seen(settled), tombstones(settled)) == (first(), [])


def test_a_transaction_that_could_miss_a_restore_is_refused(settled: Platform) -> None:
    with settled.postgres.connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(psycopg.Error, match="repeatable read"):
            connection.execute(f"select lakebed.delete_row('events', '{key_of(3)}')".encode())


@pytest.mark.parametrize("key", [("at", "id", "note"), ("at",), ()])
def test_no_key_changes_while_deletes_by_the_old_one_are_open(
    settled: Platform, key: tuple[str, ...]
) -> None:
    delete(settled, 3)
    changed = replace(events, model=Noted, key=key)
    window = window_for_key(Grain.MONTH, KEY)
    words = r"1 deletes of cold rows are pending by the key \(at, id\).*run `lakebed move"
    with settled.postgres.connect(autocommit=True) as connection:
        with pytest.raises(DriftError, match=words):
            ensure_table(connection, changed)
        plan = read_plan(connection, changed, settled.clock.now())
        refused = [change.why for change in plan.changes if change.safety == "refused"]
        assert [why for why in refused if re.search(words, why)]
        with pytest.raises(TieringError, match=words):
            move(settled.lake, changed, window)
        if key:
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=words):
                connection.execute(upsert_tiered_table(changed) or "")
        assert (seen(settled), tombstones(settled)) == (first(3), [3])
        move_key(settled, "events", KEY)
        assert read_tiering_blockers(connection, changed) == []
        ensure_table(connection, replace(events, key=("id", "at")))


def test_deletes_by_another_key_do_not_come_back(settled: Platform) -> None:
    noted = "update lakebed.tiered_table set key_columns = '{at, id, note}'"
    entered = (
        "insert into lakebed.cold_delete (table_name, key, moment) values ('events', '{}', {})"
    )
    do(settled, noted)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="by another key than"):
        do(settled, entered.format(key_of(3), "'2024-02-01T03:00Z'"))
    assert tombstones(settled) == []


def test_a_key_that_the_table_has_no_more_deletes_nothing(settled: Platform) -> None:
    do(
        settled,
        "update events set note = '' where note is null",
        "alter table events drop constraint events_pkey, add primary key (at, id, note)",
    )
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is no longer its key"):
        delete(settled, 3)
    assert (seen(settled), tombstones(settled)) == (first(), [])


def test_a_delete_and_a_change_of_the_key_wait_for_each_other(settled: Platform) -> None:
    changed = upsert_tiered_table(replace(events, model=Noted, key=("at", "id", "note")))
    assert changed is not None
    failed: list[psycopg.Error] = []

    def change() -> None:
        with settled.postgres.connect(autocommit=True) as connection:
            try:
                connection.execute(changed)
            except psycopg.Error as error:
                failed.append(error)

    changing = Thread(target=change)
    with settled.postgres.connect() as connection:
        connection.execute(f"select lakebed.delete_row('events', '{key_of(3)}')".encode())
        changing.start()
        wait_for_a_lock(settled)
    changing.join(30)
    assert ["deletes of cold rows are pending" in str(error) for error in failed] == [True]


class Noted(pa.DataFrameModel):
    """Events whose note is never null."""

    at: Annotated[pl.Datetime, "us", "UTC"]
    id: pl.Int64
    note: str


class Odd(pa.DataFrameModel):
    """A key of all kinds of types."""

    at: Annotated[pl.Datetime, "us", "UTC"]
    words: str = pa.Field(alias='w "x"')
    amount: Annotated[pl.Decimal, 30, 4]
    ratio: pl.Float64
    day: pl.Date
    flag: bool
    blob: pl.Binary
    mood: Annotated[pl.Enum, ["sad", "glad"]]
    ident: str = pa.Field(metadata={"postgres": "uuid"})
    host: str = pa.Field(metadata={"postgres": "inet"})


odd = SourceTable(
    name="odd",
    model=Odd,
    key=tuple(Odd.to_schema().columns),
    partitioning=BY_MONTH,
    tiering=Tiering(hot_for=timedelta(days=1)),
)
keys = st.tuples(
    st.datetimes(datetime(2024, 2, 1), datetime(2024, 2, 28)).map(lambda t: t.replace(tzinfo=UTC)),  # noqa: DTZ001
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
    st.decimals(-(10**25), 10**25, places=4),
    st.floats(),
    st.dates(),
    st.booleans(),
    st.binary(max_size=5),
    st.sampled_from(["sad", "glad"]),
    st.uuids().map(str),
    st.ip_addresses().map(str),
)


@settings(max_examples=3)
@given(rows=st.lists(keys, min_size=2, max_size=40, unique=True), data=st.data())
def test_keys_of_every_type_are_told_apart(
    platform_of: Callable[..., Platform], rows: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    platform = platform_of(odd)
    do(platform, "drop table if exists odd, gone, left_over", "truncate lakebed.cold_file cascade")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, odd)
        ensure_partition_tables(connection, odd, [window_for_key(Grain.MONTH, KEY)])
        places = ", ".join(["%s"] * len(odd.columns))
        statement = f"insert into odd values ({places}) on conflict do nothing"  # noqa: S608
        connection.cursor().executemany(statement.encode(), rows)
        gone = data.draw(st.integers(1, len(rows)))
        connection.execute("create table gone as select to_jsonb(o) k from odd o limit %s", [gone])
        connection.execute(
            "create table left_over as select * from odd o where to_jsonb(o) not in (table gone)"
        )
        query = fingerprint_query(odd.columns, sql.Identifier("left_over"), "postgres")
        expected = read_fingerprint(odd.columns, connection.execute(query).fetchall()[0])
        move_key(platform, "odd", KEY)
        connection.execute("select lakebed.delete_row('odd', k) from gone")
    assert all_rows(platform, "odd") == expected
    assert move_key(platform, "odd", KEY).rows == expected.rows
    assert all_rows(platform, "odd") == expected
