"""Build one model: run the compiled SQL over one snapshot, publish the result in one transaction.

A table or a seed is a Parquet generation in the lake that the commit names. A view is its SQL.
An incremental model is a list of files, and a run adds to it.
Readers see the old generation until the commit and the new one after it, never a part of either.
Hooks run before and after the query, over the same snapshot. If one fails, nothing is published.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

import duckdb
from psycopg import sql
from psycopg.types.json import Jsonb

from lakebed.models.increment import described, increment, whole
from lakebed.models.incremental import windows_to_build
from lakebed.models.microbatch import batches_of, built_until, microbatch
from lakebed.models.model import Model, ModelError, ModelSet, Run, SqlTest
from lakebed.models.model_files import (
    Columns,
    FileWriter,
    Layout,
    LiveFile,
    Written,
    columns_in,
    copied,
    live_files,
    next_number,
    record,
    rows_in,
    stored_before,
)
from lakebed.models.reading import errors_located, reading
from lakebed.resources.lake_files import NewFile
from lakebed.resources.lake_sessions import LakeSessions
from lakebed.resources.live_models import FileGroup, rows_of
from lakebed.resources.locks import build_lock
from lakebed.resources.postgres import Connection
from lakebed.resources.session import ReadSession
from lakebed.resources.stored_form import Forms, TooWideError
from lakebed.spec.names import model_path
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnBuildStep
from lakebed.store.platform import Platform

EXAMPLES = 10


@dataclass(frozen=True)
class Built:
    """A published model. rows and bytes are None for a view. columns: name and DuckDB type."""

    name: str
    materialized: str
    generation: int
    columns: Columns
    rows: int | None
    bytes: int | None
    seconds: float


@dataclass(frozen=True)
class FailingRows:
    """The failing rows of a test: their number, and the first of them."""

    rows: int
    columns: tuple[str, ...]
    examples: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Output:
    """The result of a model's SQL; rows and file are None for a view.

    layout: the columns of its newest file.  files: the files that the build of an incremental
    model wrote.  kept: its live files that stay.
    """

    generation: int
    columns: Columns
    layout: Layout = ()
    rows: int | None = None
    file: NewFile | None = None
    bytes: int | None = None
    files: tuple[Written, ...] = ()
    kept: tuple[LiveFile, ...] = ()
    built_until: datetime | None = None


@dataclass(frozen=True)
class BuildRange:
    """The half-open time range whose windows a run builds. None: the model decides that end."""

    since: datetime | None = None
    until: datetime | None = None


_ALL_WINDOWS = BuildRange()


def build_model(
    platform: Platform,
    models: ModelSet,
    model: Model,
    sessions: LakeSessions | None = None,
    *,
    full_refresh: bool = False,
    build_range: BuildRange = _ALL_WINDOWS,
    on_step: OnBuildStep = lambda step: None,
) -> Built:
    """Build and publish one model.

    Steps: written, named, recorded, committed.

    Raises:
        ModelError: DuckDB refuses the SQL, or the lake refuses the file.
    """
    if sessions is None:
        with platform.lake.sessions() as sessions:
            return build_model(
                platform,
                models,
                model,
                sessions,
                full_refresh=full_refresh,
                build_range=build_range,
                on_step=on_step,
            )
    started = time.monotonic()
    with (
        platform.postgres.connect(autocommit=True) as connection,
        # On the connection that will commit: a build that lost the lock cannot publish.
        build_lock(model.name).held(connection),
    ):
        platform.lake.owner.check()
        live = _added_to(connection, platform, model, full_refresh)
        run = Run(started_at=platform.clock.now(), incremental=live is not None)
        model = models.compiled(model, run)
        reads = models.reads(model)
        by = _WindowedRun(models, run, _built_until(connection, model, live), build_range)
        forms = Forms(before=stored_before(connection, model.name))
        try:
            out = _built(platform, connection, sessions, model, live, by, forms, on_step)
        except TooWideError:
            # An error of DuckDB ends the snapshot, and nothing of it was published.
            exact = Forms(exact=True)
            out = _built(platform, connection, sessions, model, live, by, exact, on_step)
        if out.file or out.files:
            platform.lake.owner.advance()
        _publish(connection, model, reads, out, on_step)
        on_step("committed")
    return Built(
        model.name,
        model.materialized,
        out.generation,
        out.columns,
        out.rows,
        out.bytes,
        time.monotonic() - started,
    )


def run_test(
    platform: Platform, models: ModelSet, test: SqlTest, sessions: LakeSessions | None = None
) -> FailingRows:
    """Run a test over one snapshot.

    Raises:
        ModelError: DuckDB refuses the SQL.
    """
    if sessions is None:
        with platform.lake.sessions() as sessions:
            return run_test(platform, models, test, sessions)
    test = models.compiled(test, Run(started_at=platform.clock.now()))
    with errors_located(models, test), sessions.open(models.reads(test)) as session:
        with reading(session, test.sql) as connection:
            # DuckDB spills it if it is large. It is read for the count and for the first rows.
            connection.execute(f"create temp table lakebed_failing as (\n{test.sql}\n)")
        count = session.bare.execute("select count(*) from lakebed_failing").fetchall()
        found = session.bare.sql("from lakebed_failing")
        return FailingRows(
            int(count[0][0]),
            tuple(found.columns),
            tuple(tuple(str(value) for value in row) for row in found.limit(EXAMPLES).fetchall()),
        )


def _built(
    platform: Platform,
    connection: Connection,
    sessions: LakeSessions,
    model: Model,
    live: tuple[LiveFile, ...] | None,
    by: _WindowedRun,
    forms: Forms,
    on_step: OnBuildStep,
) -> _Output:
    """Run a model over one snapshot, and write its files with the columns in these forms."""
    reads = by.models.reads(model)
    with errors_located(by.models, model):
        generation = _next_generation(connection, model.name)
        # Its own name, for {{ this }}, and for hooks that read the rows of the last build.
        own = {model.name} if live or model.pre_hooks or model.post_hooks else set()
        with sessions.open({*reads, *own}) as session:
            if model.incremental is None:
                return _run(session, platform, model, generation, forms)
            number = next_number(connection, model.name)
            writer = FileWriter(platform.lake.files, model, number, forms)
            return _run_incremental(session, writer, live, by, generation, on_step)


def _run(
    session: ReadSession, platform: Platform, model: Model, generation: int, forms: Forms
) -> _Output:
    _run_hooks(session, model, model.pre_hooks, "pre_hook")
    if model.materialized == "view":
        with reading(session, model.sql) as connection:
            columns = described(connection, model.sql)
        if model.post_hooks:
            _show_as(session, model, sql.SQL(model.sql))
            _run_hooks(session, model, model.post_hooks, "post_hook")
        return _Output(generation, columns)
    file = platform.lake.files.reserve(
        lambda number: model_path(model.group, model.name, number), generation
    )
    try:
        with reading(session, model.sql) as connection:
            layout, count = copied(connection, model, sql.SQL(model.sql), file, forms)
        size, columns = file.bytes, columns_in(layout)
        if model.post_hooks:
            _show_as(session, model, rows_of([FileGroup(layout, (str(file.writing),))], columns))
            _run_hooks(session, model, model.post_hooks, "post_hook")
        file.publish()
    except BaseException:
        file.discard()
        raise
    return _Output(file.generation, columns, layout, count, file, size)


def _added_to(
    connection: Connection, platform: Platform, model: Model, full_refresh: bool
) -> tuple[LiveFile, ...] | None:
    """Return the files that the run adds to; None where it builds the model whole."""
    if model.incremental is None:
        return None
    if model.incremental.full_refresh is not None:
        full_refresh = model.incremental.full_refresh
    return (not full_refresh and live_files(connection, platform.lake.files, model.name)) or None


@dataclass(frozen=True)
class _WindowedRun:
    """The times of a run by windows. before: until when the model was built."""

    models: ModelSet
    run: Run
    before: datetime | None
    build_range: BuildRange

    def windows(self, model: Model) -> list[Window]:
        asked, batches = self.build_range, batches_of(model)
        found = windows_to_build(
            batches, self.run.started_at, self.before, asked.since, asked.until
        )
        if not found:
            begin = f"{batches.begin:%Y-%m-%d}"
            problem = f"{model.name!r} has no window in that time: its first one begins {begin}"
            raise ModelError(model.path, None, problem, "Give a later time, or set begin.")
        return found


def _built_until(
    connection: Connection, model: Model, live: tuple[LiveFile, ...] | None
) -> datetime | None:
    if live is None:
        return None
    query = (
        "select built_until from lakebed.model_version where model = %s and superseded_at is null"
    )
    found = connection.execute(query, [model.name]).fetchall()
    return found[0][0] if found else None


def _run_incremental(
    session: ReadSession,
    writer: FileWriter,
    live: tuple[LiveFile, ...] | None,
    by: _WindowedRun,
    generation: int,
    on_step: OnBuildStep,
) -> _Output:
    model = writer.model
    if live and model.name in session.unreadable:
        why = session.unreadable[model.name].partition("\n")[0]
        problem = f"the files of {model.name!r} cannot be read: {why}"
        advice = f"Build it whole: lakebed build {model.name} --full-refresh."
        raise ModelError(model.path, None, problem, advice)
    _run_hooks(session, model, model.pre_hooks, "pre_hook")
    try:
        until = None
        if model.incremental and model.incremental.batches:
            windows = by.windows(model)
            change = microbatch(session, by.models, writer, live or (), windows, by.run)
            until = built_until(batches_of(model), by.before, windows)
        else:
            with reading(session, model.sql) as connection:
                change = increment(connection, writer, live) if live else whole(connection, writer)
        on_step("written")
        if model.post_hooks:
            _show_as(session, model, rows_in([*change.kept, *writer.written], change.columns))
            _run_hooks(session, model, model.post_hooks, "post_hook")
        writer.publish(on_step)
    except BaseException:
        writer.discard()
        raise
    files: list[LiveFile | Written] = [*change.kept, *writer.written]
    return _Output(
        generation,
        change.columns,
        files[-1].layout if files else (),
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        files=tuple(writer.written),
        kept=change.kept,
        built_until=until,
    )


def _show_as(session: ReadSession, model: Model, body: sql.Composable) -> None:
    """Let hooks read the new rows by the model's name."""
    view = sql.SQL("create or replace temp view {} as {}").format(sql.Identifier(model.name), body)
    session.bare.execute(view.as_string())


