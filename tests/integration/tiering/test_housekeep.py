"""Housekeeping takes away what nobody needs, and nothing else: not from an old snapshot either."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lakebed.recovery.backup import take_backup
from lakebed.recovery.restore_backup import restore
from lakebed.resources.postgres import Connection
from lakebed.resources.read_errors import LakeReadError
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering import partition_tables, superseded
from lakebed.tiering.horizon import Horizon, StayReason, read_horizon
from lakebed.tiering.housekeep import Housekept, housekeep
from tests.support import processes
from tests.support.tiers import EACH, MONTHS, ask, do, files, fill, named, seen, settle

ALL = "select count(*), sum(number)::int from readings"
DAY = timedelta(days=1)


def kept(platform: Platform, *, grace: timedelta = timedelta(0), **policies: Any) -> Platform:
    """Return the platform with another grace period, and other policies of `readings`."""
    table = platform.table("readings")
    table = replace(table, tiering=replace(table.require_tiering, **policies))
    return open_platform(replace(platform.settings, file_grace=grace), (table,))


def fold(platform: Platform, key: str = "2024-01", number: int = 0) -> None:
    """Let a late row come, and fold it: the older generation is superseded."""
    do(platform, f"insert into readings values ('{key}-03', 'late', 1, {number})")  # noqa: S608
    settle(platform, "readings", key)


@contextmanager
def snapshot(platform: Platform) -> Iterator[Connection]:
    """Hold a snapshot of PostgreSQL while the block runs."""
    with platform.postgres.connect() as connection:
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select 1 from pg_class limit 1")
        yield connection
        connection.rollback()


@contextmanager
def open_for_long(platform: Platform) -> Iterator[Connection]:
    """Hold a transaction with an id and no snapshot."""
    with platform.postgres.connect() as connection:
        connection.execute("select pg_current_xact_id()")
        yield connection
        connection.rollback()


def swept(done: Housekept) -> list[tuple[str, str]]:
    return [(Path(file.path).name, file.why) for file in done.swept]


def waits(done: Housekept) -> list[StayReason]:
    return [spared.reason for spared in done.spared]


@pytest.fixture
def settled(platform: Platform) -> Platform:
    fill(platform)
    settle(platform)
    patient = kept(platform, grace=DAY)
    housekeep(patient)  # beside a reader VACUUM would wait for seconds
    return kept(platform)


def test_a_superseded_generation_goes_when_its_grace_is_over(settled: Platform) -> None:
    fold(settled)
    truth = seen(settled, ALL)
    patient = kept(settled, grace=DAY)
    done = housekeep(patient)
    assert (done.swept, done.failed) == ([], [])
    assert waits(done) == [StayReason.GRACE]
    assert len(files(settled)) == len(MONTHS) + 1
    dry = housekeep(settled, dry_run=True)
    assert swept(dry) == [("readings_2024_01_g0001.parquet", "superseded")]
    assert len(files(settled)) == len(MONTHS) + 1
    assert swept(housekeep(settled)) == swept(dry)
    assert files(settled) == named(settled)
    assert len(named(settled)) == len(MONTHS)
    assert seen(settled, ALL) == truth
    assert housekeep(settled).swept == []


def test_a_name_that_was_given_up_is_never_used_again(settled: Platform) -> None:
    fold(settled)
    housekeep(settled)
    fold(settled)
    housekeep(settled)
    numbers = "select generation from lakebed.cold_file where partition_key = '2024-01' order by 1"
    assert ask(settled, numbers) == [(1,), (2,), (3,)]


def test_a_snapshot_that_can_name_a_superseded_file_keeps_it(settled: Platform) -> None:
    with settled.lake.session() as session:
        fold(settled)
        done = housekeep(settled)
        assert done.swept == []
        assert waits(done) == [StayReason.SNAPSHOT]
        assert session.sql(ALL).fetchall() == [(3 * EACH, 404550)]
    assert len(housekeep(settled).swept) == 1


def test_a_snapshot_from_the_very_moment_of_a_fold_keeps_the_file_it_names(
    settled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its xmin is the id of the fold itself: the comparison must be >=."""
    assert _read_across_a_fold(settled) == [(3 * EACH, 404550)]
    monkeypatch.setattr(
        Horizon, "blind_to", lambda self, xid: [h for h in self.holders if xid > h.xmin]
    )
    with pytest.raises(LakeReadError):
        _read_across_a_fold(settled)


