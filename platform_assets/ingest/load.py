"""The load of one table: what is new in its source, through the contract and dlt, into PostgreSQL.

What was loaded is told by the ledger in PostgreSQL alone: an item at one version is loaded once. An
item that cannot be loaded is left out and named in the report; the others go on without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import psycopg

from platform_assets.catalog import SourceTable
from platform_assets.ingest.contract import columns_to_read
from platform_assets.ingest.incremental import Pending, Refused, last_cursor, pending_files
from platform_assets.ingest.package import format_cursor
from platform_assets.ingest.report import Commit, LoadReport, report_of
from platform_assets.ingest.sources.reader import Reader, SourceError
from platform_assets.ingest.sources.readers import reader_of
from platform_assets.ingest.statistics import analyze
from platform_assets.ingest.stream import Stream
from platform_assets.ingest.transaction import Step
from platform_assets.quality.ddl import ensure_leaves_ahead, ensure_table
from resources.clock import Clock
from resources.postgres import Connection, Postgres
from resources.settings import Settings

WAIT_FOR_OTHER_LOAD = "60s"


class LoadBusyError(RuntimeError):
    """Another load of the same table runs and did not end in time."""


def load_table(
    settings: Settings,
    postgres: Postgres,
    clock: Clock,
    table: SourceTable,
    *,
    on_rows: Callable[[int], None] = lambda rows: None,
    on_step: Step = lambda step: None,
) -> LoadReport:
    """Load what is new in a table's source. on_rows is told the rows of each batch.

    Raises LoadBusyError, DriftError, LoadConflictError, TableError, PostgresUnavailableError; a
    fault of a single file is in the report.
    """
    started = time.monotonic()
    reader = reader_of(table.sourced, settings)

    def load(items: list[Pending], connection: Connection, folder: str) -> Commit:
        stream = Stream(
            settings.home / "dlt" / folder,
            postgres,
            table,
            reader,
            started_at=clock.now(),
            cursor=cursor,
            on_rows=on_rows,
            on_step=on_step,
        )
        return stream.run(connection, items)

    with postgres.connect(autocommit=True) as connection, _alone(connection, table):
        ensure_table(connection, table)
        ensure_leaves_ahead(connection, table, clock.now())
        pending, refused = pending_files(connection, table, reader.find())
        pending, more = _readable(table, reader, pending)
        cursor = last_cursor(connection, table)
        if table.parallel_files > 1 and len(pending) > 1:
            commits, refusals = _apart(postgres, table, pending, load)
        else:
            commits, refusals = _together(connection, table, pending, load)
        for commit in commits:
            written = commit.counts.inserted + commit.counts.updated
            analyze(connection, table, commit.package.windows, written)
        seconds = time.monotonic() - started
        report = report_of(table, commits, [*refused, *more, *refusals], seconds)
        if commits:
            return report
        now = format_cursor(cursor)
        return replace(report, cursor_from=now, cursor_to=now)


Load = Callable[[list[Pending], Connection, str], Commit]
Loaded = tuple[list[Commit], list[Refused]]


def _together(
    connection: Connection, table: SourceTable, pending: list[Pending], load: Load
) -> Loaded:
    """Load all items in one transaction, without those that cannot be loaded."""
    refused: list[Refused] = []
    while pending:
        try:
            return [load(pending, connection, table.name)], refused
        except SourceError as error:
            refused.append(Refused(error.path, error.problem))
            pending = [item for item in pending if item.file.path != error.path]
    return [], refused


def _apart(postgres: Postgres, table: SourceTable, pending: list[Pending], load: Load) -> Loaded:
    """Load each item in a transaction of its own, several at once; what is done stays done."""

    def load_one(number: int, item: Pending) -> Commit | Refused:
        with postgres.connect(autocommit=True) as connection:
            try:
                return load([item], connection, f"{table.name}/{number}")
            except SourceError as error:
                return Refused(error.path, error.problem)

    with ThreadPoolExecutor(table.parallel_files, thread_name_prefix="lakebed_load") as pool:
        futures = [pool.submit(load_one, *numbered) for numbered in enumerate(pending)]
        try:
            done = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return (
        [result for result in done if isinstance(result, Commit)],
        [result for result in done if isinstance(result, Refused)],
    )


@contextmanager
def _alone(connection: Connection, table: SourceTable) -> Iterator[None]:
    """Hold the table's load lock; wait for another load of it, but not for ever."""
    connection.execute("select set_config('lock_timeout', %s, false)", [WAIT_FOR_OTHER_LOAD])
    key = f"lakebed.load:{table.name}"
    try:
        connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [key])
    except psycopg.errors.LockNotAvailable as error:
        raise LoadBusyError(
            f"another load of {table.name} has been running for {WAIT_FOR_OTHER_LOAD}; "
            "run this one again when it has ended"
        ) from error
    connection.execute("select set_config('lock_timeout', '0', false)")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", [key])


def _readable(
    table: SourceTable, reader: Reader, pending: list[Pending]
) -> tuple[list[Pending], list[Refused]]:
    """Look at the head of each file, so that a broken one is found before anything is read."""
    readable, refused = [], []
    for item in pending:
        try:
            columns_to_read(table, item.file, reader.columns(item.file))
        except SourceError as error:
            refused.append(Refused(error.path, error.problem))
        else:
            readable.append(item)
    return readable, refused
