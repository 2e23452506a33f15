"""Building models: the compiled SQL over one snapshot, published in one transaction.

A table is a Parquet generation in the lake that the commit names; a view is its SQL. Readers
see the old generation until the commit and the new one after it, never a half of either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
from psycopg import sql

from platform_assets.keys import model_path
from platform_assets.models.calls import SOURCE
from platform_assets.models.model import Model, ModelError, ModelSet, SqlTest
from platform_assets.models.parser import load_models
from platform_assets.models.schemas import model_error
from platform_assets.platform import Platform
from resources.lake_files import LakeFileError, NewFile
from resources.postgres import Connection


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
class BuildResult:
    """What became of a model. error: why it failed; skipped: something that it reads failed."""

    name: str
    materialized: str
    rows: int | None = None
    bytes: int | None = None
    seconds: float = 0.0
    error: str | None = None
    skipped: bool = False


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


def models_of(platform: Platform) -> ModelSet:
    """Read the platform's folder of models. Raises ModelError."""
    return load_models(
        platform.settings.models, {SOURCE: {table.name for table in platform.tables}}
    )


def build(
    platform: Platform,
    names: Sequence[str] = (),
    *,
    on_model: Callable[[str], None] = lambda name: None,
) -> list[BuildResult]:
    """Build the named models, or all, each after those it reads; run their tests.

    A model that fails skips those that depend on it; the others go on. Raises ModelError for a
    folder that cannot be read or a name that is none.
    """
    models = models_of(platform)
    wanted = {models.get(name).name for name in names} or set(models.by_name)
    results: dict[str, BuildResult] = {}
    for model in models.models:
        if model.name not in wanted:
            continue
        on_model(model.name)
        if any(r in results and (results[r].error or results[r].skipped) for r in model.refs):
            results[model.name] = BuildResult(model.name, model.materialized, skipped=True)
        else:
            results[model.name] = _build_and_test(platform, models, model)
    return list(results.values())


def build_model(platform: Platform, model: Model) -> Built:
    """Build and publish one model. Raises ModelError where DuckDB refuses its SQL."""
    started = time.monotonic()
    with platform.postgres.connect(autocommit=True) as connection, _alone(connection, model):
        generation = _next_generation(connection, model.name)
        try:
            with platform.lake.session() as session, session.pruned(model.sql):
                out = _run(session.bare, platform, model, generation)
        except duckdb.Error as error:
            raise model_error(model, error) from error
        except LakeFileError as error:
            raise ModelError(
                model.path, None, f"{model.name!r} was not published: {error}", "Build it again."
            ) from error
        path = str(out.file.path) if out.file else None
        _publish(connection, model, out.generation, path, out.rows, out.bytes)
    return Built(
        model.name,
        model.materialized,
        out.generation,
        out.columns,
        out.rows,
        out.bytes,
        time.monotonic() - started,
    )


def run_test(platform: Platform, test: SqlTest, examples: int = 10) -> Offending:
    """Run a singular test over one snapshot. Raises ModelError where DuckDB refuses its SQL."""
    try:
        with platform.lake.session() as session:
            relation = session.sql(test.sql)
            found = relation.fetchall()
            return Offending(
                len(found),
                tuple(relation.columns),
                tuple(tuple(str(value) for value in row) for row in found[:examples]),
            )
    except duckdb.Error as error:
        raise model_error(test, error) from error


def _build_and_test(platform: Platform, models: ModelSet, model: Model) -> BuildResult:
    try:
        built = build_model(platform, model)
        problems = []
        for test in models.tests_of(model.name):
            offending = run_test(platform, test)
            if offending.rows and test.severity == "error":
                rows = "; ".join(", ".join(row) for row in offending.examples[:3])
                problems.append(
                    f"test {test.name}: {offending.rows} rows that should not be there: {rows}"
                )
    except ModelError as error:
        return BuildResult(model.name, model.materialized, error=str(error))
    return BuildResult(
        model.name,
        model.materialized,
        built.rows,
        built.bytes,
        built.seconds,
        "; ".join(problems) or None,
    )


def _run(
    connection: duckdb.DuckDBPyConnection, platform: Platform, model: Model, generation: int
) -> _Output:
    described = connection.execute(f"describe {model.sql}").fetchall()
    columns = tuple((name, kind) for name, kind, *_ in described)
    if model.materialized == "view":
        return _Output(generation, columns)
    file = platform.lake.files.reserve(
        lambda number: model_path(model.group, model.name, number), generation
    )
    try:
        copy = sql.SQL("copy ({}\n) to {} (format parquet, compression zstd)").format(
            sql.SQL(model.sql),
            sql.Literal(str(file.writing)),
        )
        count = connection.execute(copy.as_string()).fetchall()[0][0]
        size = file.bytes
        file.publish()
    except BaseException:
        file.discard()
        raise
    return _Output(file.generation, columns, int(count), file, size)


def _next_generation(connection: Connection, name: str) -> int:
    row = connection.execute(
        "select coalesce(max(generation), 0) + 1 from lakebed.model_version where model = %s",
        [name],
    ).fetchall()[0]
    return int(row[0])


def _publish(
    connection: Connection,
    model: Model,
    generation: int,
    path: str | None,
    rows: int | None,
    size: int | None,
) -> None:
    with connection.transaction():
        connection.execute(
            "update lakebed.model_version set superseded_at = clock_timestamp()"
            " where model = %s and superseded_at is null",
            [model.name],
        )
        connection.execute(
            "insert into lakebed.model_version (model, generation, materialized, sql,"
            " code_version, path, rows, bytes) values (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                model.name,
                generation,
                model.materialized,
                model.sql,
                model.code_version,
                path,
                rows,
                size,
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
