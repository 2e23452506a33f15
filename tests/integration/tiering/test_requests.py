"""Moves asked for from psql: refused where they make no sense, answered with what was moved."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest

from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.pending import answer_requests, waiting
from lakebed.tiering.requests import Ended, open_requests, record_heartbeat, take
from tests.conftest import open_folder, settings_for
from tests.support.debian import debian_server, is_installed
from tests.support.processes import move_key

KEYS = ["2024-01", "2024-02", "2024-06"]
CRON = ("shared_preload_libraries = 'pg_cron'", "cron.use_background_workers = on")


def fill(platform: Platform) -> None:
    """Make the readings: ten rows in each of three months."""
    table = platform.table("readings")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(
            connection, table, [window_for_key(table.require_partitioning.grain, k) for k in KEYS]
        )
        for key in KEYS:
            connection.execute(
                "insert into readings select %s::timestamptz + i * interval '1 day', 's', i, i"
                " from generate_series(0, 9) i",
                [f"{key}-01T00:00:00Z"],
            )


@pytest.fixture
def filled(platform: Platform) -> Platform:
    fill(platform)
    return platform


def execute(platform: Platform, query: str, *params: Any) -> list[Any]:
    with platform.postgres.connect(autocommit=True) as connection:
        done = connection.execute(query, params)
        return done.fetchall() if done.description else []


def tick(platform: Platform, *ended: Ended) -> list[str]:
    """Do what the sensor does; return the partitions that it would start."""
    table, now = platform.table("readings"), platform.clock.now()
    with platform.postgres.connect(autocommit=True) as connection:
        record_heartbeat(connection, table)
        requests = answer_requests(connection, table, now, ended)
        take(connection, requests)
        return [window.key for window in waiting(connection, table, now, requests)]


def answers(platform: Platform) -> list[str | None]:
    found = execute(platform, "select answer from lakebed.tier_request order by tier_request_id")
    return [answer for (answer,) in found]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("lakebed.request_move('nothing', '1 day')", "nothing is not a known tiered table"),
        ("lakebed.request_move(null, '1 day')", "null is not a known tiered table"),
        ("lakebed.request_move('readings', '-1 day')", "older_than is -1 days"),
        ("lakebed.request_move('readings', '2000 years')", "older_than is 2000 years"),
        ("lakebed.request_move('readings', null)", "older_than is null"),
        ("lakebed.answer_to(99)", "request 99 does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(filled: Platform, call: str, message: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        execute(filled, f"select {call}")
    assert message in (caught.value.diag.message_primary or "")
    assert caught.value.diag.message_hint
    assert answers(filled) == []


def test_a_request_tells_where_nobody_looks_for_it(filled: Platform) -> None:
    for looked, expected in ((False, ["requests for readings have not been answered"]), (True, [])):
        notices: list[str] = []
        with filled.postgres.connect(autocommit=True) as connection:
            if looked:
                record_heartbeat(connection, filled.table("readings"))
            connection.add_notice_handler(
                lambda found, into=notices: into.append(found.message_primary or "")
            )
            connection.execute("select lakebed.request_move('readings', '1 day')")
        assert [notice.partition(" since")[0] for notice in notices] == expected


def test_a_request_is_answered_when_its_moves_have_ended(filled: Platform) -> None:
    for key in KEYS[:2]:
        move_key(filled, "readings", key)
    execute(filled, "select lakebed.request_move('readings', '0 days')")
    assert tick(filled) == ["2024-06"]
    assert answers(filled) == [None]
    move_key(filled, "readings", "2024-06")
    assert tick(filled) == []
    assert answers(filled) == ["moved 1 partition: 2024-06, 10 rows in the lake"]


def test_a_request_with_nothing_to_move_is_answered_at_once(filled: Platform) -> None:
    for key in KEYS:
        move_key(filled, "readings", key)
    execute(filled, "select lakebed.request_move('readings', interval '1 month')")
    execute(filled, "select lakebed.request_move('readings', interval '100 years')")
    assert tick(filled) == []
    assert answers(filled) == [
        "nothing moved: no hot row before 2024-06-01 00:00 UTC waits",
        "nothing moved: no partition of the table ended that long ago",
    ]


def test_a_request_whose_moves_failed_says_why(filled: Platform) -> None:
    execute(filled, "select lakebed.request_move('readings', '0 days')")
    with filled.postgres.connect(autocommit=True) as connection:
        table, now = filled.table("readings"), filled.clock.now()
        before = take(connection, [])
        taken = take(connection, open_requests(connection, table, now))
    move_key(filled, "readings", "2024-01")
    assert tick(filled, Ended(before, "an older one")) == ["2024-02", "2024-06"]
    with filled.postgres.connect(autocommit=True) as connection:
        (request,) = open_requests(connection, table, now)
    assert request.taken_at is not None
    assert request.taken_at > taken
    tick(filled, Ended(request.taken_at), Ended(request.taken_at, "disk full"))
    assert answers(filled) == [
        "not all was moved: disk full; moved 1 partition: 2024-01, 10 rows in the lake"
    ]


def test_a_person_can_wait_for_the_answer(filled: Platform) -> None:
    number = execute(filled, "select lakebed.request_move('readings', '0 days')")[0][0]
    found: list[Any] = []
    wait = Thread(
        target=lambda: found.extend(execute(filled, "select lakebed.answer_to(%s)", number))
    )
    wait.start()
    for key in KEYS:
        move_key(filled, "readings", key)
    tick(filled)
    wait.join(30)
    assert found == [("moved 3 partitions: 2024-01 to 2024-06, 30 rows in the lake",)]


def test_nobody_waits_for_ever_nor_for_what_nobody_sees(filled: Platform) -> None:
    number = execute(filled, "select lakebed.request_move('readings', '0 days')")[0][0]
    with pytest.raises(psycopg.errors.QueryCanceled, match="no answer to request"):
        execute(filled, "select lakebed.answer_to(%s, interval '0.1 seconds')", number)
    with (
        filled.postgres.connect() as connection,
        pytest.raises(psycopg.errors.ActiveSqlTransaction, match="is not committed"),
    ):
        row = connection.execute("select lakebed.request_move('readings', '0 days')").fetchone()
        connection.execute("select lakebed.answer_to(%s)", row)


def test_the_status_view_shows_each_partition(filled: Platform) -> None:
    move_key(filled, "readings", "2024-01")
    move_key(filled, "readings", "2024-02")
    execute(filled, "insert into readings values ('2024-02-20Z', 'late', 1, 1)")
    execute(filled, "update lakebed.tier_policy set hot_for = interval '100 years'")
    query = (
        "select partition_key, state, hot_rows > 0, cold_rows, cold_bytes > 0, moved_at is not null"
        " from lakebed.tier_status where table_name = 'readings' order by 1"
    )
    expected = [
        ("2024-01", "cold", False, 10, True, True),
        ("2024-02", "late", True, 10, True, True),
        ("2024-06", "hot", True, None, None, False),
    ]
    assert execute(filled, query) == expected
    execute(filled, "update lakebed.tier_policy set hot_for = interval '0'")
    assert execute(filled, query)[2][:2] == ("2024-06", "due")
    execute(filled, "drop table readings")
    assert [row[:2] for row in execute(filled, query)] == [("2024-01", "cold"), ("2024-02", "cold")]


@pytest.mark.slow
@pytest.mark.skipif(
    not is_installed("pg_cron"),
    reason="Debian's postgresql-15-cron is not installed",
)
@pytest.mark.thorough
def test_pg_cron_asks_and_is_answered(tmp_path: Path) -> None:
    with open_folder() as folder, debian_server(folder, *CRON) as url:
        platform = open_platform(settings_for(tmp_path, url))
        fill(platform)
        execute(platform, "create extension pg_cron")
        job = "select lakebed.request_move('readings', interval '0 days')"
        execute(platform, "select cron.schedule('settle', '* * * * *', %s)", job)
        deadline = time.monotonic() + timedelta(seconds=90).total_seconds()
        while not answers(platform) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert tick(platform) == KEYS
        for key in KEYS:
            move_key(platform, "readings", key)
        tick(platform)
        assert answers(platform)[0] == (
            "moved 3 partitions: 2024-01 to 2024-06, 30 rows in the lake"
        )
        ran = "select distinct status from cron.job_run_details where status <> 'running'"
        assert execute(platform, ran) == [("succeeded",)]
