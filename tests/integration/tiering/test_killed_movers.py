"""A mover that dies at any step, even in the middle of one, has moved all or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import Platform
from tests.support import processes

STEPS = ("locked", "counted", "copied", "verified", "renamed", "recorded", "deleted", "committed")
ROWS = 5000
KEY = "2024-02"


def fill(platform: Platform, name: str) -> None:
    """Make the table and put ROWS rows into February and as many into March."""
    values = {
        "readings": "t, 's' || i % 7, i / 10.0, i",
        "accounts": "t, i, 'o' || i % 5, i, t",
    }[name]
    table = platform.table(name)
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        windows = [
            window_for_key(table.require_partitioning.grain, key) for key in (KEY, "2024-03")
        ]
        ensure_partition_tables(connection, table, windows)
        connection.execute(
            f"insert into {name} select {values} from (select i, '2024-02-01Z'::timestamptz"  # noqa: S608
            " + (i % 2) * interval '29 days' + i * interval '1 minute' as t"
            f" from generate_series(1, {2 * ROWS}) i)"
        )


def settle_and_come_late(platform: Platform) -> None:
    """Move February of accounts, then override some of its rows and add others."""
    processes.move_key(platform, "accounts", KEY)
    with platform.postgres.connect() as connection:
        connection.execute(
            "insert into accounts select '2024-02-01Z'::timestamptz + i * interval '1 minute', i,"
            " 'late', -1, '2024-06-01Z' from generate_series(1, 1001) i"
        )


def generations(platform: Platform) -> list[Any]:
    with platform.postgres.connect() as connection:
        return connection.execute(
            "select partition_key, count(*) filter (where superseded_at is null), count(*)"
            " from lakebed.cold_file group by 1 order by 1"
        ).fetchall()


def hot_rows(platform: Platform, name: str) -> int:
    query = f"select count(*) from {name} where tableoid = '{name}_2024_02'::regclass"  # noqa: S608
    with platform.postgres.connect() as connection:
        return int(connection.execute(query).fetchall()[0][0])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.thorough_but("recorded", "committed")
def test_a_mover_killed_after_a_step_loses_and_doubles_nothing(
    platform: Platform, step: str
) -> None:
    fill(platform, "readings")
    truth = processes.all_rows(platform, "readings")
    assert truth.rows == 2 * ROWS
    move = (platform.settings, "readings", [KEY])
    assert processes.run(processes.move_many, *move, step, None) == -9
    assert processes.all_rows(platform, "readings") == truth
    assert generations(platform) == ([(KEY, 1, 1)] if step == "committed" else [])
    assert processes.run(processes.move_many, *move, None, None) == 0
    assert processes.all_rows(platform, "readings") == truth
    assert generations(platform) == [(KEY, 1, 1)]
    assert hot_rows(platform, "readings") == 0


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.thorough_but("deleted", "committed")
def test_a_fold_killed_after_a_step_loses_and_doubles_nothing(
    platform: Platform, step: str
) -> None:
    fill(platform, "accounts")
    settle_and_come_late(platform)
    truth = processes.all_rows(platform, "accounts")
    assert truth.rows == 2 * ROWS + 501
    fold = (platform.settings, "accounts", [KEY])
    assert processes.run(processes.move_many, *fold, step, None) == -9
    assert processes.all_rows(platform, "accounts") == truth
    assert generations(platform) == [(KEY, 1, 2 if step == "committed" else 1)]
    assert processes.run(processes.move_many, *fold, None, None) == 0
    assert processes.all_rows(platform, "accounts") == truth
    assert generations(platform) == [(KEY, 1, 2)]
    assert hot_rows(platform, "accounts") == 0


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.08])
@pytest.mark.thorough_but("0.03")
def test_a_mover_killed_at_any_moment_loses_and_doubles_nothing(
    platform: Platform, delay: float
) -> None:
    fill(platform, "readings")
    truth = processes.all_rows(platform, "readings")
    move = (platform.settings, "readings", [KEY])
    assert processes.run(processes.move_and_die, *move[:2], KEY, delay) in (0, -9)
    assert processes.all_rows(platform, "readings") == truth
    assert processes.run(processes.move_many, *move, None, None) == 0
    assert processes.all_rows(platform, "readings") == truth
    assert generations(platform) == [(KEY, 1, 1)]


def test_a_file_that_no_manifest_row_names_is_never_read(platform: Platform) -> None:
    fill(platform, "readings")
    truth = processes.all_rows(platform, "readings")
    move = (platform.settings, "readings", [KEY])
    assert processes.run(processes.move_many, *move, "renamed", None) == -9
    assert processes.run(processes.move_many, *move, "copied", None) == -9
    orphans = list(platform.lake.files.root.rglob("*.parquet*"))
    assert {orphan.suffix for orphan in orphans} == {".parquet", ".tmp"}
    for orphan in orphans:
        orphan.write_bytes(b"no Parquet at all")
    assert processes.all_rows(platform, "readings") == truth
    assert processes.run(processes.move_many, *move, None, None) == 0
    assert processes.all_rows(platform, "readings") == truth
    assert {orphan.read_bytes() for orphan in orphans} == {b"no Parquet at all"}


RESTORE_STEPS = (
    *("locked", "checked", "copied", "written", "verified"),
    *("recorded", "closed", "committed"),
)
ACCOUNTS = "select count(*), sum(id)::bigint, sum(balance)::varchar from accounts"
PAUSES = [(0.0, 0.0), (0.1, 0.1)]


def delete_some(platform: Platform) -> None:
    """Delete accounts of February that are cold, hot, or both."""
    with platform.postgres.connect() as connection:
        connection.execute(
            "select lakebed.delete_row('accounts', jsonb_build_object('id', i, 'opened',"
            " '2024-02-01Z'::timestamptz + i * interval '1 minute'))"
            " from generate_series(900, 1100) i"
        )


def tombstones(platform: Platform) -> int:
    with platform.postgres.connect() as connection:
        return int(connection.execute("select count(*) from lakebed.cold_delete").fetchall()[0][0])


@pytest.mark.parametrize(
    ("work", "steps"),
    [(processes.move_many, STEPS), (processes.restore_all, RESTORE_STEPS)],
    ids=["fold", "restore"],
)
@pytest.mark.thorough_but("fold")
def test_killed_at_each_step_nobody_sees_a_row_lost_doubled_or_undeleted(
    platform: Platform, work: Any, steps: tuple[str, ...]
) -> None:
    """A partition with late rows and deletes, in front of readers, killed again and again."""
    fill(platform, "accounts")
    settle_and_come_late(platform)
    delete_some(platform)
    truth = processes.all_rows(platform, "accounts")
    assert truth.rows == 2 * ROWS + 501 - 51 - 102 + 1
    with platform.lake.session() as session:
        expected = tuple(session.sql(ACCOUNTS).fetchall()[0])
    with processes.readers(platform.settings, ACCOUNTS, PAUSES) as answers:
        for step in steps:
            assert tombstones(platform) == 201
            job = (platform.settings, "accounts", [KEY], step, None)
            assert processes.run(work, *job) == -9
    assert all(len(found) >= 3 for found in answers)
    assert {seen for found in answers for seen in found} == {expected}
    assert processes.all_rows(platform, "accounts") == truth
    assert tombstones(platform) == 0
    live = 1 if work is processes.move_many else 0
    assert generations(platform) == [(KEY, live, 1 + live)]


def test_readers_notice_a_restore_without_its_fence(platform: Platform) -> None:
    fill(platform, "accounts")
    processes.move_key(platform, "accounts", KEY)
    with platform.lake.session() as session:
        expected = tuple(session.sql(ACCOUNTS).fetchall()[0])
    job = (platform.settings, "accounts", [KEY], None, "supersede before the commit")
    with processes.readers(platform.settings, ACCOUNTS, PAUSES) as answers:
        assert processes.run(processes.restore_all, *job) == 0
    assert {seen for found in answers for seen in found} > {expected}
