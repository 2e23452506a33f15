"""Resolve dbt's selectors: expressions such as `+orders,tag:nightly` name models, seeds and tests.

    name  folder  folder/  path:...  file.sql  tag:...  source:a.b  resource_type:...
    config.materialized:...  test_name:...  test_type:...  state:modified  state:new
    +x  x+  2+x  x+1  @x          inputs of x, readers of x, a number of steps, or all they need

A space means or, a comma means and. A test is selected with any model that it reads, as in dbt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

from lakebed.errors import WRONG_USAGE, LakebedError
from lakebed.models.model import Model, ModelSet, SqlTest, did_you_mean
from lakebed.spec.broken import Broken

_TERM = re.compile(
    r"(?P<around>@)?(?:(?P<up>\d*)\+)?(?:(?P<method>[a-z_]+(?:\.[\w.]+)?):)?(?P<value>.*?)"
    r"(?:\+(?P<down>\d*))?"
)
_SOURCE = "source:"
_TEST = "test:"


class SelectionError(LakebedError, ValueError):
    """A selector is wrong or matches nothing. The text says what to write."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True)
class Selected:
    """The selected models and tests, in the order of building. broken: unusable items."""

    models: tuple[Model, ...]
    tests: tuple[SqlTest, ...]
    broken: tuple[Broken, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The names of the models."""
        return frozenset(model.name for model in self.models)


def select(
    models: ModelSet,
    select: Sequence[str] = (),
    exclude: Sequence[str] = (),
    built: Mapping[str, str] | None = None,
) -> Selected:
    """Return the items that are selected and not excluded; without a selector, everything.

    Args:
        models: The models and tests to choose from.
        select: Selectors of items to include.
        exclude: Selectors of items to leave out.
        built: The code version of the last build of each model, for `state:`.

    Raises:
        SelectionError: A selector is wrong, or matches nothing.
    """
    graph = _Graph(models, built or {})
    asked, broken = _apart(models, select)
    left_out, not_broken = _apart(models, exclude)
    if not select:
        chosen, broken = frozenset(graph.nodes), {item.name for item in models.broken}
    else:
        chosen = graph.with_tests(graph.union(asked)) if asked else frozenset()
    if left_out:
        chosen -= graph.with_tests(graph.union(left_out))
    broken |= {item.name for item in models.broken if item.about in chosen}
    return Selected(
        tuple(model for model in models.models if model.name in chosen),
        tuple(test for test in models.tests if f"{_TEST}{test.name}" in chosen),
        tuple(item for item in models.broken if item.name in broken - not_broken),
    )


def _apart(models: ModelSet, expressions: Sequence[str]) -> tuple[list[str], set[str]]:
    """Split selectors into the terms of usable items and the names of broken ones."""
    names = {item.name for item in models.broken}
    terms = [term for expression in expressions for term in expression.split()]
    matches = {term: _TERM.fullmatch(term) for term in terms}
    found = {term: match["value"] if match else "" for term, match in matches.items()}
    rest = [term for term, name in found.items() if name not in names]
    return rest, {name for name in found.values() if name in names}


@dataclass
class _Graph:
    """The graph for selectors. Nodes are the names of models, and test:name and source:name."""

    models: ModelSet
    built: Mapping[str, str]
    nodes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.nodes = {*self.models.by_name, *(f"{_TEST}{test.name}" for test in self.models.tests)}

    @cached_property
    def tests(self) -> Mapping[str, SqlTest]:
        return {f"{_TEST}{test.name}": test for test in self.models.tests}

    @cached_property
    def parents(self) -> Mapping[str, frozenset[str]]:
        return {
            node: frozenset([*query.refs, *(f"{_SOURCE}{name}" for name in query.sources)])
            for node, query in {**self.models.by_name, **self.tests}.items()
        }

    @cached_property
    def children(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for node, parents in self.parents.items():
            for parent in parents:
                found.setdefault(parent, set()).add(node)
        return {node: frozenset(below) for node, below in found.items()}

    def union(self, expressions: Sequence[str]) -> frozenset[str]:
        """Return the nodes that any of the expressions, or any word of one, matches."""
        words = [word for expression in expressions for word in expression.split()]
        return frozenset[str]().union(*(self._intersection(word) for word in words))

    def with_tests(self, chosen: frozenset[str]) -> frozenset[str]:
        """Return the chosen nodes and the tests that read any of them."""
        return chosen | {test for test in self.tests if self.parents[test] & chosen}

    def _intersection(self, word: str) -> frozenset[str]:
        first, *others = [self._term(term) for term in word.split(",") if term]
        return first.intersection(*others)

    def _term(self, term: str) -> frozenset[str]:
        found = _TERM.fullmatch(term)
        if found is None or not found["value"]:
            raise SelectionError(
                f"{term!r} is not a selector. Write a name, tag:x, path:x, +x or x+"
            )
        matched = self._matched(found["method"], found["value"], term)
        chosen = set(matched)
        if found["up"] is not None:
            chosen |= self._walk(matched, self.parents, found["up"])
        if found["down"] is not None:
            chosen |= self._walk(matched, self.children, found["down"])
        if found["around"]:
            chosen |= self._walk(matched, self.children, "")
            chosen |= self._walk(chosen, self.parents, "")
        return frozenset(chosen)

    def _walk(
        self, start: Iterable[str], step: Mapping[str, frozenset[str]], depth: str
    ) -> set[str]:
        found: set[str] = set()
        edge = set(start)
        left = int(depth) if depth else -1
        while edge and left != 0:
            edge = {other for node in edge for other in step.get(node, ())} - found
            found |= edge
            left -= 1
        return found

    def _matched(self, method: str | None, value: str, term: str) -> set[str]:
        if method is None:
            method = (
                "path" if "/" in value else "file" if value.endswith((".sql", ".csv")) else "fqn"
            )
        name, _, option = method.partition(".")
        if name == "source":
            return self._sources(value)
        if name == "state":
            return self._changed(value)
        tests: Mapping[str, Callable[[str, SqlTest], bool]] = {
            "fqn": lambda wanted, test: (
                fnmatchcase(test.name, wanted) or self._is_below(test, wanted)
            ),
            "tag": lambda wanted, test: any(fnmatchcase(tag, wanted) for tag in test.tags),
            "path": lambda wanted, test: self._lies_in(test, wanted),
            "file": lambda wanted, test: fnmatchcase(test.path.name, wanted),
            "test_name": lambda wanted, test: fnmatchcase(test.kind, wanted),
            "test_type": lambda wanted, test: (
                wanted in ("data", "singular" if test.kind == "singular" else "generic")
            ),
            "resource_type": lambda wanted, test: wanted in ("test", "all"),
            "config": lambda wanted, test: str(test.options.get(option)) == wanted,
        }
        models: Mapping[str, Callable[[str, Model], bool]] = {
            "fqn": _is_called,
            "tag": lambda wanted, model: any(fnmatchcase(tag, wanted) for tag in model.tags),
            "path": lambda wanted, model: self._lies_in(model, wanted),
            "file": lambda wanted, model: (
                fnmatchcase(model.path.name, wanted) or fnmatchcase(model.path.stem, wanted)
            ),
            "resource_type": lambda wanted, model: (
                wanted in ("all", "seed" if model.materialized == "seed" else "model")
            ),
            "config": lambda wanted, model: _option(model, option) == wanted,
        }
        if name not in tests:
            advice = did_you_mean(name, [*tests, "source", "state"], "The methods")
            raise SelectionError(f"{term!r} has an unknown method. {advice}")
        found = {t for t, test in self.tests.items() if tests[name](value, test)}
        if name in models:
            found |= {m.name for m in self.models.models if models[name](value, m)}
        if not found and name == "fqn":
            names = {*self.models.by_name, *(test.name for test in self.models.tests)}
            raise SelectionError(
                f"{term!r} matches nothing. {did_you_mean(value, names, 'The names')}"
            )
        return found

    def _is_below(self, test: SqlTest, wanted: str) -> bool:
        """Whether the file that declares a test lies in the folders that a selector names."""
        if test.path.is_relative_to(self.models.folder):
            parts = test.path.relative_to(self.models.folder).parts[:-1]
            below = parts[1:] if parts[:1] in (("models",), ("tests",)) else parts
            return any(".".join(below[:end]) == wanted for end in range(1, len(below) + 1))
        return False

    def _lies_in(self, query: Model | SqlTest, wanted: str) -> bool:
        if not query.path.is_relative_to(self.models.folder):
            return False
        path = query.path.relative_to(self.models.folder)
        pattern = wanted.rstrip("/")
        candidates = [path, *path.parents]
        # dbt's paths begin with models/, and a folder without dbt_project.yml has no such folder.
        return any(
            fnmatchcase(str(candidate), pattern) or fnmatchcase(f"models/{candidate}", pattern)
            for candidate in candidates
        ) or any(
            fnmatchcase(str(candidate.relative_to("models")), pattern)
            for candidate in candidates
            if candidate.parts[:1] == ("models",) and len(candidate.parts) > 1
        )

    def _sources(self, value: str) -> set[str]:
        source, _, table = value.partition(".")
        found = {
            f"{_SOURCE}{name}"
            for (of, known), name in self.models.sources.items()
            if fnmatchcase(of, source) and fnmatchcase(known, table or "*")
        }
        if not found:
            known = sorted(f"{of}.{table}" for of, table in self.models.sources)
            raise SelectionError(
                f"source:{value} matches no source. {did_you_mean(value, known, 'The sources')}"
            )
        return found

    def _changed(self, value: str) -> set[str]:
        if value not in ("new", "modified", "old", "unmodified"):
            raise SelectionError(f"state:{value} is unknown. Write state:modified or state:new")
        new = {model.name for model in self.models.built() if model.name not in self.built}
        modified = new | {
            model.name
            for model in self.models.built()
            if self.built.get(model.name) != model.code_version
        }
        everything = {model.name for model in self.models.built()}
        return {
            "new": new,
            "modified": modified,
            "old": everything - new,
            "unmodified": everything - modified,
        }[value]


def _is_called(wanted: str, model: Model) -> bool:
    """Whether a name or a path of folders, with or without the project, matches a model."""
    if wanted == model.name or fnmatchcase(model.name, wanted):
        return True
    parts = (*model.folders, model.name)
    for start in (parts, parts[1:]):
        for end in range(1, len(start) + 1):
            if fnmatchcase(".".join(start[:end]), wanted):
                return True
    return False


def _option(model: Model, name: str) -> str:
    if name == "materialized":
        return model.materialized
    found = model.options.get(name)
    return str(found).lower() if isinstance(found, bool) else str(found)