def _read_across_a_fold(platform: Platform) -> list[Any]:
    """Take a snapshot while a fold is open, keep house after it, and read by the snapshot."""
    held: list[Any] = []

    def begin_to_read(step: str) -> None:
        if step == "deleted":
            held.append(platform.lake.session())
            held.append(held[0].__enter__())

    do(platform, "insert into readings values ('2024-01-03', 'late', 1, 0)")
    truth = seen(platform, ALL)
    try:
        processes.move_key(platform, "readings", "2024-01", on_step=begin_to_read)
        housekeep(platform)
        answer: list[Any] = held[1].sql(ALL).fetchall()
    finally:
        held[0].__exit__(None, None, None)
        do(platform, "delete from readings")
        housekeep(platform)
    return [(answer[0][0] - truth[0][0] + 3 * EACH, answer[0][1])]


def test_readers_notice_that_files_go_without_grace_and_horizon(
    settled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superseded, "_why_not", lambda row, horizon, now, grace: None)
    with settled.lake.session() as session:
        fold(settled)
        assert len(housekeep(kept(settled, grace=DAY)).swept) == 1
        with pytest.raises(LakeReadError):
            session.sql(ALL).fetchall()


def test_what_a_backup_names_stays_until_the_backup_is_dropped(settled: Platform) -> None:
    truth = seen(settled, ALL)
    table = settled.table("readings")
    backup = take_backup(settled.settings.home, settled.postgres, settled.lake, table)
    fold(settled)
    assert waits(housekeep(settled)) == [StayReason.BACKUP]
    restore(settled.settings.home, settled.postgres, settled.lake.files, table, backup.backup_id)
    assert seen(settled, ALL) == truth
    do(settled, "delete from lakebed.backup")
    assert [why for _, why in swept(housekeep(settled))] == ["superseded"]
    assert seen(settled, ALL) == truth


def test_orphans_and_unfinished_files_of_dead_writers_go_and_nothing_of_others(
    platform: Platform,
) -> None:
    fill(platform)
    move = (platform.settings, "readings", ["2024-01"])
    assert processes.run(processes.move_many, *move, "renamed", None) == -9
    assert processes.run(processes.move_many, *move, "copied", None) == -9
    settle(platform)
    folder = platform.lake.files.root / "readings" / "year=2024" / "month=01"
    strange = [
        folder / "notes.txt",
        folder / "readings_2024_02_g0009.parquet",
        platform.lake.files.root / "readings" / "readings_2024_01_g0007.parquet",
        platform.lake.files.root / "marts" / "mine" / "mine_g0001.parquet",
    ]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"somebody's own")
    truth = seen(platform, ALL)
    assert housekeep(kept(platform, grace=DAY)).swept == []
    done = housekeep(kept(platform))
    assert sorted(swept(done)) == [
        ("readings_2024_01_g0001.parquet", "orphan"),
        ("readings_2024_01_g0002.parquet.tmp", "unfinished"),
    ]
    assert all(path.read_bytes() == b"somebody's own" for path in strange)
    assert seen(platform, ALL) == truth
    names = "select generation, removed_at is null from lakebed.cold_file order by 1, 2"
    assert ask(platform, names) == [(1, False), (1, True), (1, True), (2, False), (3, True)]


def test_a_file_that_a_mover_is_about_to_name_is_left_alone(platform: Platform) -> None:
    fill(platform)
    impatient = kept(platform)

    def keep_house(step: str) -> None:
        if step in ("copied", "renamed", "recorded", "deleted"):
            assert housekeep(impatient).swept == []

    processes.move_key(platform, "readings", "2024-01", on_step=keep_house)
    assert seen(platform, ALL) == [(3 * EACH, 404550)]


