"""The eraser of the torture: what it erases is gone, and in no file of the lake, named or not."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import duckdb
import psycopg

from lakebed.errors import TieringError
from lakebed.store.platform import Platform
from lakebed.tiering.erase import erase
from tests.reliability.faults import Doom
from tests.reliability.journal import Journal
from tests.reliability.oracle import GONE
from tests.reliability.writers import TABLES, insert, make_leaves


@dataclass
class Eraser:
    """Writes registers of its own, lets them settle for a while, and erases them.

    number: no writer and no other eraser ever has it.
    """

    platform: Platform
    journal: Journal
    number: int
    used: int = 0

    def erase_one(self, platform: Platform, chance: random.Random, doom: Doom) -> str:
        """Erase what one who was killed has left half done; else a register of its own."""
        with platform.postgres.connect() as connection:
            open_erasures = connection.execute(
                "select table_name, predicate from lakebed.erasure where finished_at is null"
            ).fetchall()
        for table, predicate in open_erasures:
            self._erase(table, int(predicate.removeprefix("id = ")), doom)
            return "erasure of one who was killed"
        self.used += 1
        table, register = chance.choice(TABLES), self.number * 1_000_000 + self.used
        told = {"table": table, "register": register}
        self.journal.write("begin", **told, version=register, at=time.monotonic())
        try:
            with platform.postgres.connect() as connection:
                insert(connection, table, register, register)
        except psycopg.errors.CheckViolation:  # the housekeeper dropped a leaf, as it may
            self.journal.write("undone", **told)
            with platform.postgres.connect(autocommit=True) as connection:
                make_leaves(platform, connection, table)
            return "leaves for an erasure"
        self.journal.write("acknowledged", **told, at=time.monotonic())
        time.sleep(chance.uniform(0, 1.0))
        self.journal.write("begin", **told, version=GONE, at=time.monotonic(), piecewise=True)
        self._erase(table, register, doom)
        return "erasure"

    def _erase(self, name: str, register: int, doom: Doom) -> None:
        self.journal.write("destroying", at=time.monotonic())
        table = self.platform.table(name)
        done = erase(self.platform, table, f"id = {register}", keep_text=True, on_step=doom.on_step)
        self.journal.write("destroyed", at=time.monotonic())
        if done.failed:
            raise TieringError("; ".join(done.failed))
        self.journal.write("acknowledged", table=name, register=register, at=time.monotonic())
        for path in self._files_with(name, register):
            text = f"{path} still holds register {register}, which was erased"
            self.journal.write("violation", text=f"{text}; {self._told_of(path)}")

    def _told_of(self, path: str) -> str:
        """Return what PostgreSQL knows of a file."""
        with self.platform.postgres.connect() as connection:
            rows = connection.execute(
                "select generation, superseded_at, removed_at, clock_timestamp()"
                " from lakebed.cold_file where path = %s",
                [path],
            ).fetchall()
        return f"the manifest says {rows}"

    def _files_with(self, name: str, register: int) -> list[str]:
        """Return the files of a table that hold a row of a register, whoever names them."""
        found = []
        with duckdb.connect() as connection:
            for file in self.platform.lake.files.listing(name):
                address = self.platform.lake.files.address(file.path)
                try:
                    rows = connection.execute(
                        "select count(*) from read_parquet([?]) where id = ?", [address, register]
                    ).fetchall()[0][0]
                except duckdb.Error:
                    continue  # taken away meanwhile, or not written to its end
                if rows:
                    found.append(str(file.path))
        return found
