"""Load one table: new rows of its source, through the contract and dlt, into PostgreSQL.

The ledger in PostgreSQL alone decides what is new: a version of an item is loaded once. A load
skips an item that it cannot load, names it in the report and loads the remaining items.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import psycopg

from lakebed.ingest.attempts import failure_recorded, record_report
from lakebed.ingest.constraints import OF_A_ROW
from lakebed.ingest.contract import columns_to_read
from lakebed.ingest.evolve import Columns
from lakebed.ingest.incremental import (
    MISSING,
    Pending,
    Refused,
    is_missing,
    last_cursor,
    pending_files,
)
from lakebed.ingest.package import format_cursor
from lakebed.ingest.relatives import child_of_constraint, relatives
from lakebed.ingest.repeated_keys import find_repeated_key
from lakebed.ingest.report import Commit, LoadReport, report_of
from lakebed.ingest.row_violations import can_check_constraints
from lakebed.ingest.sources.reader import Reader, SourceError
from lakebed.ingest.sources.readers import reader_of
from lakebed.ingest.statistics import analyze
from lakebed.ingest.stream import Stream
from lakebed.ingest.unfinished import Seen, last_loads, note_unfinished
from lakebed.ingest.writers import LoadConflictError, RelatedRowsError, RepeatedKeyError
from lakebed.resources.clock import Clock
from lakebed.resources.lake_files import lake_files
from lakebed.resources.postgres import Connection, Postgres
from lakebed.resources.settings import Settings
from lakebed.schema.ddl import (
    ensure_partition_tables,
    ensure_table,
    ensure_upcoming_partition_tables,
)
from lakebed.schema.evolved import effective
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnLoadStep
from lakebed.spec.table import SourceTable, TableError
from lakebed.store.locks import loading


def load_table(
    settings: Settings,
    postgres: Postgres,
    clock: Clock,
    table: SourceTable,
    *,
    again: bool = False,
    on_rows: Callable[[int], None] = lambda rows: None,
    on_step: OnLoadStep = lambda step: None,
) -> LoadReport:
    """Load what is new in the source of a table with load_by="cursor".

    Args:
        settings: The settings.
        postgres: The server.
        clock: The clock.
        table: The table.
        again: Whether to read the whole source, whatever the ledger has.
        on_rows: Called with the number of rows of each batch.
        on_step: Called after each step.

    Returns:
        The report, which also names each file that could not be loaded.

    Raises:
        LoadBusyError: Another process loads the table.
        DriftError: The table in PostgreSQL differs from its file.
        LoadConflictError: PostgreSQL refuses the load as a whole.
        TableError: The table cannot be loaded this way.
        PostgresUnavailableError: The server cannot be reached.
    """
    if table.load_by == "window":
        raise TableError(
            f"table {table.name} loads by window; name one: "
            f"`lakebed load {table.name} --window KEY`"
        )
    if again and table.write_mode == "append":
        raise TableError(
            f"table {table.name}: an append that reads its source again would add every row twice; "
            f"undo its loads first, `lakebed rollback {table.name} --reload`, or use "
            "write_mode='merge' with a key"
        )
    started = time.monotonic()

    def load(items: list[Pending], connection: Connection) -> Commit:
        stream = partial(
            Stream,
            settings.home / "dlt",
            lake_files(settings),
            postgres,
            columns.table,
            reader,
            started_at=clock.now(),
            cursor=cursor,
            on_rows=on_rows,
            on_step=on_step,
            again=again,
            seen=seen,
        )
        return _noting(connection, table, seen, partial(_run, stream, columns.table), items)

    with (
        failure_recorded(settings, postgres, table),
        postgres.connect(autocommit=True) as connection,
        loading(connection, table, patience=settings.patience),
    ):
        reader = reader_of(table, settings)
        columns = Columns(effective(connection, table))
        ensure_table(connection, columns.table)
        ensure_upcoming_partition_tables(connection, table, clock.now())
        seen = last_loads(connection, relatives(connection, table))
        found = reader.find()
        pending, refused = pending_files(connection, table, found, again=again)
        if not found and is_missing(connection, table):
            refused = [Refused(reader.place, MISSING)]
        pending, more = _readable(connection, columns, reader, pending, clock)
        if table.loads_whole and (refused or more):
            pending = []  # rows of refused items would look like deleted rows
        cursor = last_cursor(connection, table)
        if table.parallel_files > 1 and len(pending) > 1:
            commits, refusals = _apart(postgres, table, pending, load)
        else:
            commits, refusals = _together(connection, table, pending, load)
        for commit in commits:
            written = commit.counts.inserted + commit.counts.updated + commit.counts.deleted
            analyze(connection, table, commit.package.windows, written)
        seconds = time.monotonic() - started
        report = columns.with_column_changes(
            report_of(table, commits, [*refused, *more, *refusals], seconds)
        )
        if not commits:
            now = format_cursor(cursor)
            report = replace(report, cursor_from=now, cursor_to=now)
        return record_report(connection, table, None, report)


def load_window(
    settings: Settings,
    postgres: Postgres,
    clock: Clock,
    table: SourceTable,
    window: Window,
    *,
    on_rows: Callable[[int], None] = lambda rows: None,
    on_step: OnLoadStep = lambda step: None,
) -> LoadReport:
    """Replace one window of a table with the rows of its source, in one transaction.

    Different windows can load in parallel. Where an item of the source cannot be loaded, the window
    remains unchanged and the report names the item.

    Raises:
        LoadBusyError: Another process loads the window.
        DriftError: The table in PostgreSQL differs from its file.
        LoadConflictError: PostgreSQL refuses the load as a whole.
        TableError: The table cannot be loaded this way.
        PostgresUnavailableError: The server cannot be reached.
        SourceError: The source is empty.
    """
    started = time.monotonic()
    with (
        failure_recorded(settings, postgres, table, window),
        postgres.connect(autocommit=True) as connection,
        loading(connection, table, window, patience=settings.patience),
    ):
        reader = reader_of(table, settings)

        def done(commits: list[Commit], refused: list[Refused]) -> LoadReport:
            report = report_of(table, commits, refused, time.monotonic() - started)
            return record_report(connection, table, window, columns.with_column_changes(report))

        columns = Columns(effective(connection, table))
        ensure_table(connection, columns.table)
        ensure_partition_tables(connection, table, [window])
        items = [Pending(item) for item in reader.find()]
        if not items and table.optional:
            return done([], [])
        if not items:
            raise SourceError(
                table.require_source.title,
                f"the source is empty; {window.key} of {table.name} remains unchanged",
            )
        _, broken = _readable(connection, columns, reader, items, clock)
        if broken:
            return done([], broken[:1])
        stream = partial(
            Stream,
            settings.home / "dlt",
            lake_files(settings),
            postgres,
            columns.table,
            reader,
            started_at=clock.now(),
            cursor=last_cursor(connection, table),
            on_rows=on_rows,
            on_step=on_step,
            window=window,
            seen=last_loads(connection, relatives(connection, table)),
        )
        try:
            commit = _run(stream, columns.table, connection, items)
        except SourceError as error:
            return done([], [Refused(error.path, error.problem)])
        analyze(connection, table, [window], commit.counts.inserted)
        return done([commit], [])


def _noting(
    connection: Connection,
    table: SourceTable,
    seen: Seen,
    run: Callable[[Connection, list[Pending]], Commit],
    items: list[Pending],
) -> Commit:
    """Load items; where rows of other tables are missing or prevent it, record that they wait."""
    try:
        return run(connection, items)
    except (SourceError, RelatedRowsError) as error:
        if isinstance(error, RelatedRowsError) or error.waits:
            note_unfinished(connection, table.name, seen)
        raise


def _run(
    stream: Callable[..., Stream], table: SourceTable, connection: Connection, items: list[Pending]
) -> Commit:
    """Load items; where PostgreSQL refuses a row, find all such rows and load the good ones."""
    try:
        return stream().run(connection, items)
    except RepeatedKeyError as error:
        found = find_repeated_key(connection, stream(), items, error)
        if found is None:
            raise
        raise found from error
    except OF_A_ROW as error:
        if not can_check_constraints(table) or _holding_child(connection, table, error) is not None:
            raise _refused(connection, table, error) from error
    try:
        return stream(checks_constraints=True).run(connection, items)
    except OF_A_ROW as error:
        raise _refused(connection, table, error) from error


def _holding_child(connection: Connection, table: SourceTable, error: psycopg.Error) -> str | None:
    """Return the table whose rows refer to a row to delete, or None for another error."""
    if not isinstance(error, psycopg.errors.ForeignKeyViolation):
        return None
    return child_of_constraint(connection, table, error.diag.constraint_name)


def _refused(connection: Connection, table: SourceTable, error: psycopg.Error) -> LoadConflictError:
    message = error.diag.message_primary or str(error)
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    refusal = f"{table.name}: PostgreSQL refuses a row: {message}{detail}; nothing was loaded."
    child = _holding_child(connection, table, error)
    if child is not None:
        return RelatedRowsError(
            f"{refusal} Rows of {child} refer to rows that this load would delete; load {child} "
            f"too, and {table.name} loads again"
        )
    if isinstance(error, psycopg.errors.ForeignKeyViolation):
        return RelatedRowsError(f"{refusal} Load the parent too, and {table.name} loads again")
    return LoadConflictError(f"{refusal} Correct the row in the source, or the constraint")


Load = Callable[[list[Pending], Connection], Commit]
Loaded = tuple[list[Commit], list[Refused]]


def _together(
    connection: Connection, table: SourceTable, pending: list[Pending], load: Load
) -> Loaded:
    """Load all readable items in one transaction."""
    refused: list[Refused] = []
    while pending:
        try:
            return [load(pending, connection)], refused
        except SourceError as error:
            refused.append(Refused(error.path, error.problem))
            left = [item for item in pending if item.file.path != error.path]
            pending = [] if table.loads_whole else left
    return [], refused


def _apart(postgres: Postgres, table: SourceTable, pending: list[Pending], load: Load) -> Loaded:
    """Load each item in its own transaction, several in parallel; committed items stay loaded."""

    def load_one(item: Pending) -> Commit | Refused:
        with postgres.connect(autocommit=True) as connection:
            try:
                return load([item], connection)
            except SourceError as error:
                return Refused(error.path, error.problem)

    with ThreadPoolExecutor(table.parallel_files, thread_name_prefix="lakebed_load") as pool:
        futures = [pool.submit(load_one, item) for item in pending]
        try:
            done = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return (
        [result for result in done if isinstance(result, Commit)],
        [result for result in done if isinstance(result, Refused)],
    )


def _readable(
    connection: Connection, columns: Columns, reader: Reader, pending: list[Pending], clock: Clock
) -> tuple[list[Pending], list[Refused]]:
    """Check the head of each file, to find a broken one before reading any rows.

    Add the new columns of each file to the table.
    """
    readable, refused = [], []
    for item in pending:
        try:
            columns_to_read(
                columns.meet(connection, reader, item.file, clock.now),
                item.file,
                reader.columns(item.file),
            )
        except SourceError as error:
            refused.append(Refused(error.path, error.problem))
        else:
            readable.append(item)
    return readable, refused
