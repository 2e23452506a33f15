"""Find a project's files: dbt's layout with dbt_project.yml, one folder for each group without it.

    with dbt_project.yml                      without
    models/<folders>/<name>.sql               <group>/<folders>/<name>.sql
    macros/ seeds/ tests/ snapshots/          macros/ seeds/ tests/ snapshots/

dbt_project.yml can rename the folders, as in dbt. This module reads no other file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lakebed.models.model import ModelError, SourceLocation
from lakebed.models.options import option_name
from lakebed.models.yaml_files import Lines, map_of, read_yaml
from lakebed.spec.broken import Broken

Kind = Literal["model", "macro", "seed", "test", "snapshot"]
PROJECT_FILE = "dbt_project.yml"
NAME = "lakebed"
_FOLDERS: Mapping[Kind, str] = {
    "model": "models",
    "macro": "macros",
    "seed": "seeds",
    "test": "tests",
    "snapshot": "snapshots",
}
# Files of a dbt project that do not describe models.
_OTHER_YAML = {
    *("dbt_project", "profiles", "packages", "package-lock", "dependencies", "selectors"),
}
_OPTIONS_OF_A_MAPPING = {"meta", "column_types", "docs", "grants", "contract", "persist_docs"}


@dataclass(frozen=True)
class Project:
    """A folder of models. settings: the contents of dbt_project.yml, empty without it."""

    folder: Path
    name: str
    roots: Mapping[Kind, tuple[Path, ...]]
    variables: Mapping[str, object]
    settings: Lines
    is_dbt: bool

    @property
    def file(self) -> Path:
        """The path of dbt_project.yml, whether or not it exists."""
        return self.folder / PROJECT_FILE

    def files(self, kind: Kind, suffix: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Yield the files of a kind and their folders below its root, in order."""
        others = {root for other in _FOLDERS if other != kind for root in self.roots[other]}
        for root in self.roots[kind]:
            within = [other for other in others if root in other.parents]
            for path in sorted(root.rglob(f"*{suffix}")):
                parts = path.relative_to(root).parts
                # Editors leave hidden files next to the edited ones.
                hidden = any(part.startswith(".") for part in parts)
                apart = any(path.is_relative_to(other) for other in within)
                if path.is_file() and not hidden and not apart:
                    yield path, parts[:-1]

    def yaml_files(self) -> list[Path]:
        """Return the YAML files that describe models, seeds, sources and tests."""
        return [path for path in self._worker(".yml", ".yaml") if path.stem not in _OTHER_YAML]

    def doc_files(self) -> list[Path]:
        """Return the Markdown files that can contain blocks of docs, without the top folder's."""
        return [path for path in self._worker(".md") if path.parent != self.folder]

    def _worker(self, *suffixes: str) -> list[Path]:
        found: dict[Path, None] = {}
        for roots in self.roots.values():
            for root in roots:
                for suffix in suffixes:
                    found |= dict.fromkeys(sorted(root.rglob(f"*{suffix}")))
        return [
            path
            for path in found
            if not any(part.startswith(".") for part in path.relative_to(self.folder).parts)
        ]

    def options_of(
        self, section: str, folders: tuple[str, ...]
    ) -> Iterator[tuple[str, object, SourceLocation]]:
        """Yield the options that dbt_project.yml sets for folders, the outermost first.

        Args:
            section: "models", "seeds" or "data_tests".
            folders: The project, the folders, the name.
        """
        level: Lines | None = map_of(self.settings, section, self.file)
        for folder in (*folders, None):
            assert level is not None
            for written, value in level.items():
                name = option_name(written)
                deeper = isinstance(value, Lines) and name not in _OPTIONS_OF_A_MAPPING
                if written.startswith("+") or not (deeper or written == folder):
                    yield name, value, SourceLocation(self.file, level.line)
            below = level.get(folder) if folder is not None else None
            if not isinstance(below, Lines):
                return
            level = below


def open_project(folder: Path) -> Project:
    """Return the project in a folder.

    Raises:
        ModelError: The folder does not exist, or dbt_project.yml cannot be used.
    """
    if not folder.is_dir():
        advice = "Create it, or set LAKEBED_MODELS to another folder."
        raise ModelError(folder, None, "the folder of models does not exist", advice)
    file = folder / PROJECT_FILE
    is_dbt = file.is_file()
    settings = read_yaml(file) if is_dbt else Lines()
    name = settings.get("name", NAME)
    if not isinstance(name, str):
        raise ModelError(file, 1, "the project has no name", "Write `name: my_project`.")
    for hook in ("on-run-start", "on-run-end"):
        if settings.get(hook):
            problem = f"Lakebed does not run {hook}"
            raise ModelError(file, None, problem, "Remove it, or use a hook of a model.")
    roots = {kind: tuple(_roots(folder, settings, kind, is_dbt)) for kind in _FOLDERS}
    return Project(folder, name, roots, _variables(settings, name, file), settings, is_dbt)


def _roots(folder: Path, settings: Lines, kind: Kind, is_dbt: bool) -> Iterator[Path]:
    if kind == "model" and not is_dbt:
        yield folder
        return
    paths = settings.get(f"{kind}-paths", [_FOLDERS[kind]])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        problem = f"{kind}-paths is not a list of folders"
        raise ModelError(folder / PROJECT_FILE, 1, problem, f"Write ['{_FOLDERS[kind]}'].")
    for path in paths:
        yield folder / path


def _variables(settings: Lines, name: str, file: Path) -> dict[str, object]:
    """Return the variables. Those under the project's name override the general ones."""
    variables = map_of(settings, "vars", file)
    own = variables.get(name)
    return {**variables, **own} if isinstance(own, Lines) else dict(variables)


def broken_snapshots(project: Project) -> list[Broken]:
    """Return the snapshots of a project as broken items: Lakebed does not build them."""
    advice = "Delete the file; the lake keeps a table's history."
    return [
        Broken(
            "model",
            path.stem,
            path,
            ModelError(path, None, "Lakebed does not build snapshots", advice),
        )
        for suffix in (".sql", ".yml")
        for path, _ in project.files("snapshot", suffix)
    ]