def test_a_partition_past_its_retention_goes_with_its_late_rows(settled: Platform) -> None:
    do(settled, "insert into readings values ('2024-01-03', 'late', 1, 0)")
    short = kept(settled, keep_cold_for=122 * DAY)  # to the end of February
    dry = housekeep(short, dry_run=True)
    assert [(e.partition_key, e.rows) for e in dry.expired] == [
        ("2024-01", EACH),
        ("2024-02", EACH),
    ]
    assert seen(settled, ALL)[0][0] == 3 * EACH + 1
    done = housekeep(short)
    assert [(e.partition_key, e.rows, e.late) for e in done.expired] == [
        ("2024-01", EACH, 1),
        ("2024-02", EACH, 0),
    ]
    assert done.failed == []
    assert seen(settled, 'select count(*), min("at")::date::varchar from readings') == [
        (EACH, "2024-03-01")
    ]
    assert len(files(settled)) == 1
    assert housekeep(short).expired == []


def test_leaves_of_the_near_future_and_of_gaps_are_made(settled: Platform) -> None:
    do(
        settled,
        "alter table readings detach partition readings_2024_02",
        "delete from lakebed.cold_file where partition_key = '2024-02'",
        "drop table readings_2024_05",
    )
    assert housekeep(settled, dry_run=True).gaps == ["readings 2024-02", "readings 2024-05"]
    done = housekeep(settled)
    assert done.made == 1
    # Another table has the name of the leaf of February.
    assert done.gaps == ["readings 2024-02"]
    assert "public.readings_2024_02" in done.failed[0]
    do(settled, "insert into readings values ('2024-05-05Z', 'a', 1, 1)")


def dropping(platform: Platform) -> Platform:
    return kept(platform, drop_emptied_after=90 * DAY)


def leaf_names(platform: Platform) -> set[str]:
    return {
        name
        for (name,) in ask(
            platform, "select relid::regclass::text from pg_partition_tree('readings') where isleaf"
        )
    }


def test_an_emptied_leaf_is_vacuumed_and_goes_only_where_the_policy_says_so(
    platform: Platform,
) -> None:
    fill(platform)
    settle(platform)
    settled = kept(platform)
    truth = seen(settled, ALL)
    done = housekeep(settled)
    assert [(n.partition_table, n.what) for n in done.partition_tables] == [
        (f"readings_{key.replace('-', '_')}", "vacuumed") for key in MONTHS
    ]
    assert ask(
        settled, "select sum(pg_relation_size(relid)) from pg_partition_tree('readings')"
    ) == [(0,)]
    assert housekeep(settled).partition_tables == []
    done = housekeep(dropping(settled))
    # March ended 92 days ago.
    assert [(n.partition_table, n.what) for n in done.partition_tables] == [
        (f"readings_{key.replace('-', '_')}", "dropped") for key in MONTHS
    ]
    assert leaf_names(settled) == {f"readings_2024_{month:02}" for month in range(4, 10)}
    assert seen(settled, ALL) == truth
    assert done.gaps == []


def test_a_leaf_with_a_late_row_stays(settled: Platform) -> None:
    do(settled, "insert into readings values ('2024-01-03', 'late', 1, 0)")
    done = housekeep(dropping(settled))
    assert "readings_2024_01" not in [n.partition_table for n in done.partition_tables]
    assert "readings_2024_01" in leaf_names(settled)


