"""Find the files of models and seeds in a project, and those that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from lakebed.models.model import ModelError
from lakebed.models.project import Project
from lakebed.spec.broken import Broken

SEEDS = "seeds"
# The platform's own assets have keys that begin with these.
_RESERVED_GROUPS = {"source", "hot", "cold", "exports"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


class ModelFile(NamedTuple):
    """A file of a model or a seed. folders: the project and its folders, as selectors name them."""

    path: Path
    group: str
    folders: tuple[str, ...]

    @property
    def is_seed(self) -> bool:
        """Whether it is a CSV file of rows."""
        return self.group == SEEDS and self.path.suffix == ".csv"


def find_model_files(
    project: Project, tables: Collection[str]
) -> tuple[dict[str, ModelFile], list[Broken]]:
    """Return the files of models and seeds by name, and those that cannot be one.

    Of two files with one name neither is used.

    Args:
        project: The project with the files.
        tables: The names of the source tables, which a model must not have.
    """
    found: dict[str, ModelFile] = {}
    broken: list[Broken] = []
    for file in _all(project):
        name, kind = file.path.stem, "seed" if file.is_seed else "model"
        try:
            _check(file, project, tables)
            _check_unique(file, found, kind)
        except ModelError as error:
            broken.append(Broken("model", name, file.path, error, file.group))
        found.setdefault(name, file)
    for path, folders in project.files("model", ".py"):
        if folders or project.is_dbt:
            advice = "Write it as SQL, or delete the file."
            why = ModelError(path, None, "Lakebed does not build Python models", advice)
            group = folders[0] if folders else "models"
            broken.append(Broken("model", path.stem, path, why, group))
    unusable = {item.name for item in broken}
    return {name: file for name, file in found.items() if name not in unusable}, broken


def _all(project: Project) -> Iterator[ModelFile]:
    for path, folders in project.files("model", ".sql"):
        group = folders[0] if folders else "models"
        yield ModelFile(path, group, (project.name, *folders))
    for path, folders in project.files("seed", ".csv"):
        yield ModelFile(path, SEEDS, (project.name, *folders))


def _check(file: ModelFile, project: Project, tables: Collection[str]) -> None:
    path, group = file.path, file.group
    what, custom = ("seed", "seed") if file.is_seed else ("model", "stg")
    if not file.is_seed:
        if len(file.folders) == 1 and not project.is_dbt:
            advice = "Move it into staging/ or marts/."
            raise ModelError(path, None, "the file lies outside of every group", advice)
        _check_name("folder", group, path)
        if group in _RESERVED_GROUPS or group in tables:
            problem = f"the folder {group!r} has a name that Lakebed reserves"
            raise ModelError(path, None, problem, "Move the file into staging/ or marts/.")
    _check_name(what, path.stem, path)
    if path.stem in tables:
        problem = f"the {what} {path.stem!r} has the name of a source table"
        advice = f"Rename the file, by custom to {custom}_{path.stem}{path.suffix}."
        raise ModelError(path, None, problem, advice)


def _check_unique(file: ModelFile, found: dict[str, ModelFile], what: str) -> None:
    other = found.get(file.path.stem)
    if other is not None:
        problem = f"the {what} {file.path.stem!r} is also defined by {other.path}"
        advice = "Rename one of them: a folder does not make a name unique."
        raise ModelError(file.path, None, problem, advice)


def _check_name(what: str, name: str, path: Path) -> None:
    if not _NAME.fullmatch(name):
        raise ModelError(
            path,
            None,
            f"the {what} {name!r} has a name that would need quotes in SQL",
            "Use small letters, digits and '_', a letter first, at most 100 in all.",
        )
