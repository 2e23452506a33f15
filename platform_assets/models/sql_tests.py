"""Reads tests: queries that return the rows that should not be there, singular and generic ones.

A test belongs to one model, or to a source table: what a YAML file says it is about, or the last
one to be built of those that it refers to, so that all it reads is there when it runs. The leading
comment of a singular test says what a returned row means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from lakebed.models.ephemeral import Text, inlined
from lakebed.models.generic_tests import ask
from lakebed.models.model import (
    Model,
    ModelError,
    ModelSet,
    Run,
    Severity,
    SourceLocation,
    SqlTest,
    UnlocatedModelError,
)
from lakebed.models.options import TEST_OPTIONS, checked, layered
from lakebed.models.project import Project
from lakebed.models.properties import Described, GenericTest, Properties
from lakebed.models.queries import leading_comment, parse_query
from lakebed.models.templates import Rendered, Renderer

_NO_PROPERTIES = Properties(SourceLocation(Path(), None))


@dataclass
class TestReader:
    """Reads the tests of a project.

    models: in the order of building.  names: of all models, those that are disabled too.
    texts: the ephemeral models in a run.  versions: name -> the test as it is in a run.
    """

    __test__ = False

    project: Project
    described: Described
    renderer: Renderer
    models: ModelSet
    names: frozenset[str]
    texts: Callable[[Run], Mapping[str, Text]]

    def __post_init__(self) -> None:
        """Begin with none."""
        self.versions: dict[str, Callable[[Run], SqlTest]] = {}

    def read(self) -> tuple[SqlTest, ...]:
        """Return the tests, by name. Raises ModelError for one that makes no sense."""
        tests: dict[str, SqlTest] = {}
        for make in self._all():
            test = make(Run())
            if test is None:
                continue
            if test.name in tests:
                problem = f"the test {test.name!r} is also defined by {tests[test.name].path}"
                raise ModelError(test.path, test.line, problem, "Rename one of them.")
            tests[test.name] = test
            self.versions[test.name] = cast(Callable[[Run], SqlTest], make)
        return tuple(tests[name] for name in sorted(tests))

    def _all(self) -> Iterator[Callable[[Run], SqlTest | None]]:
        for path, folders in self.project.files("test", ".sql"):
            if folders[:1] != ("generic",):
                base = self._base(
                    (*folders, path.stem), self.described.tests.get(path.stem, _NO_PROPERTIES)
                )
                yield partial(self._singular, path, base)
        said = [*self.described.models.items(), *self.described.seeds.items()]
        for of, properties in [*said, *self.described.sources.items()]:
            if isinstance(of, str) and of not in self.models.by_name:
                continue  # it is disabled, or that it is unknown was said before
            for test in properties.tests:
                base = self._base(("generic",), _NO_PROPERTIES)
                yield partial(self._generic, test, base)

    def _base(self, folders: tuple[str, ...], properties: Properties) -> Mapping[str, object]:
        layers: list[dict[str, object]] = []
        where = (self.project.name, *folders)
        for section in ("tests", "data_tests"):
            layers += (
                self._layer({name: value}, place)
                for name, value, place in self.project.options_of(section, where)
            )
        layers.append(self._layer(properties.options, properties.place))
        if properties.description:
            said = self.renderer.value(properties.description, properties.place)
            layers.append({"description": said})
        return layered(*layers)

    def _layer(self, options: Mapping[str, object], place: SourceLocation) -> dict[str, object]:
        try:
            return {
                name: checked(name, self.renderer.value(value, place), TEST_OPTIONS, "a test")
                for name, value in options.items()
            }
        except UnlocatedModelError as complaint:
            raise complaint.at(*place) from complaint

    def _singular(self, path: Path, base: Mapping[str, object], run: Run) -> SqlTest | None:
        if not path.stem.isidentifier():
            advice = "Use letters, digits and '_', a letter first."
            raise ModelError(path, None, f"{path.stem!r} cannot be the name of a check", advice)
        rendered = self.renderer.render(path, options=TEST_OPTIONS, base=base, run=run)
        if not (rendered.refs or rendered.sources):
            raise ModelError(
                path,
                None,
                "the test refers to no model and no table, so it belongs to none",
                "Name one by ref() or source().",
            )
        if not self._applies(rendered):
            return None
        parse_query(rendered.sql, path, lambda line: rendered.lines[line - 1])
        description = rendered.config.get("description", leading_comment(rendered.sql))
        places = tuple(SourceLocation(path, line) for line in rendered.lines)
        test = self._test(
            path.stem, SourceLocation(path, None), rendered, places, cast(str, description), run
        )
        return replace(test, model=self._last(test))

    def _generic(self, said: GenericTest, base: Mapping[str, object], run: Run) -> SqlTest | None:
        asked = ask(said, self.renderer, base, run)
        rendered = asked.rendered
        if not self._applies(rendered):
            return None
        sql = rendered.sql.strip()
        places = (said.place,) * (sql.count("\n") + 1)
        test = self._test(
            asked.name, said.place, replace(rendered, sql=sql), places, asked.description, run
        )
        parse_query(sql, said.place.path, lambda line: said.place.line or 1)
        return replace(test, kind=said.kind, model=self._about(test, said))

    def _applies(self, rendered: Rendered) -> bool:
        enabled = rendered.config.get("enabled", True)
        return bool(enabled) and all(ref in self.models.by_name for ref in rendered.refs)

    def _test(
        self,
        name: str,
        place: SourceLocation,
        rendered: Rendered,
        places: tuple[SourceLocation, ...],
        description: str,
        run: Run,
    ) -> SqlTest:
        text = inlined(Text(rendered.sql, places, rendered.refs), self.texts(run))
        config = rendered.config
        sql, text_places = text.sql, text.places
        if config.get("limit") is not None:
            # A number, as it was checked.
            sql = f"select * from (\n{sql}\n) as dbt_internal_test\nlimit {config['limit']}"  # noqa: S608
            text_places = (text_places[0], *text_places, text_places[-1], text_places[-1])
        text = Text(sql, text_places, rendered.refs)
        return SqlTest(
            name=name,
            path=place.path,
            line=place.line,
            raw_sql=rendered.raw_sql,
            sql=sql,
            lines=text.lines,
            files=text.files(place.path),
            refs=rendered.refs,
            sources=rendered.sources,
            description=description,
            tags=cast(tuple[str, ...], config.get("tags", ())),
            options=config,
            model="",
            severity=cast(Severity, config.get("severity", "error")),
            error_if=cast(str, config.get("error_if", "!= 0")),
            warn_if=cast(str, config.get("warn_if", "!= 0")),
        )

    def _about(self, test: SqlTest, said: GenericTest) -> str:
        """Return what a YAML file says that the test is about, if the test can run once it is."""
        if not isinstance(said.of, str):
            return self._last(test) if test.refs else self.models.sources[said.of]
        model = self.models.get(said.of)
        others = self.models.reads(test)
        later = [name for name in others if said.of in self.models.ancestors.get(name, ())]
        return model.name if model.is_built and not later else self._last(test)

    def _last(self, test: SqlTest) -> str:
        read = self.models.reads(test)
        built = [model.name for model in self.models.models if model.name in read]
        return built[-1] if built else read[-1]


def is_apart(models: ModelSet, test: SqlTest) -> bool:
    """Whether a test reads models that what it belongs to does not wait for."""
    known = models.ancestors.get(test.model, frozenset()) | {test.model}
    return any(
        isinstance(models.by_name.get(name), Model) and name not in known
        for name in models.reads(test)
    )
