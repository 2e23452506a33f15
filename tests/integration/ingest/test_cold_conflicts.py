"""A row that has settled is newer than a late delivery of its past, whoever moves meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lakebed.ingest.cold_conflicts import live_generations, merge_with_cold
from lakebed.ingest.load import load_table
from lakebed.ingest.writers.merge import merge_statement
from lakebed.ingest.writers.stage import PLACE
from lakebed.ingest.writers.writer import LoadConflictError
from lakebed.resources.postgres import Connection
from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.columns import GONE
from lakebed.spec.partitions import Grain, window_for_key
from lakebed.store.platform import Platform, open_platform
from tests.support.processes import PATIENCE, move_key

STAGE = sql.Identifier("staged")
KEYS = ("2024-02", "2024-03")
Row = tuple[str, int, str, int]
"""Day of opening, id, owner, day of May of the change."""


@pytest.fixture
def settling(platform: Platform) -> Platform:
    """Accounts 1 to 3 of February and March, changed on 10 May; nothing is moved yet."""
    table = platform.table("accounts")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(connection, table, windows(platform))
        write(
            connection,
            "accounts",
            *((f"{key}-01", i, "kept", 10) for key in KEYS for i in (1, 2, 3)),
        )
    return platform


@pytest.fixture
def connection(settling: Platform) -> Iterator[Connection]:
    with settling.postgres.connect(autocommit=True) as connection:
        yield connection


def windows(platform: Platform, keys: Sequence[str] = KEYS) -> list[Any]:
    return [
        window_for_key(platform.table("accounts").require_partitioning.grain, key) for key in keys
    ]


def write(connection: Connection, name: str, *rows: Row) -> None:
    connection.cursor().executemany(
        sql.SQL("insert into {} values (%s, %s, %s, 1, %s)").format(sql.Identifier(name)),
        [(f"{d}Z", i, owner, datetime(2024, 5, day, tzinfo=UTC)) for d, i, owner, day in rows],
    )


def merge(
    platform: Platform,
    connection: Connection,
    *rows: Row,
    during: Callable[[], None] = lambda: None,
    keys: Sequence[str] = KEYS,
    **more: Any,
) -> int:
    """Stage rows and merge them in one transaction; return how many were stale.

    keys: of their partitions.  during: is done each time between the look at the cold rows and the
    merge.
    """
    table = platform.table("accounts")

    source = sql.SQL("select *, false as {}, ctid as {} from {}").format(
        sql.Identifier(GONE), sql.Identifier(PLACE), STAGE
    )

    def run() -> None:
        during()
        connection.execute(merge_statement(table, source, guarded=True, tells=False))

    with connection.transaction():
        connection.execute(
            "create temp table staged on commit drop as select * from accounts limit 0"
        )
        write(connection, "staged", *rows)
        return merge_with_cold(
            connection, table, STAGE, platform.lake.files, windows(platform, keys), run, **more
        )[1]


def owners(platform: Platform, key: str = "2024-02") -> dict[int, str]:
    query = f"select id, owner from accounts where strftime(opened, '%Y-%m') = '{key}'"  # noqa: S608
    with platform.lake.session() as session:
        return dict(session.sql(query).fetchall())


def test_only_what_is_older_than_its_cold_row_is_stale(
    settling: Platform, connection: Connection
) -> None:
    move_key(settling, "accounts", "2024-02")
    stale = merge(
        settling,
        connection,
        ("2024-02-01", 1, "older", 9),
        ("2024-02-01", 1, "oldest", 1),
        ("2024-02-01", 2, "as old", 10),
        ("2024-02-01", 3, "newer", 11),
        ("2024-02-01", 4, "new", 1),
        ("2024-02-02", 1, "another key", 1),
        ("2024-03-01", 1, "older, and hot", 9),
    )
    assert stale == 2
    found = {1: "kept", 2: "as old", 3: "newer", 4: "new"}
    assert owners(settling) | {1: "kept"} == found
    assert owners(settling, "2024-03") == dict.fromkeys((1, 2, 3), "kept")
    with settling.lake.session() as session:
        first = "select opened::date::varchar, owner from accounts where id = 1 order by 1"
        assert session.sql(first).fetchall() == [
            ("2024-02-01", "kept"),
            ("2024-02-02", "another key"),
            ("2024-03-01", "kept"),
        ]


def test_rows_that_settled_by_another_grain_are_compared_all_the_same(
    settling: Platform, connection: Connection
) -> None:
    move_key(settling, "accounts", "2024-02")
    table = settling.table("accounts")
    days = replace(table, partitioning=replace(table.require_partitioning, grain=Grain.DAY))
    by_day = open_platform(settling.settings, (days,))
    assert merge(by_day, connection, ("2024-02-01", 1, "older", 9), keys=("2024-02-01",)) == 1
    assert merge(by_day, connection, ("2024-02-01", 1, "newer", 11), keys=("2024-02-01",)) == 0
    assert owners(by_day) == {1: "newer", 2: "kept", 3: "kept"}
    assert live_generations(connection, days, [window_for_key(Grain.DAY, "2024-03-01")]) == []


def test_a_hot_row_decides_where_it_overrides_a_cold_one(
    settling: Platform, connection: Connection
) -> None:
    move_key(settling, "accounts", "2024-02")
    write(connection, "accounts", ("2024-02-01", 1, "put back", 5))
    stale = merge(settling, connection, ("2024-02-01", 1, "newer than that", 6))
    assert (stale, owners(settling)[1]) == (0, "newer than that")


def test_times_that_are_too_many_to_hold_are_compared_all_the_same(
    settling: Platform, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakebed.ingest.cold_conflicts.TIMES_HELD", 1)
    move_key(settling, "accounts", "2024-02")
    rows = [("2024-02-01", 1, "older", 9), ("2024-02-01", 2, "newer", 11)]
    assert merge(settling, connection, *rows, ("2024-02-09", 4, "new", 1)) == 1
    assert owners(settling) == {1: "kept", 2: "newer", 3: "kept", 4: "new"}


def test_a_load_that_touches_no_cold_partition_opens_no_file(
    settling: Platform, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a cold file was opened")

    rows = [("2024-02-01", 1, "older", 9), ("2024-03-01", 1, "newer", 11)]
    monkeypatch.setattr("lakebed.ingest.cold_conflicts._copy_cold", refuse)
    assert merge(settling, connection, *rows) == 0
    monkeypatch.undo()
    move_key(settling, "accounts", "2024-02")
    monkeypatch.setattr("lakebed.ingest.cold_conflicts._copy_cold", refuse)
    assert merge(settling, connection, ("2024-03-01", 1, "newer", 12)) == 0
    assert owners(settling, "2024-03")[1] == "newer"
    with pytest.raises(AssertionError, match="opened"):
        merge(settling, connection, *rows)


def test_a_row_that_settles_between_the_look_and_the_merge_is_looked_at_again(
    settling: Platform, connection: Connection
) -> None:
    moves = iter(KEYS)

    def move() -> None:
        if key := next(moves, None):
            move_key(settling, "accounts", key)

    rows = [(f"{key}-01", 1, "older", 9) for key in KEYS]
    assert merge(settling, connection, *rows, during=move) == 2
    assert [owners(settling, key)[1] for key in KEYS] == ["kept", "kept"]


def test_a_stale_row_wins_where_nobody_looks_again(
    settling: Platform, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakebed.ingest.cold_conflicts.live_generations", lambda *args: [])
    stale = merge(
        settling,
        connection,
        ("2024-02-01", 1, "older", 9),
        during=lambda: void(move_key(settling, "accounts", "2024-02")),
    )
    assert (stale, owners(settling)[1]) == (0, "older")


def void(result: object) -> None:
    """Take no notice of a result."""


def test_a_move_that_has_deleted_and_not_committed_is_waited_for(settling: Platform) -> None:
    found: list[int] = []

    def load() -> None:
        with settling.postgres.connect(autocommit=True) as connection:
            found.append(merge(settling, connection, ("2024-02-01", 1, "older", 9)))

    loading = Thread(target=load)

    def meanwhile(step: str) -> None:
        if step == "deleted":
            loading.start()
            wait_for_the_insert(settling)

    move_key(settling, "accounts", "2024-02", on_step=meanwhile)
    loading.join(PATIENCE)
    assert (found, owners(settling)[1]) == ([1], "kept")


def wait_for_the_insert(platform: Platform) -> None:
    """Wait until a merge waits for a row that another transaction has deleted."""
    end = time.monotonic() + PATIENCE
    with platform.postgres.connect(autocommit=True) as connection:
        while time.monotonic() < end:
            if connection.execute(
                "select from pg_stat_activity where datname = current_database()"
                " and wait_event_type = 'Lock' and wait_event = 'transactionid'"
            ).fetchall():
                return
            time.sleep(0.01)
    raise TimeoutError("the merge waits for nothing")


def test_a_load_gives_up_where_partitions_move_at_each_attempt(
    settling: Platform, connection: Connection
) -> None:
    late = iter(range(20, 30))

    def fold() -> None:
        with settling.postgres.connect() as other:
            write(other, "accounts", ("2024-02-05", next(late), "late", 1))
        move_key(settling, "accounts", "2024-02")

    with pytest.raises(LoadConflictError, match="each of 2 attempts to load; nothing was loaded"):
        merge(settling, connection, ("2024-02-01", 1, "newer", 11), during=fold, attempts=2)
    assert owners(settling)[1] == "kept"


def test_a_transaction_that_could_not_see_a_move_is_refused(
    settling: Platform, connection: Connection
) -> None:
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with pytest.raises(RuntimeError, match="READ COMMITTED"):
        merge(settling, connection, ("2024-02-01", 1, "older", 9))
    assert owners(settling)[1] == "kept"


def deliver(platform: Platform, name: str, *rows: Row) -> None:
    folder = platform.settings.data / "accounts"
    folder.mkdir(exist_ok=True)
    lines = [f"{day}T00:00:00Z,{i},{owner},1,2024-05-{may:02}" for day, i, owner, may in rows]
    (folder / name).write_text("\n".join(["opened,id,owner,balance,changed", *lines, ""]))


@pytest.mark.parametrize("moved", [["2024-02"], ["2024-02", "2024-03"]])
def test_a_load_of_the_past_changes_no_row_that_has_settled(
    settling: Platform, moved: list[str]
) -> None:
    for key in moved:
        move_key(settling, "accounts", key)
    deliver(
        settling,
        "late.csv",
        ("2024-02-01", 1, "older", 9),
        ("2024-02-01", 2, "newer", 11),
        ("2024-03-01", 1, "older", 9),
        ("2024-03-01", 4, "new", 1),
    )
    table = settling.table("accounts")
    report = load_table(settling.settings, settling.postgres, settling.clock, table)
    assert (report.rows_read, report.balanced) == (4, True)
    assert owners(settling) == {1: "kept", 2: "newer", 3: "kept"}
    assert owners(settling, "2024-03") == {1: "kept", 2: "kept", 3: "kept", 4: "new"}
    for key in moved:
        move_key(settling, "accounts", key)
    assert owners(settling) == {1: "kept", 2: "newer", 3: "kept"}
