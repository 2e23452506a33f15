"""Write a new project: a folder that loads, moves, queries and opens in Dagster at once.

The files come from the folder new_project/ next to this module. {{name}} becomes the name of the
project, and the prefix dot_ of a file's name becomes a dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lakebed.errors import WRONG_USAGE, LakebedError
from lakebed.resources.private import as_users

TEMPLATE = Path(__file__).resolve().parent / "new_project"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_LEFT_OVERS = {"__pycache__", ".DS_Store"}
_HARMLESS = {".git", ".venv", "venv", ".python-version", ".idea", ".vscode", ".DS_Store"}
"""What may be in a folder before the project is written."""


class NewProjectError(LakebedError, ValueError):
    """A folder or a name in which no project can be written; nothing was written."""

    exit_code = WRONG_USAGE


def write_project(folder: Path) -> list[Path]:
    """Write a project into a folder that is empty or not there yet; return its files.

    Args:
        folder: The folder of the project. Its name is the project's name.

    Raises:
        NewProjectError: The folder is not empty, is a file, or has a name that cannot be used.
    """
    folder = folder.resolve()
    name = project_name(folder.name)
    if folder.exists() and not folder.is_dir():
        raise NewProjectError(f"{folder} is a file. Name a folder that does not exist yet")
    there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    taken = [entry for entry in there if entry not in _HARMLESS]
    if taken:
        raise NewProjectError(
            f"{folder} is not empty: it holds {taken[0]}. Make a project in an empty folder, or in "
            "a new one with `lakebed new NAME`"
        )
    files = []
    for source in _template_files():
        target = folder / _target(source)
        with as_users():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes().replace(b"{{name}}", name.encode()))
        files.append(target)
    return files


def project_name(folder: str) -> str:
    """Return the name of a project by that of its folder.

    Raises:
        NewProjectError: No name can be made of it.
    """
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.lower()).strip("-_")
    if not _NAME.fullmatch(name) or name == "lakebed":
        raise NewProjectError(
            f"{folder!r} cannot be the name of a project. Use letters, digits, - and _, at most "
            "40, a letter first, and not lakebed"
        )
    return name


def _template_files() -> Iterator[Path]:
    for path in sorted(TEMPLATE.rglob("*")):
        if path.is_file() and not _LEFT_OVERS.intersection(path.relative_to(TEMPLATE).parts):
            yield path


def _target(source: Path) -> Path:
    relative = source.relative_to(TEMPLATE)
    return relative.with_name(re.sub(r"^dot_", ".", relative.name))
