"""An application that knows nothing of Lakebed: a process that writes to a table all the time."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection as Pipe

import psycopg
from psycopg import sql

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 90
LOCK_TIMEOUT = "2s"
"""What the application puts up with: a longer wait for a lock would be an error."""

Rows = dict[int, tuple[datetime, int]]


@dataclass
class Wrote:
    """What the application believes that the table holds, and how it fared.

    missed: updates and deletes that found no row, as it had just been archived.
    """

    rows: Rows
    statements: int = 0
    missed: int = 0
    longest: float = 0.0
    error: str | None = None


def write(url: str, schema: str, name: str, unique: str, pipe: Pipe) -> None:
    """Write until something comes through the pipe, then send a Wrote. unique: as upserts say."""
    application = _Application(sql.Identifier(schema, name), name, unique)
    try:
        with psycopg.connect(url, autocommit=True, options="-c timezone=UTC") as connection:
            connection.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'".encode())
            while not pipe.poll():
                application.act(connection)
                time.sleep(0.01)
    except psycopg.Error as error:
        application.wrote.error = f"{type(error).__name__}: {error}"
    pipe.send(application.wrote)


class _Application:
    def __init__(self, table: sql.Identifier, name: str, unique: str) -> None:
        self.table, self.name, self.unique = table, name, unique
        self.random = random.Random(unique)
        self.wrote = Wrote({})
        self.next = 0

    def act(self, connection: psycopg.Connection) -> None:
        acts = [self.insert, self.insert, self.update, self.delete, self.upsert, self.both]
        if self.wrote.rows:
            self.random.choice([*acts, self.delete_row])(connection)
        else:
            self.insert(connection)

    def insert(self, connection: psycopg.Connection) -> None:
        for _ in range(10):
            moment = START + timedelta(seconds=self.random.randrange(DAYS * 86400))
            self.next += 1
            self.run(connection, "insert into {} (id, at, n) values (%s, %s, 0)", self.next, moment)
            self.wrote.rows[self.next] = (moment, 0)

    def update(self, connection: psycopg.Connection) -> None:
        for number, value in self.updated(connection, self.some(1)):
            self.wrote.rows[number] = (self.wrote.rows[number][0], value)

    def both(self, connection: psycopg.Connection) -> None:
        """Update several rows in one transaction, in any order."""
        with connection.transaction():
            changed = self.updated(connection, self.some(3))
        for number, value in changed:
            self.wrote.rows[number] = (self.wrote.rows[number][0], value)

    def updated(self, connection: psycopg.Connection, numbers: list[int]) -> list[tuple[int, int]]:
        changed = []
        for number in dict.fromkeys(numbers):
            moment, value = self.wrote.rows[number]
            query = "update {} set n = n + 1 where id = %s and at = %s"
            if self.run(connection, query, number, moment):
                changed.append((number, value + 1))
        return changed

    def delete(self, connection: psycopg.Connection) -> None:
        (number,) = self.some(1)
        moment, _ = self.wrote.rows[number]
        if self.run(connection, "delete from {} where id = %s and at = %s", number, moment):
            del self.wrote.rows[number]

    def upsert(self, connection: psycopg.Connection) -> None:
        (number,) = self.some(1)
        moment, value = self.wrote.rows[number]
        self.run(
            connection,
            f"insert into {{}} (id, at, n) values (%s, %s, %s) on conflict ({self.unique})"  # noqa: S608
            " do update set n = excluded.n",
            number,
            moment,
            value + 100,
        )
        self.wrote.rows[number] = (moment, value + 100)

    def delete_row(self, connection: psycopg.Connection) -> None:
        (number,) = self.some(1)
        moment, _ = self.wrote.rows.pop(number)
        connection.execute(
            "select lakebed.delete_row(%s, jsonb_build_object('id', %s::bigint, 'at', %s))",
            [self.name, number, moment],
        )

    def some(self, count: int) -> list[int]:
        """Choose rows, half of them among the newest."""
        known = list(self.wrote.rows)
        chosen = known[-50:] if self.random.random() < 0.5 else known
        return [self.random.choice(chosen) for _ in range(count)]

    def run(self, connection: psycopg.Connection, query: str, *values: object) -> bool:
        """Run a statement; return whether it met a row."""
        began = time.monotonic()
        done = connection.execute(sql.SQL(query).format(self.table), values).rowcount  # type: ignore[arg-type]
        self.wrote.longest = max(self.wrote.longest, time.monotonic() - began)
        self.wrote.statements += 1
        self.wrote.missed += done == 0
        return done == 1
