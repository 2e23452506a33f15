"""Reads a folder of SQL models: finds the files, compiles them, checks and orders them.

    <group>/**/<name>.sql     a model; its asset key is <group>/<name>
    tests/**/<name>.sql       a singular test
    macros/**/*.sql           macros that all of them may use

Everything is known before anything runs: no database, and no file but those of the folder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import cast

from platform_assets.keys import is_name
from platform_assets.models.calls import SOURCE
from platform_assets.models.model import Materialization, Model, ModelError, ModelSet
from platform_assets.models.queries import leading_comment, parse_query, table_names
from platform_assets.models.sql_tests import TESTS_FOLDER, load_tests
from platform_assets.models.templates import Renderer

_NOT_MODELS = {"macros", TESTS_FOLDER}
# The platform's own assets have keys that begin with these.
_RESERVED_GROUPS = {"source", "hot", "cold", "exports"}
_NO_VARIABLES: Mapping[str, object] = MappingProxyType({})


def load_models(
    folder: Path,
    sources: Mapping[str, Collection[str]],
    variables: Mapping[str, object] = _NO_VARIABLES,
) -> ModelSet:
    """Return the models and tests of a folder, compiled, checked and in the order of building.

    sources: the tables that source() may name, by the name of the source: {"lakebed": {...}}.
    variables: the values behind {{ var('...') }}.
    Raises ModelError for the first thing that is wrong.
    """
    if not folder.is_dir():
        advice = "Make it, or let LAKEBED_MODELS name another one."
        raise ModelError(folder, None, "there is no such folder of models", advice)
    tables = {table for names in sources.values() for table in names}
    paths = _model_paths(folder, tables)
    renderer = Renderer(folder, paths, sources, variables)
    models = {
        name: _load_model(renderer, path, path.relative_to(folder).parts[0], {*paths, *tables})
        for name, path in paths.items()
    }
    ordered = _ordered(models, renderer)
    return ModelSet(folder=folder, models=ordered, tests=load_tests(folder, renderer, ordered))


def _model_paths(folder: Path, tables: Collection[str]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for path in _sql_files(folder):
        parts = path.relative_to(folder).parts
        if parts[0] in _NOT_MODELS:
            continue
        if len(parts) == 1:
            advice = "Move it into staging/ or marts/."
            raise ModelError(path, None, "the file lies outside of every group", advice)
        _check_name("folder", parts[0], path)
        _check_name("model", path.stem, path)
        if parts[0] in _RESERVED_GROUPS or parts[0] in tables:
            problem = f"the folder {parts[0]!r} has a name that the platform uses itself"
            raise ModelError(path, None, problem, "Move the file into staging/ or marts/.")
        if path.stem in tables:
            advice = f"Rename the file; stg_{path.stem}.sql is the custom."
            raise ModelError(
                path, None, f"the model {path.stem!r} has the name of a source table", advice
            )
        if path.stem in paths:
            problem = f"the model {path.stem!r} is also defined by {paths[path.stem]}"
            raise ModelError(path, None, problem, "Rename one of them: folders do not tell apart.")
        paths[path.stem] = path
    return paths


def _sql_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.sql")):
        # Editors leave hidden files beside those that they edit.
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _check_name(what: str, name: str, path: Path) -> None:
    if not is_name(name):
        raise ModelError(
            path,
            None,
            f"the {what} {name!r} has a name that would need quotes in SQL",
            "Use small letters, digits and '_', a letter first, at most 40 in all.",
        )


def _load_model(renderer: Renderer, path: Path, group: str, known: Collection[str]) -> Model:
    rendered = renderer.render(path, this=path.stem)
    config = rendered.config
    model = Model(
        name=path.stem,
        path=path,
        raw_sql=rendered.raw_sql,
        sql=rendered.sql,
        lines=rendered.lines,
        refs=rendered.refs,
        sources=rendered.sources,
        description=cast(str, config.get("description", leading_comment(rendered.sql))),
        group=group,
        materialized=cast(Materialization, config.get("materialized", "view")),
        tags=cast(tuple[str, ...], config.get("tags", ())),
        owner=cast(str | None, config.get("owner")),
    )
    _refuse_bare_names(model, known)
    return model


def _refuse_bare_names(model: Model, known: Collection[str]) -> None:
    query = parse_query(model.sql, model.path, model.line_of)
    by_folded = {name.casefold(): name for name in known}
    for written, line in table_names(query):
        name = by_folded.get(written.casefold())
        if name is None or name in model.upstream:
            continue
        if name == model.name:
            problem = f"the {model.materialized} {name!r} reads itself"
            advice = "Read what it is made of, by ref() or source()."
        else:
            problem = f"{written!r} is read by its bare name, which the graph of assets cannot see"
            advice = f"Write {{{{ ref('{name}') }}}} or {{{{ source('{SOURCE}', '{name}') }}}}."
        raise ModelError(model.path, model.line_of(line), problem, advice)


def _ordered(models: Mapping[str, Model], renderer: Renderer) -> tuple[Model, ...]:
    graph = {name: models[name].refs for name in sorted(models)}
    try:
        return tuple(models[name] for name in TopologicalSorter(graph).static_order())
    except CycleError as error:
        # graphlib lists each one before what reads it, and the first one again at the end.
        names = cast(list[str], error.args[1])[::-1]
        first = models[names[0]]
        raise ModelError(
            first.path,
            renderer.line_of_ref(first.path, first.raw_sql, names[1]),
            f"the models read each other in a circle: {' -> '.join(names)}",
            "Take one ref() out of the circle.",
        ) from error
