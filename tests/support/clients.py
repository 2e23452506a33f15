"""A stock DuckDB with the extension ducklake, as a user has it who never installed Lakebed."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

import duckdb
import psycopg
import pytest

from lakebed.doors.attach_recipes import attach_statement, connection_string
from lakebed.errors import LakebedError
from lakebed.resources.extensions import in_memory
from lakebed.resources.settings import Settings
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.restore import restore
from tests.support.processes import CONTEXT, PATIENCE, move_key
from tests.support.tiers import EACH, MONTHS

needs_ducklake = pytest.mark.skipif(
    find_spec("duckdb_extension_ducklake") is None,
    reason="the wheel duckdb-extension-ducklake is not installed",
)


@contextmanager
def attached(
    platform: Platform, user: str | None = None, *, read_only: bool = True
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Attach the catalog as `lakebed attach` says, and use it.

    Args:
        platform: The platform, whose catalog was written.
        user: The role that reads, by default that of the platform.
        read_only: Whether the client says so.
    """
    statement = attach_statement(connection_string(platform))
    if user is not None:
        statement = statement.replace("user=postgres", f"user={user}")
        assert f"user={user}" in statement
    if not read_only:
        statement = statement.replace(", READ_ONLY", "")
    with in_memory(["postgres_scanner", "ducklake"]) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(statement)
        connection.execute("use lake")
        yield connection


def asked(platform: Platform, query: str) -> list[Any]:
    """Return what a fresh client sees."""
    with attached(platform) as connection:
        return connection.execute(query).fetchall()


def read_on(settings: Settings, queries: list[str], ready: Any, stop: Any, answers: Any) -> None:
    """Ask in one attached client until told to stop; each query is a transaction of its own.

    Puts a list of what all queries answered, for each round.
    """
    found = []
    with attached(open_platform(settings)) as client:
        while not stop.is_set():
            found.append([client.execute(query).fetchall()[0] for query in queries])
            ready.release()
    answers.put(found)


def move_on(settings: Settings, stop: Any, moves: Any) -> None:
    """Move, compact and restore the months of both tables until told to stop."""
    platform = open_platform(settings)
    chance, done = random.Random(1), 0
    while not stop.is_set():
        for name in ("readings", "accounts"):
            key = chance.choice(MONTHS)
            table = platform.table(name)
            # Nothing cold to restore, or a writer holds the partition: the next one, then.
            with suppress(LakebedError, psycopg.OperationalError):
                if chance.random() < 0.2:
                    window = window_for_key(table.require_partitioning.grain, key)
                    restore(platform.postgres, platform.lake, table, window, platform.clock.now())
                else:
                    move_key(platform, name, key)
                    done += 1
    moves.put(done)


def write_on(settings: Settings, stop: Any) -> None:
    """Write until told to stop, so that every snapshot has the same sums.

    Accounts are overwritten, and deleted and inserted again; readings come in pairs of a number
    and its negative.
    """
    platform = open_platform(settings)
    chance = random.Random(2)
    with platform.postgres.connect() as connection:
        while not stop.is_set():
            number = chance.randrange(len(MONTHS) * EACH)
            at = f"{MONTHS[number // EACH]}-01T00:00:00Z"
            opened = "%s::timestamptz + %s * interval '1 minute'"
            if chance.random() < 0.3:
                connection.execute(
                    "select lakebed.delete_row('accounts', jsonb_build_object('opened',"
                    f" {opened}, 'id', %s::bigint))",
                    [at, number, number],
                )
            connection.execute(
                f"insert into accounts values ({opened}, %s, 'again', 1, now())"  # noqa: S608
                " on conflict (opened, id) do update set owner = 'again', changed = now()",
                [at, number, number],
            )
            connection.execute(
                "insert into readings select %s::timestamptz + interval '1 day', 'pair', 0, n"
                " from unnest(array[%s, -%s::bigint]) n",
                [at, number, number],
            )
            connection.commit()
            time.sleep(0.02)  # a move gives way to a partition that is written without pause


@contextmanager
def attached_readers(
    settings: Settings, queries: list[str], number: int = 2
) -> Iterator[dict[str, Any]]:
    """Let clients read, a mover move and a writer write while the block runs.

    Afterwards the dictionary has `answers`, a list of rounds, and `moves`, how many there were.
    """
    ready, stop = CONTEXT.Semaphore(0), CONTEXT.Event()
    answers, moves = CONTEXT.Queue(), CONTEXT.Queue()
    processes = [
        CONTEXT.Process(target=read_on, args=(settings, queries, ready, stop, answers))
        for _ in range(number)
    ]
    processes += [
        CONTEXT.Process(target=move_on, args=(settings, stop, moves)),
        CONTEXT.Process(target=write_on, args=(settings, stop)),
    ]
    outcome: dict[str, Any] = {}
    for process in processes:
        process.start()
    try:
        assert ready.acquire(timeout=PATIENCE), "no client gave an answer"
        yield outcome
        stop.set()
        outcome["answers"] = [
            round for _ in range(number) for round in answers.get(timeout=PATIENCE)
        ]
        outcome["moves"] = moves.get(timeout=PATIENCE)
        for process in processes:
            process.join(PATIENCE)
        assert [process.exitcode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