def test_a_row_that_comes_between_the_look_and_the_drop_is_not_lost(
    settled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    vacuum = partition_tables._vacuum

    def then_a_row_comes(
        connection: Connection, partition_table: partition_tables.PartitionTable
    ) -> None:
        vacuum(connection, partition_table)
        do(
            settled,
            f"insert into readings values ('{partition_table.window.key}-03', 'late', 1, 0)",  # noqa: S608
        )

    for key in MONTHS:
        fold(settled, key)
    monkeypatch.setattr(partition_tables, "_vacuum", then_a_row_comes)
    done = housekeep(dropping(settled))
    assert {n.what for n in done.partition_tables} == {"vacuumed", "waits"}
    assert StayReason.ROWS in [note.stay.reason for note in done.partition_tables if note.stay]
    assert seen(settled, ALL) == [(3 * EACH + 6, 404550)]


def test_a_writer_in_the_leaf_holds_its_drop_and_loses_nothing(settled: Platform) -> None:
    with settled.postgres.connect() as writer:
        writer.execute("insert into readings values ('2024-01-03', 'late', 1, 0)")
        done = housekeep(kept(settled, drop_emptied_after=150 * DAY))
        waiting = done.partition_tables[-1]
        assert (waiting.partition_table, waiting.what) == ("readings_2024_01", "waits")
        assert waiting.stay is not None
        assert waiting.stay.reason is StayReason.BUSY
        writer.commit()
    assert seen(settled, ALL)[0][0] == 3 * EACH + 1
    assert "readings_2024_01" in leaf_names(settled)


def test_a_snapshot_from_before_the_move_keeps_the_leaf(platform: Platform) -> None:
    assert _count_across_a_drop(platform) == 3 * EACH


def test_a_reader_notices_that_a_leaf_goes_without_a_look_at_snapshots(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Horizon, "blind_to", lambda self, xid: [])
    assert _count_across_a_drop(platform) == 3 * EACH, "VACUUM keeps the pages of rows in need"
    monkeypatch.setattr(partition_tables, "_is_bare", lambda connection, partition_table: True)
    assert _count_across_a_drop(platform) < 3 * EACH


def _count_across_a_drop(platform: Platform) -> int:
    """Move and keep house under a snapshot from before; return what it sees afterwards."""
    do(platform, "drop table if exists readings", "truncate lakebed.cold_file cascade")
    fill(platform)
    do(platform, "vacuum readings")
    with snapshot(platform) as old:
        settle(platform)
        done = housekeep(dropping(platform))
        assert done.failed == []
        return int(old.execute("select count(*) from readings").fetchall()[0][0])


def test_the_horizon_names_sessions_prepared_transactions_and_no_query(
    settled: Platform,
) -> None:
    with snapshot(settled), settled.postgres.connect(autocommit=True) as connection:
        ((newest,),) = connection.execute("select pg_current_xact_id()::text").fetchall()
        (held,) = read_horizon(connection).blind_to(int(newest))
        assert (held.kind, held.name) == ("session", "lakebed")
        assert "select" not in str(held)


def test_a_transaction_that_only_writes_holds_nothing(settled: Platform) -> None:
    with open_for_long(settled):
        fold(settled)
        assert len(housekeep(settled).swept) == 1


def keep_house_and_die(settings: Any, step: str, policies: dict[str, Any]) -> None:
    """Keep house, and die at the first visit of a step."""
    housekeep(kept(open_platform(settings), **policies), on_step=processes.kill_at(step))


STEPS = ("deleted", "committed", "vacuumed", "dropped", "given up", "burnt")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.thorough_but("committed", "given up")
def test_housekeeping_that_is_killed_at_a_step_ends_the_same_when_it_is_run_again(
    settled: Platform, step: str
) -> None:
    fold(settled, "2024-03")
    if step != "vacuumed":
        housekeep(kept(settled, grace=DAY))
    policies = {"keep_cold_for": 150 * DAY, "drop_emptied_after": 90 * DAY}
    with processes.readers(settled.settings, ALL, [(0.05, 0.05)]) as answers:
        assert processes.run(keep_house_and_die, settled.settings, step, policies) == -9
        missing = named(settled) - files(settled)
        done = housekeep(kept(settled, **policies))
    assert missing == set()
    assert done.failed == []
    assert files(settled) == named(settled)
    assert len(named(settled)) == 2
    whole, kept_months = (3 * EACH + 1, 404550), (2 * EACH + 1, 359700)
    assert {answer for found in answers for answer in found} <= {whole, kept_months}
    assert seen(settled, ALL) == [(2 * EACH + 1, 359700)]
    assert leaf_names(settled) == {f"readings_2024_{month:02}" for month in range(4, 10)}
