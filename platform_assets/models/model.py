"""A model after it was read, as frozen values, and the errors of this package.

Reading files, rendering templates and parsing SQL do not belong here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

from lakebed.errors import WRONG_USAGE, LakebedError
from lakebed.spec.broken import Broken
from lakebed.spec.partitions import Grain, Window

Materialization = Literal["view", "table", "incremental", "ephemeral", "seed"]
Strategy = Literal["append", "delete+insert", "merge", "microbatch"]
OnSchemaChange = Literal["ignore", "fail", "append_new_columns"]
Severity = Literal["error", "warn"]
EPOCH = datetime.fromtimestamp(0, UTC)


class ModelError(LakebedError, ValueError):
    """A model that cannot be used. The text names file and line, the problem and its fix.

    Attributes:
        path: The file.
        line: The line, counted from 1; None for the file as a whole.
        problem: What is wrong.
        advice: How to fix it.
    """

    exit_code = WRONG_USAGE

    def __init__(self, path: Path, line: int | None, problem: str, advice: str) -> None:
        self.path = path
        self.line = line
        self.problem = problem
        self.advice = advice
        place = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{place}: {problem}. {advice}")


class UnlocatedModelError(LakebedError, ValueError):
    """A problem and its fix, raised before the file and line are known."""

    exit_code = WRONG_USAGE

    def __init__(self, problem: str, advice: str) -> None:
        self.problem = problem
        self.advice = advice
        super().__init__(f"{problem}. {advice}")

    def at(self, path: Path, line: int | None) -> ModelError:
        """Return the error with its file and line."""
        return ModelError(path, line, self.problem, self.advice)


class SourceLocation(NamedTuple):
    """A line of a file; both count from 1. None is the file as a whole."""

    path: Path
    line: int | None


@dataclass(frozen=True)
class Run:
    """The facts of a run that a template may read.

    Attributes:
        started_at: When the run began, in UTC. Before a run it is the epoch, so that a model
            always has the same text.
        incremental: What is_incremental() returns.
        window: The window that a run by windows builds. Inputs with a known time are filtered
            to it.
    """

    started_at: datetime = EPOCH
    incremental: bool = False
    window: Window | None = None


@dataclass(frozen=True)
class Batches:
    """The windows by which a model is built.

    Attributes:
        event_time: The model's column that assigns a row to a window.
        grain: The length of a window.
        begin: When the first window begins.
        lookback: How many windows before the present one are built again.
    """

    event_time: str
    grain: Grain
    begin: datetime
    lookback: int = 1


@dataclass(frozen=True)
class Incremental:
    """How a run adds rows to an incremental model.

    Attributes:
        strategy: How new rows meet old ones.
        unique_key: The columns by which new rows replace old ones; empty for append.
        on_schema_change: What happens when the query has other columns than the model.
        full_refresh: True: each run builds it whole. False: no run does. None: the run decides.
        batches: The windows of the strategy microbatch.
    """

    strategy: Strategy
    unique_key: tuple[str, ...] = ()
    on_schema_change: OnSchemaChange = "ignore"
    full_refresh: bool | None = None
    batches: Batches | None = None


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query, as written and as compiled.

    Attributes:
        lines: The line of the file behind each line of the compiled SQL.
        files: The file behind each of these lines; empty where all come from `path`.
        refs: The models that it names, in order.
        sources: The source tables that it names, in order.
    """

    name: str
    path: Path
    raw_sql: str
    sql: str
    lines: tuple[int, ...]
    files: tuple[Path, ...] = ()
    refs: tuple[str, ...]
    sources: tuple[str, ...]
    description: str
    tags: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict, hash=False)

    def line_of(self, compiled_line: int) -> int:
        """Return the line of the file behind a line of the compiled SQL; both count from 1."""
        return self.lines[min(max(compiled_line, 1), len(self.lines)) - 1]

    def place_of(self, compiled_line: int) -> SourceLocation:
        """Return file and line behind a line of the compiled SQL."""
        at = min(max(compiled_line, 1), len(self.lines)) - 1
        return SourceLocation(self.files[at] if self.files else self.path, self.lines[at])


@dataclass(frozen=True, kw_only=True)
class Model(Query):
    """A query whose named result other queries can read. A seed is a query over its CSV file.

    Attributes:
        code_version: The SHA-256 digest, in hex, of all that decides the result: SQL,
            materialization, hooks, and the rows of a seed.
        folders: Project and folders, as selectors name them.
        columns: Descriptions of columns from YAML.
        incremental: How an incremental model adds rows; None for the other kinds.
    """

    group: str
    materialized: Materialization
    owner: str | None
    code_version: str
    folders: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    pre_hooks: tuple[str, ...] = ()
    post_hooks: tuple[str, ...] = ()
    incremental: Incremental | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Group and name: the parts of the model's asset key."""
        return (self.group, self.name)

    @property
    def upstream(self) -> tuple[str, ...]:
        """All inputs that the model names: source tables, then models."""
        return self.sources + self.refs

    @property
    def is_built(self) -> bool:
        """Whether a build stores it. An ephemeral model becomes a part of its readers instead."""
        return self.materialized != "ephemeral"


