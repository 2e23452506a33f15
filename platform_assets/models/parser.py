"""Reads a folder of SQL models: finds the files, compiles them, checks and orders them.

Everything is known before anything runs: no database, and no file but those of the folder.
`project` says which file is what.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import cast

from lakebed.models.calls import CTE, SOURCE, ProjectContext
from lakebed.models.docs import blocks_of
from lakebed.models.environment import AllowedEnvironment, allowed_environment
from lakebed.models.ephemeral import Text, inlined
from lakebed.models.incremental import incremental_of
from lakebed.models.model import (
    Incremental,
    Materialization,
    Model,
    ModelError,
    ModelSet,
    Q,
    Run,
    SourceLocation,
    UnlocatedModelError,
    did_you_mean,
)
from lakebed.models.options import MODEL_OPTIONS, SEED_OPTIONS, Options, checked, layered
from lakebed.models.project import Project, open_project
from lakebed.models.properties import Properties, read_properties
from lakebed.models.queries import leading_comment, parse_query, table_names
from lakebed.models.seeds import seed_query
from lakebed.models.sql_tests import TestReader
from lakebed.models.templates import Rendered, Renderer

SEEDS = "seeds"
# The platform's own assets have keys that begin with these.
_RESERVED_GROUPS = {"source", "hot", "cold", "exports"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_NOTHING: Mapping[str, object] = MappingProxyType({})
_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})
_OF_A_RUN = ("run_started_at", "is_incremental")
_HOOKS = ("pre_hook", "post_hook")


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
    project = open_project(folder)
    variables = {**project.variables, **variables}
    allowed = allowed_environment(project, environment, secrets)
    return _Reader(project, sources, variables, allowed, event_times).read()


@dataclass(frozen=True)
class _Draft:
    """A model's file before its neighbours are known. base: its options from YAML."""

    name: str
    path: Path
    group: str
    folders: tuple[str, ...]
    base: Mapping[str, object]
    properties: Properties
    is_seed: bool


