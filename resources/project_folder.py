"""The folder of a project: where a pyproject.toml has the table [tool.lakebed].

It is found from any folder below it, as git finds the root of a repository. The table may set what
the environment may set too, in lower case and without the prefix:

    [tool.lakebed]
    tables = "tables"           # the setting LAKEBED_TABLES
    data = "{home}/data"        # {home} is the folder that LAKEBED_HOME names
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lakebed.errors import WRONG_USAGE, LakebedError

FILE = "pyproject.toml"
_PREFIX = "LAKEBED_"
_SECRET = {"LAKEBED_POSTGRES_URL": "postgres_url", "LAKEBED_ALERT_URL": "alert_url"}


class ProjectError(LakebedError, ValueError):
    """A project whose pyproject.toml Lakebed cannot use; the text says what to change."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True)
class ProjectFolder:
    """A folder and the settings that its pyproject.toml gives.

    Attributes:
        folder: The folder that holds pyproject.toml.
        settings: Values by the name of their environment variable, such as LAKEBED_TABLES.
    """

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)


def find_project(start: Path, names: Collection[str]) -> ProjectFolder | None:
    """Return the project that a folder is in, or None.

    Args:
        start: The folder where the search begins; its parents follow.
        names: The names of all settings, as environment variables.

    Raises:
        ProjectError: A pyproject.toml on the way is not valid TOML, or sets an unknown setting.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        file = folder / FILE
        table = _table(file) if file.is_file() else None
        if table is not None:
            return ProjectFolder(folder, _settings(file, table, names))
    return None


def _table(file: Path) -> Mapping[str, object] | None:
    try:
        tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{file} is not valid TOML: {error}") from error
    found = tool.get("lakebed") if isinstance(tool, dict) else None
    if found is not None and not isinstance(found, dict):
        raise ProjectError(f"{file}: tool.lakebed must be a table: [tool.lakebed]")
    return found


def _settings(file: Path, table: Mapping[str, object], names: Collection[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for key, value in table.items():
        name = _PREFIX + key.upper()
        if name in _SECRET:
            raise ProjectError(
                f"{file}: [tool.lakebed] {key} may hold a secret, and this file is shared. Set "
                f"{name} in .env or in the environment"
            )
        if name not in names or key != key.lower():
            known = sorted(set(names) - _SECRET.keys())
            shown = ", ".join(known_name.removeprefix(_PREFIX).lower() for known_name in known)
            raise ProjectError(f"{file}: [tool.lakebed] has no key {key!r}. Known keys: {shown}")
        if not isinstance(value, str):
            raise ProjectError(f'{file}: [tool.lakebed] {key} must be a string: {key} = "..."')
        found[name] = value
    return found
