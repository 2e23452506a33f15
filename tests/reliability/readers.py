"""The readers of the torture: sessions over both tiers, and psql, that pause where it hurts."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from lakebed.resources.postgres import Connection, PostgresUnavailableError
from lakebed.resources.session import LakeReadError
from lakebed.resources.settings import Settings
from lakebed.store.platform import Platform, open_platform
from tests.reliability.journal import Journal
from tests.reliability.oracle import Read
from tests.reliability.writers import TABLES
from tests.support.processes import SlowLake

REGISTERS = (
    "select id, count(*)::bigint, count(distinct part)::bigint, min(version), max(version)"
    " from {} group by id"
)
PAUSES = (0.0, 0.0, 0.0, 0.1, 0.4, 2.0)
"""Seconds; the last is a session that holds the horizon for long."""
_ROWS = """
select (select count(*) from keyless),
    (select coalesce(sum(rows), 0)::bigint from lakebed.cold_file
    where table_name = 'keyless' and superseded_at is null)"""
_HOT = "select count(*), coalesce(sum(version), 0)::bigint from {}"
_ERRORS = (duckdb.Error, LakeReadError, PostgresUnavailableError, psycopg.Error)


def read_on(settings: Settings, seed: int, journal: Path, stop: Path) -> None:
    """Read both tables in one session after another, until told to stop."""
    platform, told, chance = open_platform(settings), Journal(journal), random.Random(seed)
    told.write("ready")
    while not stop.exists():
        began = time.monotonic()
        pauses = [chance.choice(PAUSES) for _ in range(4)]
        try:
            for table, rows in read(platform, pauses).items():
                told.write("read", table=table, began=began, ended=time.monotonic(), rows=rows)
        except _ERRORS as error:
            _tell(told, began, error)
        time.sleep(chance.uniform(0, 0.1))


def read(platform: Platform, pauses: Iterable[float] = (0, 0, 0, 0)) -> dict[str, list[Any]]:
    """Return the registers of each table, from one session.

    pauses: after the snapshot, after the manifest, before each scan.
    """
    after_snapshot, after_manifest, *before = pauses
    lake = SlowLake(platform.lake, (after_snapshot, after_manifest))
    found = {}
    with lake.session() as session:
        for table, pause in zip(TABLES, before, strict=True):
            time.sleep(pause)
            found[table] = session.sql(REGISTERS.format(table)).fetchall()
    return found


def as_read(began: float, ended: float, rows: Iterable[Any]) -> Read:
    """Return an answer as the oracle takes it."""
    registers = {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}
    return Read(began, ended, registers)


def count_on(settings: Settings, seed: int, journal: Path, stop: Path) -> None:
    """Count as people in psql do, hot rows and what the manifest says, until told to stop.

    In READ COMMITTED with one statement, in REPEATABLE READ with several and pauses between them;
    there, hot rows must stay what they were.
    """
    platform, told, chance = open_platform(settings), Journal(journal), random.Random(seed)
    told.write("ready")
    while not stop.exists():
        began = time.monotonic()
        try:
            with platform.postgres.connect() as connection:
                if chance.random() < 0.5:
                    rows = _count_at_once(connection)
                else:
                    rows = _count_with_pauses(connection, chance, told)
            told.write("total", began=began, ended=time.monotonic(), rows=rows)
        except _ERRORS as error:
            _tell(told, began, error)
        time.sleep(chance.uniform(0, 0.1))


def _count_at_once(connection: Connection) -> int:
    ((hot, cold),) = connection.execute(_ROWS.encode()).fetchall()
    return int(hot + cold)


def _count_with_pauses(connection: Connection, chance: random.Random, told: Journal) -> int:
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    before = _hot(connection)
    time.sleep(chance.choice(PAUSES))
    rows = _count_at_once(connection)
    time.sleep(chance.choice(PAUSES))
    after = _hot(connection)
    if before != after:
        told.write("unrepeatable", before=before, after=after)
    return rows


def _hot(connection: Connection) -> list[Any]:
    return [connection.execute(_HOT.format(table).encode()).fetchone() for table in TABLES]


def _tell(told: Journal, began: float, error: Exception) -> None:
    text = f"{type(error).__name__}: {error}".strip()
    told.write("error", began=began, ended=time.monotonic(), text=text)
