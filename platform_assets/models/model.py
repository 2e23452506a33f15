"""What a model is, once it was read: frozen values and the one error of this package.

No reading of files, no templates and no SQL parsing belong here.
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
    """A model that makes no sense; the text names file, line, what is wrong and the way out."""

    exit_code = WRONG_USAGE

    def __init__(self, path: Path, line: int | None, problem: str, advice: str) -> None:
        self.path = path
        self.line = line
        self.problem = problem
        self.advice = advice
        place = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{place}: {problem}. {advice}")


class UnlocatedModelError(LakebedError, ValueError):
    """What is wrong and what to do, of something whose file and line are not known yet."""

    exit_code = WRONG_USAGE

    def __init__(self, problem: str, advice: str) -> None:
        self.problem = problem
        self.advice = advice
        super().__init__(f"{problem}. {advice}")

    def at(self, path: Path, line: int | None) -> ModelError:
        """Return the error that names the place."""
        return ModelError(path, line, self.problem, self.advice)


class SourceLocation(NamedTuple):
    """A line of a file; both count from 1. None is the file as a whole."""

    path: Path
    line: int | None


@dataclass(frozen=True)
class Run:
    """What a template may know of the run that it is rendered for.

    started_at: in UTC; before a run it is the epoch, so that a model's text is always the same.
    incremental: what is_incremental() answers.  window: what a run by windows is to give, and what
    it sees of inputs whose time is known.
    """

    started_at: datetime = EPOCH
    incremental: bool = False
    window: Window | None = None


@dataclass(frozen=True)
class Batches:
    """The windows by which a model is built. lookback: how many before the newest are built again.

    event_time: the column of the model that says to which window a row belongs.
    """

    event_time: str
    grain: Grain
    begin: datetime
    lookback: int = 1


@dataclass(frozen=True)
class Incremental:
    """How a run adds to what an incremental model holds.

    unique_key: the columns by which new rows take the place of old ones; none for append.
    full_refresh: whether each run builds it whole, or none does; None leaves it to the run.
    batches: the windows of the strategy microbatch.
    """

    strategy: Strategy
    unique_key: tuple[str, ...] = ()
    on_schema_change: OnSchemaChange = "ignore"
    full_refresh: bool | None = None
    batches: Batches | None = None


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query: as it was written and as it was compiled.

    lines: for each line of the compiled SQL the line of the file that it came from.
    files: for each of these lines its file, where not all are of `path`: ephemeral models.
    refs, sources: the models and the source tables that it names, in that order.
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
    """A query whose result has a name that other queries may read; a seed is one over its file.

    code_version: the SHA-256, in hex, of what decides the result: SQL, materialization, hooks and
    a seed's rows.  folders: project and folders, as selectors name them.  columns: descriptions
    from YAML.  incremental: how it adds rows, where it is one that does.
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
        """Everything that the model names: source tables, then models."""
        return self.sources + self.refs

    @property
    def is_built(self) -> bool:
        """Whether building it leaves something; an ephemeral model is a part of its readers."""
        return self.materialized != "ephemeral"


@dataclass(frozen=True, kw_only=True)
class SqlTest(Query):
    """A query that returns the rows that should not be there.

    model: what the test belongs to, a model or a source table.  kind: "singular", or the name of
    the generic test.  error_if, warn_if: a comparison of the number of rows, "!= 0" or "> 10".
    """

    model: str
    severity: Severity
    kind: str = "singular"
    line: int | None = None
    error_if: str = "!= 0"
    warn_if: str = "!= 0"

    def verdict(self, rows: int) -> Literal["pass", "warn", "error"]:
        """Say what a number of returned rows comes to."""
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
    """What gives a query the SQL that it has in a run."""

    def compiled(self, query: Q, run: Run) -> Q:
        """Return the query with the SQL of that run."""


@dataclass(frozen=True, kw_only=True)
class ModelSet:
    """The models of a folder, each one after the models that it reads, and their tests.

    sources: (source, table) as YAML and source() name it -> the platform's table.  broken: what
    the folder has and cannot be used; its models and tests are not among the others.
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
        """Return the set without some models, what reads them, and the tests of either."""
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
        """Model -> all models that it reads, directly or through others."""
        found: dict[str, frozenset[str]] = {}
        for model in self.models:
            found[model.name] = frozenset(model.refs).union(*(found[ref] for ref in model.refs))
        return found

    def get(self, name: str) -> Model:
        """Return the model of this name. Raises ModelError where there is none."""
        found = self.by_name.get(name)
        if found is None and name in self.broken_models:
            raise self.broken_models[name].error
        if found is None:
            advice = did_you_mean(name, self.by_name, "The models")
            raise ModelError(self.folder, None, f"there is no model {name!r}", advice)
        return found

    def tests_of(self, name: str) -> tuple[SqlTest, ...]:
        """Return the tests that belong to the model, or source table, of this name."""
        return self._tests_by_model.get(name, ())

    def reads(self, query: Query) -> tuple[str, ...]:
        """Return the tables and built models that the SQL of a query names itself.

        What an ephemeral model reads is read by those that it is a part of.
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
        """Yield the models that building leaves something of, in order."""
        return (model for model in self.models if model.is_built)


def reads_broken(name: str, path: Path, line: int | None, read: str) -> ModelError:
    """Return the error of what is left out because it reads what is broken."""
    return ModelError(
        path, line, f"{name!r} reads {read!r}, which is broken", f"Mend {read} first."
    )


def did_you_mean(word: str, known: Collection[str], what: str) -> str:
    """Return a sentence that offers the nearest known word, or all of them where none is near.

    what: how the known words are called, as the start of a sentence: "The models".
    """
    near = get_close_matches(word, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"{what} are {', '.join(sorted(known))}." if known else f"{what}: there are none yet."
