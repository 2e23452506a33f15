"""Read a folder of SQL models: find the files, compile them, check them and order them.

This happens before anything runs: it connects to no database and reads only the files of the
folder. `project` finds the files, `project_reader` turns them into models.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from lakebed.models.calls import SOURCE
from lakebed.models.environment import allowed_environment
from lakebed.models.model import (
    ModelError,
    ModelSet,
)
from lakebed.models.project import open_project
from lakebed.models.project_reader import ProjectReader
from lakebed.spec.broken import Broken, raise_first

_NOTHING: Mapping[str, object] = MappingProxyType({})
_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})


def load_models(
    folder: Path,
    sources: Mapping[str, Collection[str]],
    variables: Mapping[str, object] = _NOTHING,
    environment: Mapping[str, str] = _NO_ENVIRONMENT,
    event_times: Mapping[str, str] = _NO_ENVIRONMENT,
    secrets: Collection[str] = (),
) -> ModelSet:
    """Return the models, seeds and tests of a folder, compiled, checked, in the order of building.

    Args:
        folder: The folder of the project.
        sources: The tables that source() can name, by the name of the source.
        variables: The values behind var(); they override those of dbt_project.yml.
        environment: The variables that env_var() can name, where the project allows them.
        event_times: The time column of each table that has one.
        secrets: Names of environment variables that hold a secret.

    Raises:
        ModelError: The first error that was found.
    """
    given = read_models(folder, sources, variables, environment, event_times, secrets)
    raise_first(given.broken)
    return given


def read_models(
    folder: Path,
    sources: Mapping[str, Collection[str]],
    variables: Mapping[str, object] = _NOTHING,
    environment: Mapping[str, str] = _NO_ENVIRONMENT,
    event_times: Mapping[str, str] = _NO_ENVIRONMENT,
    secrets: Collection[str] = (),
    broken_tables: Collection[str] = (),
) -> ModelSet:
    """Return what `load_models` returns, without the items that cannot be used and their readers.

    The `broken` items of the set name what was left out and why.

    Args:
        folder: The folder of the project.
        sources: The tables that source() can name, by the name of the source.
        variables: The values behind var(); they override those of dbt_project.yml.
        environment: The variables that env_var() can name, where the project allows them.
        event_times: The time column of each table that has one.
        secrets: Names of environment variables that hold a secret.
        broken_tables: The names of declared tables that cannot be used.
    """
    try:
        project = open_project(folder)
        allowed = allowed_environment(project, environment, secrets)
    except ModelError as error:
        return ModelSet(
            folder=folder,
            models=(),
            tests=(),
            broken=(Broken("project", folder.name, error.path, error),),
        )
    variables = {**project.variables, **variables}
    known = {**sources, SOURCE: {*sources.get(SOURCE, ()), *broken_tables}}
    return ProjectReader(project, known, variables, allowed, event_times, broken_tables).read()