def _run_hooks(session: ReadSession, model: Model, hooks: tuple[str, ...], which: str) -> None:
    for hook in hooks:
        try:
            with reading(session, hook) as connection:
                connection.execute(hook)
        except duckdb.Error as error:
            raise ModelError(
                model.path,
                None,
                f"the {which} of {model.name!r} failed: {str(error).partition(chr(10))[0]}",
                "Nothing was published. A hook can read the lake and cannot change it.",
            ) from error


def _next_generation(connection: Connection, name: str) -> int:
    row = connection.execute(
        "select coalesce(max(generation), 0) + 1 from lakebed.model_version where model = %s",
        [name],
    ).fetchall()[0]
    return int(row[0])


def _publish(
    connection: Connection,
    model: Model,
    reads: tuple[str, ...],
    out: _Output,
    on_step: OnBuildStep,
) -> None:
    with connection.transaction():
        connection.execute(
            "update lakebed.model_version set superseded_at = clock_timestamp()"
            " where model = %s and superseded_at is null",
            [model.name],
        )
        connection.execute(
            "insert into lakebed.model_version (model, generation, materialized, sql,"
            " code_version, path, rows, bytes, reads, built_until, columns) values"
            " (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                model.name,
                out.generation,
                model.materialized,
                model.sql,
                model.code_version,
                str(out.file.path) if out.file else None,
                out.rows,
                out.bytes,
                list(reads),
                out.built_until,
                Jsonb(list(map(list, out.layout))) if out.layout else None,
            ],
        )
        record(connection, model.name, tuple(file.number for file in out.kept), out.files)
        on_step("recorded")
