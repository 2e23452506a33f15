"""Read one project of SQL models: render its files, check them and order them.

It omits items that cannot be used, and their readers. `LeftOut` keeps the reasons.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import cast

from lakebed.models.calls import CTE, SOURCE, ProjectContext
from lakebed.models.docs import blocks_of
from lakebed.models.environment import AllowedEnvironment
from lakebed.models.ephemeral import Text, inlined
from lakebed.models.incremental import incremental_of
from lakebed.models.left_out import LeftOut
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
from lakebed.models.model_paths import find_model_files
from lakebed.models.options import MODEL_OPTIONS, SEED_OPTIONS, Options, checked, layered
from lakebed.models.project import Project, broken_snapshots
from lakebed.models.properties import Properties, read_properties
from lakebed.models.queries import leading_comment, parse_query, table_names
from lakebed.models.seeds import seed_query
from lakebed.models.sql_tests import TestReader
from lakebed.models.templates import Rendered, Renderer
from lakebed.spec.broken import Broken

_NOTHING: Mapping[str, object] = MappingProxyType({})
_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})
_OF_A_RUN = ("run_started_at", "is_incremental")
_HOOKS = ("pre_hook", "post_hook")


@dataclass(frozen=True)
class _Draft:
    """A model's file before the other models are known. base: its options from YAML."""

    name: str
    path: Path
    group: str
    folders: tuple[str, ...]
    base: Mapping[str, object]
    properties: Properties
    is_seed: bool


