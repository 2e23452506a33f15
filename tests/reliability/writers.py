"""The writers of the torture: applications that know nothing of tiers, by plain SQL.

They write whole registers (see oracle.py) into any partition, settled or not, and tell of each
write before they begin it and after it was committed.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from lakebed.resources.postgres import Connection, PostgresUnavailableError
from lakebed.resources.settings import Settings
from lakebed.schema.ddl import ensure_partition_tables
from lakebed.store.platform import Platform, open_platform
from tests.reliability.journal import Journal
from tests.reliability.oracle import GONE, PARTS

WINDOWS = 6
DWELL = 10.0
"""Seconds for which all write into one half of the partitions: the other can settle and be dropped.

A register lies in the partitions of odd numbers or in those of even ones.
"""
TABLES = ("keyed", "keyless")
_START = datetime.fromisoformat("2024-01-01T00:00:00+00:00")
_INSERT = "insert into {} (at, id, part, version) values (%s, %s, %s, %s)"
_UPSERT = (
    _INSERT + " on conflict (at, id) do update set part = excluded.part, version = excluded.version"
)


# What psycopg cannot do any more on a connection that was cut is no news here.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)


class UndoneError(Exception):
    """The writer rolls back: it did not find what it wanted to change, or changed its mind."""


def time_of(register: int, part: int) -> datetime:
    """Return the time of a row: the rows of a register lie in different partitions."""
    window = (register + part * 2) % WINDOWS
    return _START + timedelta(hours=window, seconds=register % 3599)


def rows_of(register: int, version: int) -> list[tuple[datetime, int, int, int]]:
    """Return the rows of a register in the order of time, in which all writers lock them."""
    return sorted((time_of(register, part), register, part, version) for part in range(PARTS))


@dataclass
class Writer:
    """One writer, and the registers that are its own. number: no other writer ever has it."""

    platform: Platform
    journal: Journal
    number: int
    chance: random.Random
    there: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in TABLES})
    deleted: list[int] = field(default_factory=list)
    used: int = 0

    def write(self, connection: Connection) -> None:
        """Write one register, by one of the ways that there are."""
        table = self.chance.choice(TABLES)
        half = int(time.monotonic() / DWELL) % 2
        self.used += 1 + ((self.number * 1_000_000 + self.used + 1) % 2 != half)
        there = [register for register in self.there[table] if register % 2 == half]
        deleted = [register for register in self.deleted if register % 2 == half]
        ways: list[tuple[Callable[..., None], int | None]] = [(insert, None), (copy, None)]
        if there:
            register = self.chance.choice(there)
            ways += [(delete_hot, register)] if table == "keyless" else []
            if table == "keyed":
                ways += [(upsert, register), (update_hot, register), (delete, register)] * 2
        if table == "keyed" and deleted:
            ways.append((insert, self.chance.choice(deleted)))
        how, register = self.chance.choice(ways)
        self._write(connection, table, how, register)

    def _write(
        self,
        connection: Connection,
        table: str,
        how: Callable[..., None],
        old: int | None,
    ) -> None:
        new = self.number * 1_000_000 + self.used
        register = new if old is None else old
        version = GONE if how in (delete, delete_hot) else new
        told = {"table": table, "register": register}
        aborts = self.chance.random() < 0.1
        if old is not None:
            # Whatever comes of it, it is not touched again before that is known.
            self.there[table] = [mine for mine in self.there[table] if mine != old]
            self.deleted = [mine for mine in self.deleted if mine != old]
        # Of a write that is to be aborted nothing is told: no reader may ever see its version.
        if not aborts or version == GONE:
            self.journal.write("begin", **told, version=version, at=time.monotonic())
        try:
            with connection.transaction():
                how(connection, table, register, version)
                time.sleep(self.chance.choice([0, 0, 0, 0.01, 0.1]))
                if aborts:
                    raise UndoneError
        except (UndoneError, psycopg.errors.DeadlockDetected, psycopg.errors.CheckViolation) as why:
            if not aborts or version == GONE:
                self.journal.write("undone", **told)
            self._keep(table, old, how is insert)
            self.journal.write("kept from", why=type(why).__name__)
            if isinstance(why, psycopg.errors.CheckViolation):
                make_leaves(self.platform, connection, table)
            return
        self.journal.write("acknowledged", **told, at=time.monotonic())
        self._keep(table, register, version == GONE)

    def _keep(self, table: str, register: int | None, gone: bool) -> None:
        """Note that a register is this writer's to write again. A keyless one that is gone, is."""
        if register is not None and not gone:
            self.there[table].append(register)
        elif register is not None and table == "keyed":
            self.deleted.append(register)


def insert(connection: Connection, table: str, register: int, version: int) -> None:
    """Insert a register that is new, or was deleted."""
    with connection.cursor() as cursor:
        cursor.executemany(_INSERT.format(table).encode(), rows_of(register, version))


def copy(connection: Connection, table: str, register: int, version: int) -> None:
    """Insert a register that is new, by COPY."""
    query = f"copy {table} (at, id, part, version) from stdin"
    with connection.cursor() as cursor, cursor.copy(query.encode()) as sink:
        for row in rows_of(register, version):
            sink.write_row(row)


def upsert(connection: Connection, table: str, register: int, version: int) -> None:
    """Change a register, wherever its rows are."""
    with connection.cursor() as cursor:
        cursor.executemany(_UPSERT.format(table).encode(), rows_of(register, version))


def delete(connection: Connection, table: str, register: int, version: int) -> None:
    """Delete a register, wherever its rows are."""
    for at, _, _, _ in rows_of(register, version):
        key = Jsonb({"at": at.isoformat(), "id": register})
        connection.execute("select lakebed.delete_row(%s, %s)", [table, key])


def update_hot(connection: Connection, table: str, register: int, version: int) -> None:
    """Change a register if all of its rows are hot."""
    _whole(
        connection.execute(
            f"update {table} set version = %s where at = %s and id = %s".encode(),  # noqa: S608
            [version, at, register],
        ).rowcount
        for at, _, _, _ in rows_of(register, version)
    )


def delete_hot(connection: Connection, table: str, register: int, version: int) -> None:
    """Delete a register if all of its rows are hot."""
    _whole(
        connection.execute(
            f"delete from {table} where at = %s and id = %s".encode(),  # noqa: S608
            [at, register],
        ).rowcount
        for at, _, _, _ in rows_of(register, version)
    )


def _whole(counts: Any) -> None:
    if sum(counts) != PARTS:
        raise UndoneError


def make_leaves(platform: Platform, connection: Connection, name: str) -> None:
    """Make the leaves that a drop took, as a load does before it writes."""
    table = platform.table(name)
    ensure_partition_tables(connection, table, table.windows(platform.clock.now()))


def write_on(
    settings: Settings, number: int, seed: int, journal: Path, stop: Path, pace: float
) -> None:
    """Write until told to stop, on a connection that is opened anew when it is lost.

    pace: seconds between two writes, on average.
    """
    platform = open_platform(settings)
    told, chance = Journal(journal), random.Random(seed)
    writer = Writer(platform, told, number, chance)
    told.write("ready")
    while not stop.exists():
        opened = time.monotonic()
        try:
            with platform.postgres.connect(autocommit=True) as connection:
                while not stop.exists():
                    writer.write(connection)
                    time.sleep(chance.uniform(0, 2 * pace))
        except (psycopg.Error, PostgresUnavailableError) as error:
            text = f"{type(error).__name__}: {error}".strip()
            told.write("error", began=opened, ended=time.monotonic(), text=text)
            time.sleep(0.1)
