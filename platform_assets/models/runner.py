"""Build and test many models in their order, in parallel where dependencies allow it.

When a model fails, or a test of it with severity error finds rows, its readers are skipped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from lakebed.models.calls import SOURCE
from lakebed.models.materialize import BuildRange, FailingRows, build_model, run_test
from lakebed.models.model import Model, ModelError, ModelSet, SqlTest
from lakebed.models.parser import read_models
from lakebed.models.schedule import run_tasks
from lakebed.models.schemas import refused_models
from lakebed.models.selection import Selected, select
from lakebed.resources.lake_sessions import LakeSessions
from lakebed.resources.settings import environment
from lakebed.spec.broken import Broken
from lakebed.spec.queried_sources import secret_names
from lakebed.store.platform import Platform

Status = Literal["ok", "warn", "failed", "skipped"]
_TEST = "test:"
_NOTHING: Mapping[str, object] = {}
_ALL = BuildRange()


@dataclass(frozen=True)
class BuildResult:
    """The result of one model or test.

    Attributes:
        materialized: The kind of the model; "test" for a test.
        rows: The rows of a model, or the failing rows of a test.
        error: Why it failed, warns or was skipped.
    """

    name: str
    materialized: str
    rows: int | None = None
    bytes: int | None = None
    seconds: float = 0.0
    error: str | None = None
    skipped: bool = False
    status: Status = "ok"


def models_of(platform: Platform, variables: Mapping[str, object] = _NOTHING) -> ModelSet:
    """Read the platform's folder of models. A project can do without that folder.

    Models that cannot be used, and their readers, are left out; `broken` names the reasons.
    """
    if not platform.settings.models.is_dir():
        return ModelSet(folder=platform.settings.models, models=(), tests=())
    tables = {SOURCE: {table.name for table in platform.tables}}
    times = {t.name: t.partitioning.column for t in platform.tables if t.partitioning is not None}
    secrets = {name for table in platform.tables for name in secret_names(table.source)}
    broken = {item.name for item in platform.broken if item.kind == "table"}
    return read_models(
        platform.settings.models, tables, variables, environment(), times, secrets, broken
    )


def columns_of_tables(platform: Platform) -> dict[str, dict[str, str]]:
    """Return name -> column -> DuckDB type of the tables, by their contracts."""
    return {t.name: {c.name: c.duckdb for c in t.columns} for t in platform.tables}


def built_versions(platform: Platform) -> dict[str, str]:
    """Return the code version of the last build of each model."""
    with platform.postgres.connect(autocommit=True) as connection:
        rows = connection.execute(
            "select model, code_version from lakebed.model_version where superseded_at is null"
        ).fetchall()
    return {str(model): str(version) for model, version in rows}


def default_threads() -> int:
    """Return how many models to build at a time. DuckDB itself uses every core."""
    return min(4, os.cpu_count() or 1)


def build(
    platform: Platform,
    models: ModelSet | None = None,
    selected: Selected | None = None,
    *,
    threads: int | None = None,
    full_refresh: bool = False,
    build_range: BuildRange = _ALL,
    on_start: Callable[[str], None] = lambda name: None,
    on_result: Callable[[BuildResult], None] = lambda result: None,
) -> list[BuildResult]:
    """Build the selected models, or all, each after its inputs, and run the selected tests.

    A model that does not fit the known columns fails before anything runs. A failure skips the
    items that depend on it, and the rest goes on. Broken models and tests count as failures.
    """
    models = models_of(platform) if models is None else models
    selected = select(models) if selected is None else selected
    wanted = {model.name: model for model in selected.models if model.is_built}
    tests = {f"{_TEST}{test.name}": test for test in selected.tests}
    broken = {_task_of(item): item for item in selected.broken}
    with platform.lake.sessions() as sessions:
        refused = refused_models(models, _known_columns(platform, sessions), wanted)

        def work(task: str) -> BuildResult:
            on_start(task.removeprefix(_TEST))
            if task in broken:
                result = _of_broken(broken[task])
            elif task in tests:
                result = _test(platform, models, tests[task], sessions)
            elif task in refused:
                result = _failed(wanted[task], refused[task])
            else:
                result = _build(platform, models, wanted[task], sessions, full_refresh, build_range)
            on_result(result)
            return result

        def skip(task: str) -> BuildResult:
            name, kind = task.removeprefix(_TEST), "test"
            if task in wanted:
                kind = wanted[task].materialized
            result = BuildResult(name, kind, skipped=True, status="skipped")
            on_result(result)
            return result

        after = _order(models, wanted, tests, broken)
        results = run_tasks(
            _sorted(after),
            after,
            work,
            is_failed=lambda result: result.status in ("failed", "skipped"),
            skip=skip,
            threads=threads or default_threads(),
            stop=sessions.interrupt,
        )
    return list(results.values())


def _order(
    models: ModelSet,
    wanted: Mapping[str, Model],
    tests: Mapping[str, SqlTest],
    broken: Mapping[str, Broken],
) -> dict[str, frozenset[str]]:
    """Return the dependencies of each task.

    A model depends on the models that it reads, directly or not, and on their tests of severity
    error that can run before it. A test depends on the models that it reads. A broken test counts
    as one of severity error.
    """
    after: dict[str, frozenset[str]] = {task: frozenset() for task in broken}
    reads = {task: _all_read(models, test) for task, test in tests.items()}
    blocking = [
        (task, frozenset(test.refs)) for task, test in tests.items() if test.severity == "error"
    ]
    blocking += [
        (task, frozenset({item.about}))
        for task, item in broken.items()
        if item.about is not None and item.reads is None
    ]
    for name in wanted:
        known = models.ancestors[name]
        before = {task for task, refs in blocking if refs <= known}
        after[name] = frozenset(before | (known & wanted.keys()))
    for task in tests:
        after[task] = frozenset(reads[task] & wanted.keys())
    return after


def _task_of(item: Broken) -> str:
    return f"{_TEST}{item.name}" if item.kind == "test" else f"{item.kind} {item.name}"


def _of_broken(item: Broken) -> BuildResult:
    """Return the result of a broken item."""
    status: Status = "failed" if item.reads is None else "skipped"
    return BuildResult(
        item.name, item.kind, error=str(item.error), skipped=status == "skipped", status=status
    )


def _all_read(models: ModelSet, test: SqlTest) -> frozenset[str]:
    return frozenset(test.refs).union(*(models.ancestors[ref] for ref in test.refs))


def _sorted(after: Mapping[str, frozenset[str]]) -> list[str]:
    """Return the tasks, each after its dependencies, and tests right after their models."""
    found: dict[str, None] = {}

    def add(task: str) -> None:
        if task not in found:
            for other in sorted(after[task]):
                add(other)
            found[task] = None

    for task in after:
        add(task)
    return list(found)


def _known_columns(platform: Platform, sessions: LakeSessions) -> dict[str, dict[str, str]]:
    """Return the columns of the tables, including columns that evolved from the source."""
    with sessions.open([table.name for table in platform.tables]) as session:
        evolved = {name: dict(table.columns) for name, table in session.tables.items()}
    return columns_of_tables(platform) | evolved


def _build(
    platform: Platform,
    models: ModelSet,
    model: Model,
    sessions: LakeSessions,
    full_refresh: bool,
    build_range: BuildRange,
) -> BuildResult:
    try:
        built = build_model(
            platform, models, model, sessions, full_refresh=full_refresh, build_range=build_range
        )
    except ModelError as error:
        return _failed(model, error)
    return BuildResult(model.name, model.materialized, built.rows, built.bytes, built.seconds)


def _failed(model: Model, error: ModelError) -> BuildResult:
    return BuildResult(model.name, model.materialized, error=str(error), status="failed")


def _test(
    platform: Platform, models: ModelSet, test: SqlTest, sessions: LakeSessions
) -> BuildResult:
    started = time.monotonic()
    try:
        found = run_test(platform, models, test, sessions)
    except ModelError as error:
        return BuildResult(test.name, "test", error=str(error), status="failed")
    verdict = test.verdict(found.rows)
    status: Status = {"pass": "ok", "warn": "warn", "error": "failed"}[verdict]  # type: ignore[assignment]
    return BuildResult(
        test.name,
        "test",
        rows=found.rows,
        seconds=time.monotonic() - started,
        error=None if verdict == "pass" else _words(found),
        status=status,
    )


def _words(found: FailingRows) -> str:
    rows = "; ".join(", ".join(row) for row in found.examples[:3])
    return f"{found.rows} failing rows: {rows}"