class _Reader:
    """Reads one project. It stays, to compile a query anew for a run."""

    def __init__(
        self,
        project: Project,
        sources: Mapping[str, Collection[str]],
        variables: Mapping[str, object],
        environment: AllowedEnvironment,
        event_times: Mapping[str, str],
    ) -> None:
        self._project = project
        self._described = read_properties(project)
        self._tables = {table for names in sources.values() for table in names}
        found = {source: {name: name for name in names} for source, names in sources.items()}
        found.setdefault(SOURCE, {})
        for (source, table), said in self._described.sources.items():
            found.setdefault(source, {})[table] = said.identifier or table
        self._files = dict(_model_files(project, self._tables))
        self._world = ProjectContext(
            project.name, self._files, found, variables, environment, blocks_of(project)
        )
        self._world.event_times = {
            **event_times,
            **{
                said.identifier or table: str(said.options["event_time"])
                for (_, table), said in self._described.sources.items()
                if "event_time" in said.options
            },
        }
        macros = [path for path, _ in project.files("macro", ".sql")]
        macros += [p for p, at in project.files("test", ".sql") if at[:1] == ("generic",)]
        self._renderer = Renderer(self._world, macros)
        self._drafts: dict[str, _Draft] = {}
        self._tests: TestReader | None = None

    def read(self) -> ModelSet:
        self._refuse_unknown_names()
        drafts = {name: self._draft(name) for name in self._files}
        rendered = {
            name: self._render(draft, Run())
            for name, draft in drafts.items()
            if draft.base.get("enabled", True)
        }
        enabled = {n: r for n, r in rendered.items() if r.config.get("enabled", True)}
        self._refuse_disabled(enabled)
        self._drafts = {name: drafts[name] for name in enabled}
        self._world.ephemeral = frozenset(
            name for name, r in enabled.items() if r.config.get("materialized") == "ephemeral"
        )
        self._world.event_times = {
            **self._world.event_times,
            **{
                n: str(r.config["event_time"])
                for n, r in enabled.items()
                if "event_time" in r.config
            },
        }
        for name, found in enabled.items():
            if self._world.ephemeral & {*found.refs}:
                enabled[name] = self._render(drafts[name], Run())
        models = self._ordered({name: self._model(enabled[name], name) for name in enabled})
        given = ModelSet(
            folder=self._project.folder,
            models=models,
            tests=(),
            compiler=self,
            sources={(s, t): i for s, ts in self._world.sources.items() for t, i in ts.items()},
        )
        self._tests = TestReader(
            self._project,
            self._described,
            self._renderer,
            given,
            frozenset(self._files),
            self._texts,
        )
        return replace(given, tests=self._tests.read())

    def compiled(self, query: Q, run: Run) -> Q:
        """Return a query with the SQL that it has in a run."""
        raws = [query.raw_sql, *(self._drafts[n].path.read_text() for n in self._world.ephemeral)]
        of_a_run = any(self._renderer.mentions(raw, *_OF_A_RUN) for raw in raws)
        if run.window is None and not of_a_run:
            return query
        if not isinstance(query, Model):
            assert self._tests is not None
            return cast(Q, self._tests.versions[query.name](run))
        if query.materialized == "seed":
            return query
        draft = self._drafts[query.name]
        fresh = self._model(self._render(draft, run), query.name, run)
        return cast(Q, replace(fresh, code_version=query.code_version))

    def _draft(self, name: str) -> _Draft:
        path, group, folders = self._files[name]
        is_seed = group == SEEDS and path.suffix == ".csv"
        known = self._described.seeds if is_seed else self._described.models
        properties = known.get(name, Properties(SourceLocation(path, None)))
        options = SEED_OPTIONS if is_seed else MODEL_OPTIONS
        section = "seeds" if is_seed else "models"
        layers = [
            self._layer({option: value}, place, options, "dbt_project.yml")
            for option, value, place in self._project.options_of(section, (*folders, name))
        ]
        layers.append(self._layer(properties.options, properties.place, options, f"{name!r}"))
        base = layered(*layers)
        return _Draft(name, path, group, folders, base, properties, is_seed)

    def _layer(
        self, said: Mapping[str, object], place: SourceLocation, options: Options, where: str
    ) -> dict[str, object]:
        found = {}
        for name, value in said.items():
            # A hook's template runs for the model that it is a hook of.
            value = value if name in _HOOKS else self._renderer.value(value, place)
            try:
                found[name] = checked(name, value, options, where)
            except UnlocatedModelError as complaint:
                raise complaint.at(*place) from complaint
        return found

    def _render(self, draft: _Draft, run: Run) -> Rendered:
        if draft.is_seed:
            sql = seed_query(draft.path, draft.base)
            return Rendered("", sql, (1,) * (sql.count("\n") + 1), (), (), draft.base)
        found = self._renderer.render(draft.path, this=draft.name, base=draft.base, run=run)
        if not run.incremental and self._renderer.mentions(found.raw_sql, "is_incremental"):
            # What only the incremental run reads is a dependency as well.
            also = self._renderer.render(
                draft.path, this=draft.name, base=draft.base, run=replace(run, incremental=True)
            )
            refs = tuple(dict.fromkeys(found.refs + also.refs))
            sources = tuple(dict.fromkeys(found.sources + also.sources))
            found = replace(found, refs=refs, sources=sources)
        return found

    def _model(self, rendered: Rendered, name: str, run: Run | None = None) -> Model:
        draft, config = self._drafts[name], rendered.config
        run = run or Run()
        # The window is the model's own: not that of its hooks and of what it inlines, as in dbt.
        apart = replace(run, window=None)
        places = tuple(SourceLocation(draft.path, line) for line in rendered.lines)
        own = Text(rendered.sql, places, rendered.refs)
        text = inlined(own, self._texts(apart))
        hooks = {at: self._hooks(draft, config, at, apart) for at in _HOOKS}
        refs = dict.fromkeys(rendered.refs)
        sources = dict.fromkeys(rendered.sources)
        for hook in (*hooks["pre_hook"], *hooks["post_hook"]):
            refs |= dict.fromkeys(hook.refs)
            sources |= dict.fromkeys(hook.sources)
        said = self._renderer.value(draft.properties.description, draft.properties.place)
        comment = "" if draft.is_seed else leading_comment(rendered.sql)
        kind = "seed" if draft.is_seed else config.get("materialized", "view")
        pre, post = (tuple(hook.sql for hook in hooks[at]) for at in _HOOKS)
        incremental = self._incremental(draft, config) if kind == "incremental" else None
        model = Model(
            name=name,
            path=draft.path,
            raw_sql=rendered.raw_sql,
            sql=text.sql,
            lines=text.lines,
            files=text.files(draft.path),
            refs=tuple(ref for ref in refs if ref != name),
            sources=tuple(sources),
            description=str(config.get("description") or said or comment),
            tags=cast(tuple[str, ...], config.get("tags", ())),
            options=config,
            group=draft.group,
            materialized=cast(Materialization, kind),
            owner=cast(str | None, config.get("owner")),
            code_version=_code_version(draft, text.sql, str(incremental or kind), (*pre, *post)),
            folders=draft.folders,
            columns={
                column: str(self._renderer.value(text, draft.properties.place))
                for column, text in draft.properties.columns.items()
            },
            pre_hooks=pre,
            post_hooks=post,
            incremental=incremental,
        )
        if not draft.is_seed:
            self._refuse_bare_names(model, rendered, run)
        return model

    def _incremental(self, draft: _Draft, config: Mapping[str, object]) -> Incremental:
        try:
            return incremental_of(config)
        except UnlocatedModelError as complaint:
            raise complaint.at(draft.path, None) from complaint

    def _hooks(
        self, draft: _Draft, config: Mapping[str, object], at: str, run: Run
    ) -> list[Rendered]:
        texts = cast(tuple[str, ...], config.get(at, ()))
        place = SourceLocation(draft.path, None)
        return [self._renderer.render_text(text, place, this=draft.name, run=run) for text in texts]

    def _texts(self, run: Run) -> Mapping[str, Text]:
        """Return the ephemeral models as they are written."""
        if run == Run():
            return self._texts_before_a_run
        return self._ephemeral(run)

    @cached_property
    def _texts_before_a_run(self) -> Mapping[str, Text]:
        return self._ephemeral(Run())

    def _ephemeral(self, run: Run) -> Mapping[str, Text]:
        found = {}
        for name in self._world.ephemeral:
            draft = self._drafts[name]
            rendered = self._render(draft, run)
            places = tuple(SourceLocation(draft.path, line) for line in rendered.lines)
            found[name] = Text(rendered.sql, places, rendered.refs)
        return found

    def _refuse_unknown_names(self) -> None:
        seeds = [name for name, (path, *_) in self._files.items() if path.suffix == ".csv"]
        models = [name for name in self._files if name not in seeds]
        for known, described, what in (
            (models, self._described.models, "model"),
            (seeds, self._described.seeds, "seed"),
        ):
            for name, properties in described.items():
                if name not in known:
                    advice = did_you_mean(name, known, f"The {what}s")
                    problem = f"{name!r} is described, and there is no such {what}"
                    raise ModelError(*properties.place, problem, advice)

    def _refuse_disabled(self, enabled: Mapping[str, Rendered]) -> None:
        for name, rendered in enabled.items():
            for ref in rendered.refs:
                if ref not in enabled:
                    path = self._files[name][0]
                    line = self._renderer.line_of_ref(path, rendered.raw_sql, ref)
                    problem = f"ref({ref!r}) names a model that is disabled"
                    raise ModelError(path, line, problem, "Enable it, or disable this one too.")

    def _refuse_bare_names(self, model: Model, rendered: Rendered, run: Run) -> None:
        def line_of(line: int) -> int:
            return rendered.lines[min(max(line, 1), len(rendered.lines)) - 1]

        query = parse_query(rendered.sql, model.path, line_of)
        by_folded = {name.casefold(): name for name in (*self._files, *self._tables)}
        for written, line in table_names(query):
            name = by_folded.get(written.casefold())
            if name is None or name in model.upstream or written.startswith(CTE):
                continue
            if name == model.name and run.incremental:
                continue  # {{ this }}: what is there already
            if name == model.name:
                problem = f"the {model.materialized} {name!r} reads itself"
                advice = "Read what it is made of, by ref() or source()."
            else:
                problem = (
                    f"{written!r} is read by its bare name, which the graph of assets cannot see"
                )
                advice = f"Write {{{{ ref('{name}') }}}} or {{{{ source('{SOURCE}', '{name}') }}}}."
            raise ModelError(model.path, line_of(line), problem, advice)

    def _ordered(self, models: Mapping[str, Model]) -> tuple[Model, ...]:
        graph = {name: models[name].refs for name in sorted(models)}
        try:
            return tuple(models[name] for name in TopologicalSorter(graph).static_order())
        except CycleError as error:
            # graphlib lists each one before what reads it, and the first one again at the end.
            names = cast(list[str], error.args[1])[::-1]
            first = models[names[0]]
            raise ModelError(
                first.path,
                self._renderer.line_of_ref(first.path, first.raw_sql, names[1]),
                f"the models read each other in a circle: {' -> '.join(names)}",
                "Take one ref() out of the circle.",
            ) from error


