"""Collect the models of a project that cannot be used, and the models that read them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from lakebed.models.model import Model, ModelError, reads_broken
from lakebed.models.model_paths import ModelFile
from lakebed.models.templates import Rendered
from lakebed.spec.broken import Broken

T = TypeVar("T")
R = TypeVar("R", Rendered, Model)
LineOfRef = Callable[[Path, str, str], int | None]
"""Returns the line on which a file with this text reads a name."""


class LeftOut:
    """The broken items of a project.

    Attributes:
        broken: All of them, of every kind.
    """

    def __init__(
        self, files: Mapping[str, ModelFile], tables: Collection[str], broken: Iterable[Broken]
    ) -> None:
        """Begin with the items that are broken independently of the models.

        Args:
            files: The files of the models, by name.
            tables: The names of tables that are broken.
            broken: The items that are broken so far.
        """
        self._files = files
        self._tables = frozenset(tables)
        self.broken = list(broken)

    @property
    def models(self) -> set[str]:
        """The names of the models that are left out."""
        return {item.name for item in self.broken if item.kind == "model"}

    @property
    def names(self) -> set[str]:
        """The names of the models and tables that are left out."""
        return self.models | self._tables

    def add(self, name: str, error: ModelError, reads: str | None = None) -> None:
        """Leave out a model.

        Args:
            name: The model.
            error: Why.
            reads: The broken item that it reads, if the model itself is fine.
        """
        file = self._files[name]
        self.broken.append(Broken("model", name, file.path, error, file.group, reads))

    def each(self, names: Iterable[str], make: Callable[[str], T]) -> dict[str, T]:
        """Apply `make` to each model. Leave out the models for which it raises."""
        found: dict[str, T] = {}
        left_out = self.models
        for name in names:
            if name in left_out:
                continue
            try:
                found[name] = make(name)
            except ModelError as error:
                self.add(name, error)
            except Exception as error:  # of sqlglot or Jinja, about this one text
                problem = f"the model cannot be parsed: {type(error).__name__}: {error}"
                path = self._files[name].path
                self.add(name, ModelError(path, None, problem, "Rewrite the query."))
        return found

    def without_readers(self, found: Mapping[str, R], line_of: LineOfRef) -> dict[str, R]:
        """Return the items that read nothing broken. Leave out the rest."""
        kept: dict[str, R] = {n: made for n, made in found.items() if n not in self.models}
        while True:
            readers = {n: read for n in kept if (read := self._read_by(kept[n])) is not None}
            if not readers:
                return kept
            for name, read in readers.items():
                path = self._files[name].path
                line = line_of(path, kept.pop(name).raw_sql, read)
                self.add(name, reads_broken(name, path, line, read), read)

    def _read_by(self, made: Rendered | Model) -> str | None:
        """Return a left-out table or model that the item reads, or None."""
        gone = self.names
        return next((read for read in (*made.sources, *made.refs) if read in gone), None)
