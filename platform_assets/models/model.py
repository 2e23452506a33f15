"""What a model is, once it was read: frozen values and the one error of this package.

No reading of files, no templates and no SQL parsing belong here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Literal

Materialization = Literal["view", "table"]
Severity = Literal["error", "warn"]


class ModelError(ValueError):
    """A model that makes no sense; the text names file, line, what is wrong and the way out."""

    def __init__(self, path: Path, line: int | None, problem: str, advice: str) -> None:
        self.path = path
        self.line = line
        self.problem = problem
        self.advice = advice
        place = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{place}: {problem}. {advice}")


@dataclass(frozen=True, kw_only=True)
class Query:
    """One file of SQL: as it was written and as it was compiled.

    lines: for each line of the compiled SQL the line of the file that it came from.
    """

    name: str
    path: Path
    raw_sql: str
    sql: str
    lines: tuple[int, ...]
    refs: tuple[str, ...]
    sources: tuple[str, ...]
    description: str

    @property
    def code_version(self) -> str:
        """The SHA-256 of the compiled SQL, in hex."""
        return sha256(self.sql.encode()).hexdigest()

    def line_of(self, compiled_line: int) -> int:
        """Return the line of the file behind a line of the compiled SQL; both count from 1."""
        return self.lines[min(max(compiled_line, 1), len(self.lines)) - 1]


@dataclass(frozen=True, kw_only=True)
class Model(Query):
    """A query whose result has a name that other queries may read."""

    group: str
    materialized: Materialization
    tags: tuple[str, ...]
    owner: str | None

    @property
    def key(self) -> tuple[str, str]:
        """Group and name: the parts of the model's asset key."""
        return (self.group, self.name)

    @property
    def upstream(self) -> tuple[str, ...]:
        """Everything that the model reads: source tables, then models."""
        return self.sources + self.refs


@dataclass(frozen=True, kw_only=True)
class SqlTest(Query):
    """A query that returns the rows that should not be there.

    model: the one of the refs that is built last; the test belongs to it.
    """

    model: str
    severity: Severity


@dataclass(frozen=True, kw_only=True)
class ModelSet:
    """The models of a folder, each one after the models that it reads, and their tests."""

    folder: Path
    models: tuple[Model, ...]
    tests: tuple[SqlTest, ...]

    @property
    def by_name(self) -> Mapping[str, Model]:
        """The models by their names."""
        return {model.name: model for model in self.models}

    def get(self, name: str) -> Model:
        """Return the model of this name. Raises ModelError where there is none."""
        found = self.by_name.get(name)
        if found is None:
            advice = did_you_mean(name, self.by_name, "The models")
            raise ModelError(self.folder, None, f"there is no model {name!r}", advice)
        return found

    def tests_of(self, name: str) -> tuple[SqlTest, ...]:
        """Return the tests that belong to the model of this name."""
        return tuple(test for test in self.tests if test.model == name)


def did_you_mean(word: str, known: Collection[str], what: str) -> str:
    """Return a sentence that offers the nearest known word, or all of them where none is near.

    what: how the known words are called, as the start of a sentence: "The models".
    """
    near = get_close_matches(word, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"{what} are {', '.join(sorted(known))}." if known else f"{what}: there are none yet."
