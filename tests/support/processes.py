"""Real processes for the tests: movers, loaders and readers, with a kill or a sabotage built in.

They come from a fork server that has imported everything once, so that each starts in no time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import sql

import lakebed.resources.lake
from lakebed.ingest import transaction, writers
from lakebed.ingest.load import load_table
from lakebed.ingest.retry import retry_rejects
from lakebed.models.materialize import build_model
from lakebed.models.runner import models_of
from lakebed.pgcopy.encoding import copy_rows
from lakebed.resources.lake import Lake
from lakebed.resources.settings import Settings
from lakebed.spec.partitions import window_for_key
from lakebed.store.fingerprint import fingerprint_query, read_fingerprint
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering import move as movement
from lakebed.tiering import restore as restoring
from lakebed.tiering.lake_copies import write_due_copies
from lakebed.tiering.move import move
from lakebed.tiering.partition import Partition
from lakebed.tiering.report import Moved
from lakebed.tiering.restore import restore

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.support.processes", "lakebed.resources.dlt_pipelines", "lakebed.resources.object_store"]
)
PATIENCE = 120.0

Answer = tuple[Any, ...]


def run(target: Callable[..., None], *args: Any) -> int:
    """Run a function in a process of its own; return its exit code, -9 after SIGKILL."""
    process = CONTEXT.Process(target=target, args=args)
    process.start()
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{target.__name__} did not end within {PATIENCE} s")
    return process.exitcode


def command(environment: dict[str, str], arguments: list[str]) -> None:
    """Run the command `lakebed`."""
    from lakebed.cli import main as cli

    os.environ.update(environment)
    cli.main(arguments)


def kill_at(label: str | None) -> Callable[[str], None]:
    """Return an on_step that ends its own process without a goodbye at one step."""

    def on_step(step: str) -> None:
        if step == label:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_step


def move_many(
    settings: Settings, name: str, keys: list[str], kill: str | None, sabotage: str | None
) -> None:
    """Move partitions one after another."""
    platform = open_platform(settings)
    table = platform.table(name)
    if sabotage:
        MOVE_SABOTAGES[sabotage](platform)
    for key in keys:
        window = window_for_key(table.require_partitioning.grain, key)
        move(platform.lake, table, window, on_step=kill_at(kill))


def build_one(settings: Settings, name: str, kill: str | None) -> None:
    """Build one model of a folder without tables."""
    platform = open_platform(settings, tables=())
    models = models_of(platform)
    build_model(platform, models, models.get(name), on_step=kill_at(kill))


def restore_all(
    settings: Settings, name: str, keys: list[str], kill: str | None, sabotage: str | None
) -> None:
    """Restore partitions one after another."""
    platform = open_platform(settings)
    table = platform.table(name)
    if sabotage:
        RESTORE_SABOTAGES[sabotage](platform)
    for key in keys:
        window = window_for_key(table.require_partitioning.grain, key)
        restore(
            *(platform.postgres, platform.lake, table, window, platform.clock.now()),
            on_step=kill_at(kill),
        )


def move_and_die(settings: Settings, name: str, key: str, delay: float) -> None:
    """Move one partition and die some seconds after it was locked, wherever that is."""

    def on_step(label: str) -> None:
        if label == "locked":
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    move_key(open_platform(settings), name, key, on_step=on_step)


def move_and_stop(settings: Settings, name: str, key: str, step: str) -> None:
    """Move one partition, but stop at a step until somebody sends SIGCONT."""

    def on_step(label: str) -> None:
        if label == step:
            os.kill(os.getpid(), signal.SIGSTOP)

    move_key(open_platform(settings), name, key, on_step=on_step)


def load(settings: Settings, name: str, kill: str | None, sabotage: str | None) -> None:
    """Load one table."""
    platform = open_platform(settings)
    if sabotage:
        LOAD_SABOTAGES[sabotage](platform)
    load_table(
        settings, platform.postgres, platform.clock, platform.table(name), on_step=kill_at(kill)
    )


def keep_snapshot(settings: Settings, name: str, kill: str | None) -> None:
    """Take the snapshots that are due of one table."""
    platform = open_platform(settings)
    write_due_copies(platform, platform.table(name), on_step=kill_at(kill))


def retry(settings: Settings, name: str, kill: str | None) -> None:
    """Load the rejected rows of one table again."""
    platform = open_platform(settings)
    retry_rejects(
        settings, platform.postgres, platform.clock, platform.table(name), on_step=kill_at(kill)
    )


def read_on(
    settings: Settings,
    query: str,
    ready: Any,
    stop: Any,
    answers: Any,
    pauses: tuple[float, float],
    sabotage: bool,
) -> None:
    """Ask one query in session after session until told to stop; put all answers at the end.

    pauses: seconds between the snapshot and the manifest, and between the manifest and the scan.
    """
    platform = open_platform(settings)
    lake = SlowLake(platform.lake, pauses)
    if sabotage:
        _read_manifest_in_its_own_transaction()
    found: list[Answer] = []
    while True:
        last = stop.is_set()
        with lake.session() as session:
            found.append(tuple(session.sql(query).fetchall()[0]))
        ready.release()
        if last:
            break
    answers.put(found)


class SlowLake(Lake):
    """A lake whose readers pause at the places where a move would hurt a naive one."""

    def __init__(self, lake: Lake, pauses: tuple[float, float]) -> None:
        super().__init__(lake.files, lake._postgres, list(lake._tables.values()))
        self._pauses = pauses

    def _session(self, *args: Any) -> Any:
        time.sleep(self._pauses[0])  # the snapshot is taken, the manifest is not read
        session = super()._session(*args)
        time.sleep(self._pauses[1])
        return session


@contextmanager
def readers(
    settings: Settings, query: str, pauses: list[tuple[float, float]], *, sabotage: bool = False
) -> Iterator[list[list[Answer]]]:
    """Read without pause while the block runs; afterwards the list holds each reader's answers."""
    ready, stop = CONTEXT.Semaphore(0), CONTEXT.Event()
    queues = [CONTEXT.Queue() for _ in pauses]
    processes = [
        CONTEXT.Process(target=read_on, args=(settings, query, ready, stop, queue, pause, sabotage))
        for queue, pause in zip(queues, pauses, strict=True)
    ]
    answers: list[list[Answer]] = []
    for process in processes:
        process.start()
    try:
        for _ in processes:
            assert ready.acquire(timeout=PATIENCE), "a reader gave no answer"
        yield answers
        stop.set()
        answers += [queue.get(timeout=PATIENCE) for queue in queues]
    finally:
        for process in processes:
            process.kill() if not answers else process.join(PATIENCE)