@dataclass(frozen=True, kw_only=True)
class SqlTest(Query):
    """A query that returns failing rows.

    Attributes:
        model: The model or source table that the test belongs to.
        kind: "singular", or the name of the generic test.
        error_if: A condition on the number of rows, such as "!= 0" or "> 10".
        warn_if: The same, for a warning.
    """

    model: str
    severity: Severity
    kind: str = "singular"
    line: int | None = None
    error_if: str = "!= 0"
    warn_if: str = "!= 0"

    def verdict(self, rows: int) -> Literal["pass", "warn", "error"]:
        """Judge a number of returned rows."""
        if self.severity == "error" and holds(rows, self.error_if):
            return "error"
        return "warn" if holds(rows, self.warn_if) else "pass"


def holds(rows: int, condition: str) -> bool:
    """Whether a number of rows fulfils a condition such as "!= 0" or "> 10"."""
    operator, _, number = condition.strip().partition(" ")
    limit = int(number)
    return {
        "!=": rows != limit,
        "=": rows == limit,
        ">": rows > limit,
        ">=": rows >= limit,
        "<": rows < limit,
        "<=": rows <= limit,
    }[operator]


Q = TypeVar("Q", bound=Query)


class Compiler(Protocol):
    """Compiles a query for a run."""

    def compiled(self, query: Q, run: Run) -> Q:
        """Return the query with the SQL of that run."""


@dataclass(frozen=True, kw_only=True)
class ModelSet:
    """The models of a folder, in the order of building, and their tests.

    Attributes:
        sources: The platform's table behind each (source, table) that source() can name.
        broken: The items of the folder that cannot be used. `models` and `tests` leave them out.
    """

    folder: Path
    models: tuple[Model, ...]
    tests: tuple[SqlTest, ...]
    broken: tuple[Broken, ...] = ()
    compiler: Compiler | None = field(default=None, repr=False, compare=False)
    sources: Mapping[tuple[str, str], str] = field(default_factory=dict, hash=False)

    @cached_property
    def by_name(self) -> Mapping[str, Model]:
        """The models by their names."""
        return {model.name: model for model in self.models}

    @cached_property
    def broken_models(self) -> Mapping[str, Broken]:
        """The models that cannot be used, by their names."""
        return {item.name: item for item in self.broken if item.kind == "model"}

    def without(self, refused: Mapping[str, ModelError]) -> ModelSet:
        """Return the set without some models, their readers, and the tests of both."""
        broken = [
            Broken("model", name, self.by_name[name].path, error, self.by_name[name].group)
            for name, error in refused.items()
        ]
        gone = set(refused)
        for model in self.models:
            read = next((ref for ref in model.refs if ref in gone), None)
            if read is not None and model.name not in gone:
                gone.add(model.name)
                why = reads_broken(model.name, model.path, None, read)
                broken.append(Broken("model", model.name, model.path, why, model.group, read))
        return replace(
            self,
            models=tuple(model for model in self.models if model.name not in gone),
            tests=tuple(test for test in self.tests if not gone & {*test.refs}),
            broken=(*self.broken, *broken),
        )

    @cached_property
    def _tests_by_model(self) -> Mapping[str, tuple[SqlTest, ...]]:
        found: dict[str, tuple[SqlTest, ...]] = {}
        for test in self.tests:
            found[test.model] = (*found.get(test.model, ()), test)
        return found

    @cached_property
    def ancestors(self) -> Mapping[str, frozenset[str]]:
        """The models that each model reads, directly or through other models."""
        found: dict[str, frozenset[str]] = {}
        for model in self.models:
            found[model.name] = frozenset(model.refs).union(*(found[ref] for ref in model.refs))
        return found

    def get(self, name: str) -> Model:
        """Return the model of this name.

        Raises:
            ModelError: The model does not exist, or is broken.
        """
        found = self.by_name.get(name)
        if found is None and name in self.broken_models:
            raise self.broken_models[name].error
        if found is None:
            advice = did_you_mean(name, self.by_name, "The models")
            raise ModelError(self.folder, None, f"the model {name!r} does not exist", advice)
        return found

    def tests_of(self, name: str) -> tuple[SqlTest, ...]:
        """Return the tests that belong to the model, or source table, of this name."""
        return self._tests_by_model.get(name, ())

    def reads(self, query: Query) -> tuple[str, ...]:
        """Return the tables and stored models that a query reads.

        The inputs of an ephemeral model count as inputs of its readers.
        """
        names = dict.fromkeys(query.sources)
        for ref in query.refs:
            model = self.by_name[ref]
            names |= dict.fromkeys([ref] if model.is_built else self.reads(model))
        return tuple(names)

    def compiled(self, query: Q, run: Run) -> Q:
        """Return the query with the SQL that it has in that run."""
        return query if self.compiler is None else self.compiler.compiled(query, run)

    def built(self) -> Iterator[Model]:
        """Yield the models that a build stores, in order."""
        return (model for model in self.models if model.is_built)


def reads_broken(name: str, path: Path, line: int | None, read: str) -> ModelError:
    """Return the error of an item that is left out because it reads a broken one."""
    return ModelError(path, line, f"{name!r} reads {read!r}, which is broken", f"Fix {read} first.")


def did_you_mean(word: str, known: Collection[str], what: str) -> str:
    """Return a sentence that suggests the nearest known word, or lists all known words.

    Args:
        word: The unknown word.
        known: The known words.
        what: The start of a sentence that lists them, such as "The models".
    """
    near = get_close_matches(word, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"{what} are {', '.join(sorted(known))}." if known else f"{what}: none exist yet."
