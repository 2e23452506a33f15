"""Reads a folder of SQL models: finds the files, compiles them, checks and orders them.

Everything is known before anything runs: no database is asked, and no file is read but those of
the folder. `project` says which file is what, `project_reader` what becomes of it.
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

    sources: the tables that source() may name, by the name of the source: {"lakebed": {...}}.
    variables: the values behind {{ var('...') }}, over those of dbt_project.yml.
    environment: what env_var() may name, as far as the project allows it.  event_times: the column
    of time of tables that have one.  secrets: names in the environment that hold a secret.
    Raises ModelError for the first thing that is wrong.
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
    """Return what `load_models` returns; what cannot be used is left out, with what reads it.

    The set's `broken` says what was left out and why.

    Args:
        folder: The folder of the project.
        sources: The tables that source() may name, by the name of the source.
        variables: The values behind var(), over those of dbt_project.yml.
        environment: What env_var() may name, as far as the project allows it.
        event_times: The column of time of tables that have one.
        secrets: Names in the environment that hold a secret.
        broken_tables: The names of tables that are declared and cannot be used.
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