class ProjectReader:
    """Reads one project, and later compiles its queries again for each run."""

    def __init__(
        self,
        project: Project,
        sources: Mapping[str, Collection[str]],
        variables: Mapping[str, object],
        environment: AllowedEnvironment,
        event_times: Mapping[str, str],
        broken_tables: Collection[str],
    ) -> None:
        self._project = project
        self._tables = {table for names in sources.values() for table in names}
        self._files, broken_files = find_model_files(project, self._tables)
        blocks, broken_docs = blocks_of(project)
        broken = [*broken_snapshots(project), *broken_files, *broken_docs]
        names = {*self._files, *(item.name for item in broken_files)}
        self._described = read_properties(project, names)
        found = {source: {name: name for name in names} for source, names in sources.items()}
        for (source, table), properties in self._described.sources.items():
            found.setdefault(source, {})[table] = properties.identifier or table
        self._world = ProjectContext(project.name, names, found, variables, environment, blocks)
        self._world.event_times = {
            **event_times,
            **{
                properties.identifier or table: str(properties.options["event_time"])
                for (_, table), properties in self._described.sources.items()
                if "event_time" in properties.options
            },
        }
        macros = [path for path, _ in project.files("macro", ".sql")]
        macros += [p for p, at in project.files("test", ".sql") if at[:1] == ("generic",)]
        self._renderer = Renderer(self._world, macros)
        broken += [*self._described.broken, *self._renderer.broken]
        self._left_out = LeftOut(self._files, broken_tables, broken)
        self._drafts: dict[str, _Draft] = {}
        self._tests: TestReader | None = None

    def read(self) -> ModelSet:
        """Return the usable models and tests, and the broken items."""
        for name, why in self._described.unusable.items():
            if name in self._files:
                self._left_out.add(name, why)
        self._name_unknown()
        drafts = self._left_out.each(self._files, self._draft)
        rendered = self._left_out.each(
            [name for name, draft in drafts.items() if draft.base.get("enabled", True)],
            lambda name: self._render(drafts[name], Run()),
        )
        enabled = {n: r for n, r in rendered.items() if r.config.get("enabled", True)}
        disabled = drafts.keys() - enabled.keys() - self._left_out.models
        self._left_out.each(enabled, lambda n: self._refuse_disabled(n, enabled[n], disabled))
        enabled = self._left_out.without_readers(enabled, self._renderer.line_of_ref)
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
        again = [name for name, r in enabled.items() if self._world.ephemeral & {*r.refs}]
        enabled |= self._left_out.each(again, lambda name: self._render(drafts[name], Run()))
        models = self._left_out.each(enabled, lambda name: self._model(enabled[name], name))
        models = self._left_out.without_readers(models, self._renderer.line_of_ref)
        given = ModelSet(
            folder=self._project.folder,
            models=self._ordered(models),
            tests=(),
            compiler=self,
            sources={(s, t): i for s, ts in self._world.sources.items() for t, i in ts.items()},
        )
        self._tests = TestReader(
            self._project,
            self._described,
            self._renderer,
            given,
            self._left_out.names,
            self._texts,
        )
        tests = self._tests.read()
        broken = sorted(
            [*self._left_out.broken, *self._tests.broken], key=lambda item: item.reads is not None
        )
        return replace(given, tests=tests, broken=tuple(broken))

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
        file = self._files[name]
        path, group, folders = file
        is_seed = file.is_seed
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
        self, given: Mapping[str, object], place: SourceLocation, options: Options, where: str
    ) -> dict[str, object]:
        found = {}
        for name, value in given.items():
            # A hook's template is rendered for its model.
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
            # An input that only the incremental run reads is a dependency as well.
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
        # The window applies to the model only, not to its hooks and ephemeral inputs, as in dbt.
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
        described = self._renderer.value(draft.properties.description, draft.properties.place)
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
            description=str(config.get("description") or described or comment),
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

    def _name_unknown(self) -> None:
        """Find the items that YAML files describe and the project does not have."""
        seeds = [name for name, file in self._files.items() if file.is_seed]
        models = [name for name in self._files if name not in seeds]
        for known, described, what in (
            (models, self._described.models, "model"),
            (seeds, self._described.seeds, "seed"),
        ):
            for name, properties in described.items():
                if name not in known and name not in self._left_out.models:
                    advice = did_you_mean(name, known, f"The {what}s")
                    problem = f"the file describes the {what} {name!r}, which does not exist"
                    path = properties.place.path
                    error = ModelError(*properties.place, problem, advice)
                    self._left_out.broken.append(Broken("YAML file", path.name, path, error))

    def _refuse_disabled(self, name: str, rendered: Rendered, disabled: Collection[str]) -> None:
        for ref in rendered.refs:
            if ref in disabled:
                path = self._files[name].path
                line = self._renderer.line_of_ref(path, rendered.raw_sql, ref)
                problem = f"ref({ref!r}) names a disabled model"
                raise ModelError(path, line, problem, "Enable it, or disable this model too.")

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
                continue  # {{ this }}: the rows that the model already has
            if name == model.name:
                problem = f"the {model.materialized} {name!r} reads itself"
                advice = "Read its inputs by ref() or source()."
            else:
                problem = f"the SQL names {written!r} directly, and the asset graph cannot see that"
                advice = f"Write {{{{ ref('{name}') }}}} or {{{{ source('{SOURCE}', '{name}') }}}}."
            raise ModelError(model.path, line_of(line), problem, advice)

    def _ordered(self, models: Mapping[str, Model]) -> tuple[Model, ...]:
        """Return the models, each after its inputs. Leave out models that form a circle."""
        graph = {name: models[name].refs for name in sorted(models)}
        try:
            return tuple(models[name] for name in TopologicalSorter(graph).static_order())
        except CycleError as error:
            # graphlib lists each model before its reader, and the first one again at the end.
            names = cast(list[str], error.args[1])[::-1]
            first = models[names[0]]
            circle = ModelError(
                first.path,
                self._renderer.line_of_ref(first.path, first.raw_sql, names[1]),
                f"the models read each other in a circle: {' -> '.join(names)}",
                "Remove one ref() of the circle.",
            )
        for name in dict.fromkeys(names):
            self._left_out.add(name, circle)
        rest = self._left_out.without_readers(models, self._renderer.line_of_ref)
        return self._ordered(rest)


def _code_version(draft: _Draft, sql: str, kind: str, hooks: tuple[str, ...]) -> str:
    """Return the digest of all that decides a model's rows: a seed's file, else the SQL."""
    if draft.is_seed:
        # Its SQL holds the path of the file, which decides nothing.
        types = json.dumps([draft.base.get("column_types"), draft.base.get("delimiter")])
        sql = sha256(draft.path.read_bytes()).hexdigest() + types
    return sha256("\0".join([kind, sql, *hooks]).encode()).hexdigest()
