"""The torture without luck: every hard moment once, one after another, in one process.

A partition is moved, then folded. While its new file has its name and no transaction names it yet,
somebody reads, writes a late row, and moves the same partition; while the rows are deleted and
nothing is committed, somebody takes a snapshot, by which they read after the house was kept. Every
answer is held against the oracle. Without sabotage nothing is wrong; each sabotage of
`SABOTAGES` takes one safeguard away, and the answers show it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
from psycopg import sql
from pytest import MonkeyPatch

import lakebed.resources.lake
from lakebed.errors import TieringError
from lakebed.resources.manifest import Manifest
from lakebed.resources.read_errors import LakeReadError
from lakebed.resources.session import ReadSession
from lakebed.schema.ddl import ensure_table
from lakebed.spec.partitions import Window
from lakebed.store.platform import Platform
from lakebed.tiering import move as movement
from lakebed.tiering import verified_file
from lakebed.tiering.generations import Generation
from lakebed.tiering.horizon import Horizon
from lakebed.tiering.housekeep import housekeep
from lakebed.tiering.partition import Partition, PartitionBusyError
from tests.reliability.oracle import Oracle
from tests.reliability.readers import REGISTERS, as_read
from tests.reliability.writers import WINDOWS, insert, make_leaves
from tests.support.processes import elsewhere

TABLE = "keyless"

Sabotage = Callable[[MonkeyPatch, Platform], None]


@dataclass
class Gauntlet:
    """One run. violations: of readers.  refused: why a move did not happen."""

    platform: Platform
    oracle: Oracle = field(default_factory=Oracle)
    violations: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    written: int = 0

    def run(self) -> None:
        """Write, move, fold; at each hard moment do what hurts."""
        table = self.platform.table(TABLE)
        with self.platform.postgres.connect(autocommit=True) as connection:
            ensure_table(connection, table)
            make_leaves(self.platform, connection, TABLE)
        for _ in range(WINDOWS):
            self.write()
        window = next(iter(table.windows(self.platform.clock.now())))
        for _ in ("move", "fold"):
            with ExitStack() as stack:
                snapshots: list[tuple[float, ReadSession]] = []

                def at(step: str, stack: Any = stack, snapshots: Any = snapshots) -> None:
                    if step == "copied":
                        self.read()
                        self.write()
                        self.move(window)
                    if step == "deleted":
                        session = stack.enter_context(self.platform.lake.session())
                        snapshots.append((time.monotonic(), session))

                self.move(window, at)
                housekeep(self.platform, [table])
                for began, session in snapshots:
                    self.ask(began, session)
            self.read()

    def write(self) -> None:
        """Write the next register of those that have a row in the first partition."""
        self.written += 1
        register = self.written * WINDOWS
        self.oracle.begin(register, register, time.monotonic())
        with self.platform.postgres.connect() as connection:
            insert(connection, TABLE, register, register)
        self.oracle.acknowledge(register, time.monotonic())

    def move(self, window: Window, on_step: Callable[[str], None] = lambda step: None) -> None:
        """Move a partition; note why not. One at a time is how it must be."""
        try:
            table = self.platform.table(TABLE)
            movement.move(self.platform.lake, table, window, on_step=on_step, attempts=1)
        except PartitionBusyError:
            pass
        except TieringError as error:
            self.refused.append(str(error))

    def read(self) -> None:
        """Read by a snapshot of now."""
        began = time.monotonic()
        with self.platform.lake.session() as session:
            self.ask(began, session)

    def ask(self, began: float, session: ReadSession) -> None:
        """Read by a snapshot, and hold the answer against the oracle."""
        try:
            rows = session.sql(REGISTERS.format(TABLE)).fetchall()
        except (duckdb.Error, LakeReadError) as error:
            self.violations.append(f"a reader got no answer: {error}")
        else:
            self.violations += self.oracle.check(as_read(began, time.monotonic(), rows))


class _ReadCommitted:
    """A DuckDB whose transactions in PostgreSQL have a new snapshot for every statement."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, text: str, *more: Any) -> Any:
        writing = "(type postgres, secret lakebed)"
        loose = "(type postgres, secret lakebed, isolation_level 'READ COMMITTED')"
        return self._connection.execute(text.replace(writing, loose), *more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def no_snapshot(patch: MonkeyPatch, platform: Platform) -> None:
    """The move reads and deletes in READ COMMITTED."""
    open_duckdb = lakebed.resources.lake._in_memory

    @contextmanager
    def loose(extensions: Sequence[str]) -> Iterator[Any]:
        with open_duckdb(extensions) as connection:
            yield _ReadCommitted(connection)

    patch.setattr(lakebed.resources.lake, "_in_memory", loose)


def no_delete(patch: MonkeyPatch, platform: Platform) -> None:
    """The move leaves the hot rows where they are."""
    patch.setattr(Partition, "delete_hot", lambda self: None)


def lossy_copy(patch: MonkeyPatch, platform: Platform) -> None:
    """The file lacks a row. This is no sabotage yet: the verification finds it."""
    write = verified_file._copy

    def copy(partition: Partition, rows: sql.Composable, *args: Any, **more: Any) -> None:
        write(partition, sql.SQL("from ({}) offset 1").format(rows), *args, **more)

    patch.setattr(verified_file, "_copy", copy)


def no_verification(patch: MonkeyPatch, platform: Platform) -> None:
    """The file lacks a row, and nobody looks."""
    lossy_copy(patch, platform)
    patch.setattr(verified_file, "_verify", lambda hot, file, expected: None)


def no_lock(patch: MonkeyPatch, platform: Platform) -> None:
    """Two movers of one partition at once. This is no sabotage yet: the second cannot commit."""
    patch.setattr(Partition, "lock", lambda self: None)


def no_generation_check(patch: MonkeyPatch, platform: Platform) -> None:
    """The manifest takes a second live generation; nothing of it is done in one transaction."""
    no_lock(patch, platform)
    with platform.postgres.connect() as connection:
        connection.execute("drop index lakebed.cold_file_live")
    supersede, record, delete = movement.supersede, movement.record, Partition.delete_hot
    patch.setattr(Partition, "_check_gone", lambda self: None)

    def supersede_elsewhere(partition: Partition, old: Generation) -> None:
        with elsewhere(platform, partition):
            supersede(partition, old)

    def record_elsewhere(partition: Partition, written: Any) -> None:
        with elsewhere(platform, partition):
            record(partition, written)

    def delete_elsewhere(partition: Partition) -> None:
        with elsewhere(platform, partition):
            delete(partition)

    patch.setattr(Partition, "delete_hot", delete_elsewhere)
    patch.setattr(movement, "supersede", supersede_elsewhere)
    patch.setattr(movement, "record", record_elsewhere)


def no_horizon(patch: MonkeyPatch, platform: Platform) -> None:
    """Files go while snapshots name them."""
    patch.setattr(Horizon, "blind_to", lambda self, xid: [])


def horizon_off_by_one(patch: MonkeyPatch, platform: Platform) -> None:
    """A snapshot whose xmin is the very transaction does not count: > in place of >=."""
    patch.setattr(Horizon, "blind_to", lambda self, xid: [h for h in self.holders if xid > h.xmin])


def no_manifest(patch: MonkeyPatch, platform: Platform) -> None:
    """Readers take the files that lie in the lake."""
    fill = Manifest.fill

    def fill_by_glob(self: Manifest, parts: Any) -> None:
        fill(self, parts)
        for part in parts:
            taken = sql.SQL("set variable {} = (select list(file) from glob({}))").format(
                sql.Identifier(part.variable),
                sql.Literal(platform.lake.files.address(f"{TABLE}/**/*.parquet")),
            )
            self._connection.execute(taken.as_string())

    patch.setattr(Manifest, "fill", fill_by_glob)


SABOTAGES: dict[str, tuple[Sabotage, str]] = {
    "no snapshot": (no_snapshot, "has 2 rows, 2 of its 3 parts"),
    "no delete": (no_delete, "has 4 rows, 3 of its 3 parts"),
    "no verification": (no_verification, "has 2 rows, 2 of its 3 parts"),
    "no generation check": (no_generation_check, "has 4 rows, 3 of its 3 parts"),
    "no horizon": (no_horizon, "a reader got no answer"),
    "a horizon off by one": (horizon_off_by_one, "a reader got no answer"),
    "no manifest": (no_manifest, "has 4 rows, 3 of its 3 parts"),
}
"""Name -> what takes a safeguard away, and what a reader sees then."""
