"""Building one model: the compiled SQL over one snapshot, published in one transaction.

A table, and a seed, is a Parquet generation in the lake that the commit names; a view is its SQL.
Readers see the old generation until the commit and the new one after it, never a half of either.
Hooks run before and after the query, over the same snapshot; where one fails nothing is published.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import duckdb
from psycopg import sql

from platform_assets.keys import model_path
from platform_assets.models.model import Model, ModelError, ModelSet, Query, Run, SqlTest
from platform_assets.models.schemas import model_error
from platform_assets.platform import Platform
from resources.lake import ReadSession
from resources.lake_files import LakeFileError, NewFile
from resources.lake_sessions import LakeSessions
from resources.postgres import Connection

EXAMPLES = 10
_ABSENT = re.compile(r"Table with name (\S+) does not exist")


@dataclass(frozen=True)
class Built:
    """A published model. rows and bytes are None for a view. columns: name and DuckDB type."""

    name: str
    materialized: str
    generation: int
    columns: tuple[tuple[str, str], ...]
    rows: int | None
    bytes: int | None
    seconds: float


@dataclass(frozen=True)
class Offending:
    """What a test found: how many rows that should not be there, and the first of them."""

    rows: int
    columns: tuple[str, ...]
    examples: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Output:
    """What a model's SQL came to; rows and file are None for a view."""

    generation: int
    columns: tuple[tuple[str, str], ...]
    rows: int | None = None
    file: NewFile | None = None
    bytes: int | None = None


def build_model(
    platform: Platform, models: ModelSet, model: Model, sessions: LakeSessions | None = None
) -> Built:
    """Build and publish one model.

    sessions: where many are built, what they are read through.
    Raises ModelError where DuckDB refuses its SQL, or the lake its file.
    """
    if sessions is None:
        with platform.lake.sessions() as sessions:
            return build_model(platform, models, model, sessions)
    started = time.monotonic()
    model = models.compiled(model, Run(started_at=platform.clock.now()))
    reads = models.reads(model)
    with (
        platform.postgres.connect(autocommit=True) as connection,
        _alone(connection, model),
        _errors_located(models, model),
    ):
        generation = _next_generation(connection, model.name)
        # Its own name, for hooks that read what was there before.
        with sessions.open({*reads, model.name}) as session:
            out = _run(session, platform, model, generation)
        _publish(connection, model, reads, out)
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
) -> Offending:
    """Run a test over one snapshot. Raises ModelError where DuckDB refuses its SQL."""
    if sessions is None:
        with platform.lake.sessions() as sessions:
            return run_test(platform, models, test, sessions)
    test = models.compiled(test, Run(started_at=platform.clock.now()))
    with _errors_located(models, test), sessions.open(models.reads(test)) as session:
        with _reading(session, test.sql) as connection:
            # Spilled where it is large; read once for the count and once for the first rows.
            connection.execute(f"create temp table lakebed_offending as (\n{test.sql}\n)")
        count = session.bare.execute("select count(*) from lakebed_offending").fetchall()
        found = session.bare.sql("from lakebed_offending")
        return Offending(
            int(count[0][0]),
            tuple(found.columns),
            tuple(tuple(str(value) for value in row) for row in found.limit(EXAMPLES).fetchall()),
        )


@contextmanager
def _errors_located(models: ModelSet, query: Query) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        absent = _ABSENT.search(str(error))
        if absent is not None and absent[1] in models.by_name:
            raise ModelError(
                query.path,
                None,
                f"{query.name!r} reads {absent[1]!r}, which was never built",
                f"Build it first: lakebed build --select +{query.name}.",
            ) from error
        raise model_error(query, error) from error
    except LakeFileError as error:
        raise ModelError(
            query.path, None, f"{query.name!r} was not published: {error}", "Build it again."
        ) from error


def _run(session: ReadSession, platform: Platform, model: Model, generation: int) -> _Output:
    _run_hooks(session, model, model.pre_hooks, "pre_hook")
    if model.materialized == "view":
        with _reading(session, model.sql) as connection:
            columns = _columns(connection, model)
        if model.post_hooks:
            _show_as(session, model, sql.SQL(model.sql))
            _run_hooks(session, model, model.post_hooks, "post_hook")
        return _Output(generation, columns)
    file = platform.lake.files.reserve(
        lambda number: model_path(model.group, model.name, number), generation
    )
    try:
        copy = sql.SQL("copy ({}\n) to {} (format parquet, compression zstd)").format(
            sql.SQL(model.sql),
            sql.Literal(str(file.writing)),
        )
        with _reading(session, model.sql) as connection:
            columns = _columns(connection, model)
            count = connection.execute(copy.as_string()).fetchall()[0][0]
        size = file.bytes
        if model.post_hooks:
            written = sql.SQL("from read_parquet({})").format(sql.Literal(str(file.writing)))
            _show_as(session, model, written)
            _run_hooks(session, model, model.post_hooks, "post_hook")
        file.publish()
    except BaseException:
        file.discard()
        raise
    return _Output(file.generation, columns, int(count), file, size)


@contextmanager
def _reading(session: ReadSession, query: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give DuckDB with the cold files that a query needs; where none are, there is no looking."""
    with session.pruned(query) if session.manifest.tables else nullcontext():
        yield session.bare


def _columns(connection: duckdb.DuckDBPyConnection, model: Model) -> tuple[tuple[str, str], ...]:
    described = connection.execute(f"describe {model.sql}").fetchall()
    return tuple((name, kind) for name, kind, *_ in described)


def _show_as(session: ReadSession, model: Model, body: sql.Composable) -> None:
    """Let the model's name mean what was just built, for its hooks."""
    view = sql.SQL("create or replace temp view {} as {}").format(sql.Identifier(model.name), body)
    session.bare.execute(view.as_string())


def _run_hooks(session: ReadSession, model: Model, hooks: tuple[str, ...], which: str) -> None:
    for hook in hooks:
        try:
            with _reading(session, hook) as connection:
                connection.execute(hook)
        except duckdb.Error as error:
            raise ModelError(
                model.path,
                None,
                f"the {which} of {model.name!r} failed: {str(error).partition(chr(10))[0]}",
                "Nothing was published. A hook reads the lake and changes nothing in it.",
            ) from error


def _next_generation(connection: Connection, name: str) -> int:
    row = connection.execute(
        "select coalesce(max(generation), 0) + 1 from lakebed.model_version where model = %s",
        [name],
    ).fetchall()[0]
    return int(row[0])


def _publish(connection: Connection, model: Model, reads: tuple[str, ...], out: _Output) -> None:
    with connection.transaction():
        connection.execute(
            "update lakebed.model_version set superseded_at = clock_timestamp()"
            " where model = %s and superseded_at is null",
            [model.name],
        )
        connection.execute(
            "insert into lakebed.model_version (model, generation, materialized, sql,"
            " code_version, path, rows, bytes, reads) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
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
            ],
        )


@contextmanager
def _alone(connection: Connection, model: Model) -> Iterator[None]:
    """Hold the model's lock on the connection that will commit: who lost it cannot publish."""
    key = f"lakebed.build:{model.name}"
    connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [key])
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", [key])