def _code_version(draft: _Draft, sql: str, kind: str, hooks: tuple[str, ...]) -> str:
    """Return the digest of what decides a model's rows: a seed's file, else the SQL."""
    if draft.is_seed:
        # Its SQL holds the path of the file, which decides nothing.
        types = json.dumps([draft.base.get("column_types"), draft.base.get("delimiter")])
        sql = sha256(draft.path.read_bytes()).hexdigest() + types
    return sha256("\0".join([kind, sql, *hooks]).encode()).hexdigest()


def _model_files(
    project: Project, tables: Collection[str]
) -> Iterator[tuple[str, tuple[Path, str, tuple[str, ...]]]]:
    """Yield the name of each model and seed, its file, its group, the project and its folders."""
    found: dict[str, Path] = {}
    for path, folders in project.files("model", ".sql"):
        if not folders and not project.is_dbt:
            advice = "Move it into staging/ or marts/."
            raise ModelError(path, None, "the file lies outside of every group", advice)
        group = folders[0] if folders else "models"
        _check_name("folder", group, path)
        _check_name("model", path.stem, path)
        if group in _RESERVED_GROUPS or group in tables:
            problem = f"the folder {group!r} has a name that the platform uses itself"
            raise ModelError(path, None, problem, "Move the file into staging/ or marts/.")
        _check_unique(path, found, tables, "model", f"stg_{path.stem}.sql")
        yield path.stem, (path, group, (project.name, *folders))
    for path, folders in project.files("seed", ".csv"):
        _check_name("seed", path.stem, path)
        _check_unique(path, found, tables, "seed", f"seed_{path.stem}.csv")
        yield path.stem, (path, SEEDS, (project.name, *folders))


def _check_unique(
    path: Path, found: dict[str, Path], tables: Collection[str], what: str, custom: str
) -> None:
    if path.stem in tables:
        problem = f"the {what} {path.stem!r} has the name of a source table"
        raise ModelError(path, None, problem, f"Rename the file; {custom} is the custom.")
    if path.stem in found:
        problem = f"the {what} {path.stem!r} is also defined by {found[path.stem]}"
        raise ModelError(path, None, problem, "Rename one of them: folders do not tell apart.")
    found[path.stem] = path


def _check_name(what: str, name: str, path: Path) -> None:
    if not _NAME.fullmatch(name):
        raise ModelError(
            path,
            None,
            f"the {what} {name!r} has a name that would need quotes in SQL",
            "Use small letters, digits and '_', a letter first, at most 100 in all.",
        )
