"""Read tests, singular and generic: queries that return failing rows.

A test belongs to one model or source table: the one that a YAML file names, or the last one of its
inputs to be built. All inputs of the test therefore exist when it runs. The leading comment of a
singular test explains what a returned row means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from lakebed.errors import LakebedError
from lakebed.models.ephemeral import Text, inlined
from lakebed.models.generic_tests import ask, name_of
from lakebed.models.model import (
    Model,
    ModelError,
    ModelSet,
    Run,
    Severity,
    SourceLocation,
    SqlTest,
    UnlocatedModelError,
    reads_broken,
)
from lakebed.models.options import TEST_OPTIONS, checked, layered
from lakebed.models.project import Project
from lakebed.models.properties import Described, GenericTest, Properties
from lakebed.models.queries import leading_comment, parse_query
from lakebed.models.templates import Rendered, Renderer
from lakebed.spec.broken import Broken

_NO_PROPERTIES = Properties(SourceLocation(Path(), None))
_Make = Callable[[Run], SqlTest | None]


class _ReadsBrokenError(LakebedError):
    """A test reads a model or table that was left out."""

    def __init__(self, read: str) -> None:
        self.read = read
        super().__init__(read)


@dataclass
class TestReader:
    """Reads the tests of a project.

    models: in the order of building.  left_out: broken models and tables.  texts: returns the
    ephemeral models in a run.  versions: compiles each test for a run.  broken: after `read`, the
    tests that cannot be used.
    """

    __test__ = False

    project: Project
    described: Described
    renderer: Renderer
    models: ModelSet
    left_out: Collection[str]
    texts: Callable[[Run], Mapping[str, Text]]

    def __post_init__(self) -> None:
        """Start without tests."""
        self.versions: dict[str, Callable[[Run], SqlTest]] = {}
        self.broken: list[Broken] = []

    def read(self) -> tuple[SqlTest, ...]:
        """Return the usable tests, by name."""
        tests: dict[str, SqlTest] = {}
        for name, path, about, make in self._all():
            try:
                test = make(Run())
                if test is None:
                    continue
                if test.name in tests:
                    problem = f"the test {test.name!r} is also defined by {tests[test.name].path}"
                    raise ModelError(test.path, test.line, problem, "Rename one of them.")
            except _ReadsBrokenError as error:
                why = reads_broken(name, path, None, error.read)
                self.broken.append(Broken("test", name, path, why, reads=error.read, about=about))
            except ModelError as error:
                self.broken.append(Broken("test", name, path, error, about=about))
            else:
                tests[test.name] = test
                self.versions[test.name] = cast(Callable[[Run], SqlTest], make)
        return tuple(tests[name] for name in sorted(tests))

    def _all(self) -> Iterator[tuple[str, Path, str | None, _Make]]:
        """Yield the name, the file and the model of each test, and a function that makes it."""
        for path, folders in self.project.files("test", ".sql"):
            if folders[:1] != ("generic",):
                yield path.stem, path, None, partial(self._singular, path, folders)
        declared = [*self.described.models.items(), *self.described.seeds.items()]
        for of, properties in [*declared, *self.described.sources.items()]:
            if isinstance(of, str) and of not in self.models.by_name:
                continue  # it is disabled, or the reader has already reported it as unknown
            for test in properties.tests:
                about = of if isinstance(of, str) else None
                yield name_of(test), test.place.path, about, partial(self._generic, test)

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
            description = self.renderer.value(properties.description, properties.place)
            layers.append({"description": description})
        return layered(*layers)

    def _layer(self, options: Mapping[str, object], place: SourceLocation) -> dict[str, object]:
        try:
            return {
                name: checked(name, self.renderer.value(value, place), TEST_OPTIONS, "a test")
                for name, value in options.items()
            }
        except UnlocatedModelError as complaint:
            raise complaint.at(*place) from complaint

    def _singular(self, path: Path, folders: tuple[str, ...], run: Run) -> SqlTest | None:
        properties = self.described.tests.get(path.stem, _NO_PROPERTIES)
        base = self._base((*folders, path.stem), properties)
        if not path.stem.isidentifier():
            advice = "Use letters, digits and '_', a letter first."
            raise ModelError(path, None, f"{path.stem!r} cannot be the name of a check", advice)
        rendered = self.renderer.render(path, options=TEST_OPTIONS, base=base, run=run)
        if not (rendered.refs or rendered.sources):
            raise ModelError(
                path,
                None,
                "the test names no model and no table, so it belongs to none",
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

    def _generic(self, declared: GenericTest, run: Run) -> SqlTest | None:
        asked = ask(declared, self.renderer, self._base(("generic",), _NO_PROPERTIES), run)
        rendered = asked.rendered
        if not self._applies(rendered):
            return None
        sql = rendered.sql.strip()
        places = (declared.place,) * (sql.count("\n") + 1)
        test = self._test(
            asked.name, declared.place, replace(rendered, sql=sql), places, asked.description, run
        )
        parse_query(sql, declared.place.path, lambda line: declared.place.line or 1)
        return replace(test, kind=declared.kind, model=self._about(test, declared))

    def _applies(self, rendered: Rendered) -> bool:
        if not rendered.config.get("enabled", True):
            return False
        for name in (*rendered.refs, *rendered.sources):
            if name in self.left_out:
                raise _ReadsBrokenError(name)
        return all(ref in self.models.by_name for ref in rendered.refs)

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
            # The limit was checked: it is a number.
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

    def _about(self, test: SqlTest, declared: GenericTest) -> str:
        """Return the model that a YAML file names, if the test can run once it is built."""
        if not isinstance(declared.of, str):
            return self._last(test) if test.refs else self.models.sources[declared.of]
        model = self.models.get(declared.of)
        others = self.models.reads(test)
        later = [name for name in others if declared.of in self.models.ancestors.get(name, ())]
        return model.name if model.is_built and not later else self._last(test)

    def _last(self, test: SqlTest) -> str:
        read = self.models.reads(test)
        built = [model.name for model in self.models.models if model.name in read]
        return built[-1] if built else read[-1]


def is_apart(models: ModelSet, test: SqlTest) -> bool:
    """Whether a test reads models that its own model does not depend on."""
    known = models.ancestors.get(test.model, frozenset()) | {test.model}
    return any(
        isinstance(models.by_name.get(name), Model) and name not in known
        for name in models.reads(test)
    )
