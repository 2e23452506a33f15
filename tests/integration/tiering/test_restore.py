"""A restore brings settled rows back to hot, the very same ones, and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import polars as pl
import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakebed.errors import TieringError, VerificationError
from lakebed.monitoring.status import read_status
from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.schema.evolved import evolved_column, record_statement
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain, TableError
from lakebed.store.platform import Platform
from lakebed.tiering import restore as restoring
from lakebed.tiering.holds import PartitionHeldError
from lakebed.tiering.move import move
from lakebed.tiering.partition import Partition, PartitionBusyError
from lakebed.tiering.partition_tables import tidy
from lakebed.tiering.pending import waiting
from lakebed.tiering.restorable import chosen, hold_of
from lakebed.tiering.restore import Restored, restore
from tests.integration.ingest.test_types import differing, settling, write_expected
from tests.integration.ingest.test_types import settled as settled_row
from tests.integration.tiering.test_tombstones import (
    KEY,
    delete,
    events,
    first,
    insert,
    manifest,
    seen,
    tombstones,
    wait_for_a_lock,
)
from tests.support.modes import ask, do
from tests.support.processes import all_rows, move_key

WINDOW = window_for_key(Grain.MONTH, KEY)


@pytest.fixture
def settled(platform_of: Callable[..., Platform]) -> Platform:
    """Events 0 to 9 of February, in the cold tier."""
    return settle(platform_of(events))


def settle(platform: Platform) -> Platform:
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, platform.table("events"))
        ensure_partition_tables(connection, events, [WINDOW])
    insert(platform, *range(10))
    move_key(platform, "events", KEY)
    return platform


def bring_back(platform: Platform, **more: Any) -> Restored:
    table = platform.table("events")
    return restore(platform.postgres, platform.lake, table, WINDOW, platform.clock.now(), **more)


def hot(platform: Platform) -> list[tuple[int, str]]:
    return ask(platform, "select id, note from events order by id, note")


def test_a_partition_is_hot_again_and_stays_so_for_a_time(settled: Platform) -> None:
    do(settled, "drop table events_2024_02")
    done = bring_back(settled)
    assert (done.generation, done.rows, done.overridden) == (1, 10, 0)
    assert hot(settled) == seen(settled) == first()
    assert manifest(settled) == [(1, 10, False)]
    table, now = settled.table("events"), settled.clock.now()
    do(settled, "select lakebed.request_move('events', '1 day')")
    with settled.postgres.connect() as connection:
        assert waiting(connection, table, now + timedelta(days=7, seconds=-1)) == []
        assert waiting(connection, table, now + timedelta(days=7)) == [WINDOW]
    (status,) = (p for p in read_status(settled).tables[0].partitions if p.key == KEY)
    assert (status.state, status.held_until) == ("held", (now + timedelta(days=7)).isoformat())
    with pytest.raises(PartitionHeldError, match="held until 2024-07-08"):
        move(settled.lake, table, WINDOW, unless_held_at=now)
    assert (len(hot(settled)), seen(settled)) == (10, first())
    assert move_key(settled, "events", KEY).generation == 2
    assert seen(settled) == first()
    assert ask(settled, "select count(*) from lakebed.held_partition") == [(0,)]
    assert bring_back(settled, hold=timedelta(days=30)).held_until == now + timedelta(days=30)


def test_where_nothing_has_settled_nothing_is_restored(settled: Platform) -> None:
    bring_back(settled)
    assert bring_back(settled) == Restored("events", KEY)


def test_hot_rows_stand_and_deleted_ones_do_not_come_back(settled: Platform) -> None:
    insert(settled, 3, 20, note="second")
    delete(settled, 4, 5)
    insert(settled, 5, note="third")
    before = seen(settled)
    done = bring_back(settled)
    assert (done.rows, done.overridden) == (7, 3)
    assert hot(settled) == seen(settled) == before
    assert tombstones(settled) == []


def test_rows_without_a_key_come_back_beside_late_ones(
    platform_of: Callable[..., Platform],
) -> None:
    platform = settle(platform_of(replace(events, key=())))
    insert(platform, 3)
    assert bring_back(platform).rows == 10
    assert hot(platform) == sorted([*first(), (3, "first")])


def test_a_file_from_before_a_column_comes_back_in_the_columns_of_now(settled: Platform) -> None:
    table = settled.table("events")
    column = evolved_column("extra", "numeric(10,2)", "a.csv", "2024-06-01")
    with settled.postgres.connect() as connection:
        connection.execute("alter table events add column extra numeric(10,2)")
        connection.execute(record_statement(table, column, "a.csv", datetime.now(UTC)))
    assert bring_back(settled).rows == 10
    assert ask(settled, "select count(*), count(extra) from events") == [(10, 0)]
    assert seen(settled) == first()


STEPS = ("checked", "written", "recorded")


@pytest.mark.parametrize("step", STEPS)
def test_a_row_that_is_deleted_meanwhile_does_not_come_back(settled: Platform, step: str) -> None:
    visits: list[str] = []

    def meanwhile(label: str) -> None:
        visits.append(label)
        if label == step and visits.count(step) == 1:
            delete(settled, 3)

    assert bring_back(settled, on_step=meanwhile).rows == 9
    assert visits.count("locked") == 2
    assert (hot(settled), seen(settled), tombstones(settled)) == (first(3), first(3), [])


def delete_after_the_close(platform: Platform) -> list[bool]:
    """Delete a row when no tombstone is let in any more; return what the delete said."""
    said: list[bool] = []
    deleting = Thread(target=lambda: said.extend(delete(platform, 3)))

    def meanwhile(label: str) -> None:
        if label == "closed":
            deleting.start()
            wait_for_a_lock(platform)

    bring_back(platform, on_step=meanwhile)
    deleting.join(30)
    return said


def test_who_deletes_after_the_close_waits_and_finds_the_row_hot(settled: Platform) -> None:
    assert delete_after_the_close(settled) == [True]
    assert (hot(settled), seen(settled)) == (first(3), first(3))


def test_a_delete_is_lost_where_a_restore_does_not_close(
    settled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring._Restore, "_close", lambda self: None)
    bring_back(settled, on_step=lambda label: void(label == "copied" and delete(settled, 3)))
    assert seen(settled) == first()


def void(result: object) -> None:
    """Take no notice of a result."""


@pytest.mark.parametrize("step", ["checked", "copied"])
def test_a_row_that_is_inserted_meanwhile_stands(settled: Platform, step: str) -> None:
    visits: list[str] = []

    def meanwhile(label: str) -> None:
        visits.append(label)
        if label == step and visits.count(step) == 1:
            insert(settled, 3, 20, note="second")

    done = bring_back(settled, on_step=meanwhile)
    assert (done.rows, visits.count("locked")) == (9, 2)
    assert hot(settled) == sorted([*first(3), (3, "second"), (20, "second")])


def test_nobody_writes_meanwhile_to_a_table_whose_key_no_index_holds(settled: Platform) -> None:
    do(settled, "alter table events drop constraint events_pkey")
    writing = Thread(target=lambda: insert(settled, 3, note="second"))

    def meanwhile(label: str) -> None:
        if label == "copied":
            writing.start()
            wait_for_a_lock(settled)

    bring_back(settled, on_step=meanwhile)
    writing.join(30)
    assert hot(settled) == sorted([*first(), (3, "second")])


def test_two_at_work_on_a_partition_are_one_too_many(settled: Platform) -> None:
    def other(label: str) -> None:
        if label == "copied":
            with pytest.raises(PartitionBusyError):
                bring_back(settled)
            with pytest.raises(PartitionBusyError):
                move_key(settled, "events", KEY)

    assert bring_back(settled, on_step=other).rows == 10


def test_a_partition_that_is_never_left_alone_is_not_restored(settled: Platform) -> None:
    ids = iter(range(10))

    def meanwhile(label: str) -> None:
        if label == "copied":
            delete(settled, next(ids))

    with pytest.raises(TieringError, match="during each of 2 attempts; nothing was restored"):
        bring_back(settled, on_step=meanwhile, attempts=2)
    assert (hot(settled), seen(settled)) == ([], first(0, 1))


def test_a_damaged_file_is_not_restored(settled: Platform) -> None:
    file = next(Path(str(settled.lake.files)).rglob("*.parquet"))
    pl.read_parquet(file, hive_partitioning=False).head(9).write_parquet(file)
    with pytest.raises(VerificationError, match="9 rows against 10"):
        bring_back(settled)
    assert (hot(settled), manifest(settled)) == ([], [(1, 10, True)])


def change_what_comes(platform: Platform, body: str) -> None:
    do(
        platform,
        f"create function change() returns trigger language plpgsql as $$ begin {body} end $$",
        "create trigger change before insert on events for each row execute function change()",
    )


def test_what_a_trigger_changes_is_not_restored(settled: Platform) -> None:
    change_what_comes(settled, "if new.id = 3 then new.note := 'changed'; end if; return new;")
    with pytest.raises(VerificationError, match=r"column note.*nothing was restored"):
        bring_back(settled)
    assert (hot(settled), seen(settled)) == ([], first())


def test_rows_are_lost_where_nobody_verifies(
    settled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring._Restore, "_verify", lambda self, expected: None)
    change_what_comes(settled, "return case when new.id <> 3 then new end;")
    bring_back(settled)
    assert seen(settled) == first(3)


def test_rows_are_doubled_where_the_generation_stays_live(
    platform_of: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = settle(platform_of(replace(events, key=())))
    monkeypatch.setattr(restoring, "supersede", lambda partition, old: None)
    bring_back(platform)
    assert len(seen(platform)) == 20


def test_a_deleted_row_would_hide_what_settles_later_if_its_tombstone_stayed(
    settled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Partition, "consume_tombstones", lambda self: None)
    delete(settled, 3)
    bring_back(settled)
    insert(settled, 3, note="second")
    move_key(settled, "events", KEY)
    assert seen(settled) == first(3)


def test_partitions_are_chosen_by_key_or_by_time(settled: Platform) -> None:
    table = settled.table("events")
    with settled.postgres.connect() as connection:

        def found(*args: Any) -> list[str]:
            return [window.key for window in chosen(connection, table, *args)]

        assert found(["2024-03", "2024-01"], None, None) == ["2024-01", "2024-03"]
        assert found([], "2024-01-01T00:00:00Z", None) == [KEY]
        assert found([], None, "2024-02-01T00:00:00Z") == found([], None, "2024-02-01") == []
        assert found([], "2024-02-29", "2024-03-01") == [KEY]
        assert found([], "2024-02-29T00:00:00Z", "2024-02-29T00:00:01Z") == [KEY]
        assert found([], "2024-03-01T00:00:00Z", "2024-04-01T00:00:00Z") == []
        for wrong in (([], None, None), (["2024"], None, None), ([], "2024-01-01T00", None)):
            with pytest.raises(TableError):
                found(*wrong)
    assert hold_of("4w") == timedelta(weeks=4)
    with pytest.raises(TableError):
        hold_of("a week")


@hypothesis_settings(max_examples=3, phases=[Phase.generate])
@given(made=st.lists(st.fixed_dictionaries(settled_row), min_size=4, max_size=20))
def test_any_row_settles_and_comes_back_to_the_byte(
    platform_of: Callable[..., Platform], made: list[dict[str, Any]]
) -> None:
    platform, january = platform_of(settling), window_for_key(Grain.MONTH, "2024-01")
    made = [{"id": number, **row} for number, row in enumerate(made)]
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute("drop table if exists settling")
        ensure_table(connection, settling)
        ensure_partition_tables(connection, settling, [january])
        write_expected(connection, settling, made)
        connection.execute("insert into settling select * from expected")
        before = all_rows(platform, "settling")
        move_key(platform, "settling", january.key)
        assert connection.execute("select count(*) from settling").fetchall() == [(0,)]
        done = restore(platform.postgres, platform.lake, settling, january, platform.clock.now())
        assert done.rows == len(made)
        assert differing(connection, settling) == []
        assert all_rows(platform, "settling") == before


def test_a_partition_table_that_housekeeping_drops_meanwhile_is_made_again(
    settled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drop comes after the restore has looked, and before it holds the lock."""
    drops = iter([True, False])

    def dropped(connection: Any, table: Any, windows: Any) -> int:
        made = ensure_partition_tables(connection, table, windows)
        if next(drops):
            do(settled, "drop table events_2024_02")
        return made

    monkeypatch.setattr(restoring, "ensure_partition_tables", dropped)
    rows = all_rows(settled, "events")
    done = restore(settled.postgres, settled.lake, events, WINDOW, datetime.now(UTC))
    assert (done.rows, next(drops, None)) == (10, None)
    assert all_rows(settled, "events") == rows


def test_no_partition_table_is_dropped_while_a_restore_is_at_work(settled: Platform) -> None:
    stays: list[Any] = []

    def tidy_up(step: str) -> None:
        if step in ("locked", "recorded"):
            table = replace(
                events,
                tiering=replace(events.require_tiering, drop_emptied_after=timedelta(days=2)),
            )
            with settled.postgres.connect(autocommit=True) as connection:
                notes = tidy(connection, table, datetime.now(UTC))
                stays.append([note.what for note in notes])

    restore(settled.postgres, settled.lake, events, WINDOW, datetime.now(UTC), on_step=tidy_up)
    assert "waits" in stays[0]
    assert "dropped" not in [what for notes in stays for what in notes]
    assert ask(settled, "select count(*) from events_2024_02") == [(10,)]