def all_rows(platform: Platform, name: str) -> Any:
    """Return the fingerprint of a whole table, hot and cold, as a reader sees it."""
    columns = platform.table(name).columns
    query = fingerprint_query(columns, sql.Identifier(name), "duckdb").as_string()
    with platform.lake.session() as session:
        return read_fingerprint(columns, session.connection.execute(query).fetchall()[0])


def move_key(platform: Platform, name: str, key: str, **more: Any) -> Moved:
    """Move one partition in this process."""
    table = platform.table(name)
    return move(platform.lake, table, window_for_key(table.require_partitioning.grain, key), **more)


@contextmanager
def elsewhere(platform: Platform, partition: Partition) -> Iterator[None]:
    """Have what the partition is told happen on a connection of its own."""

    def do(statement: sql.Composable) -> None:
        with platform.postgres.connect(autocommit=True) as connection:
            connection.execute(statement)

    partition.do = do  # type: ignore[method-assign]
    try:
        yield
    finally:
        del partition.do


def _record_before_the_delete(platform: Platform) -> None:
    """Sabotage: the manifest entry is committed on a connection of its own."""
    record = movement.record

    def record_elsewhere(partition: Partition, written: Any) -> None:
        with elsewhere(platform, partition):
            record(partition, written)
        time.sleep(0.3)

    movement.record = record_elsewhere  # type: ignore[attr-defined]


def _delete_before_the_commit(platform: Platform) -> None:
    """Sabotage: the hot rows are deleted on a connection of its own."""

    def delete_elsewhere(self: Partition) -> None:
        with elsewhere(platform, self):
            self.do(sql.SQL("delete from {} where {}").format(self.hot, self.in_window))
        time.sleep(0.8)

    Partition.delete_hot = delete_elsewhere  # type: ignore[method-assign]


def _supersede_before_the_commit(platform: Platform) -> None:
    """Sabotage: the generation is superseded on a connection of its own."""
    supersede = restoring.supersede

    def supersede_elsewhere(partition: Partition, old: Any) -> None:
        with elsewhere(platform, partition):
            supersede(partition, old)
        time.sleep(1.5)

    restoring.supersede = supersede_elsewhere  # type: ignore[attr-defined]


def _read_manifest_in_its_own_transaction() -> None:
    """Sabotage of a reader: the manifest comes from another snapshot than the rows."""
    take = lakebed.resources.lake.take_manifest

    def take_then_commit(connection: Any, *args: Any) -> Any:
        manifest = take(connection, *args)
        connection.execute("commit")
        connection.execute("begin")
        return manifest

    lakebed.resources.lake.take_manifest = take_then_commit


def _forget_the_files(platform: Platform) -> None:
    """Sabotage: the load does not enter its files into the ledger."""
    transaction._enter_files = lambda connection, package: None


def _write_in_another_transaction(platform: Platform) -> None:
    """Sabotage: the rows are committed on a connection of their own, before the ledger is."""

    def copy_elsewhere(self: Any, parquet: Path) -> None:
        with platform.postgres.connect() as other:
            self.arrived += copy_rows(other, writers.target_of(self.table), self.wire, parquet)
        self.sent = self.arrived

    writers.AppendWriter.copy = copy_elsewhere  # type: ignore[method-assign]


MOVE_SABOTAGES: dict[str, Callable[[Platform], None]] = {
    "record before the delete": _record_before_the_delete,
    "delete before the commit": _delete_before_the_commit,
}
RESTORE_SABOTAGES: dict[str, Callable[[Platform], None]] = {
    "supersede before the commit": _supersede_before_the_commit,
}
LOAD_SABOTAGES: dict[str, Callable[[Platform], None]] = {
    "forget the files": _forget_the_files,
    "write in another transaction": _write_in_another_transaction,
}
