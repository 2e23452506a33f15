"""What YAML files say of models, seeds, sources and tests: descriptions, options, tests of columns.

The grammar is dbt's. Templates in the texts are not rendered here, options not checked.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakebed.models.model import ModelError, SourceLocation
from lakebed.models.options import TEST_OPTIONS, option_name
from lakebed.models.project import Project
from lakebed.models.yaml_files import Lines, items_of, map_of, read_yaml
from lakebed.spec.broken import Broken

_WORD = re.compile(r"\w+")
_LOG = logging.getLogger("lakebed.models")
# Sections of dbt that have no meaning here and change no rows.
_NOT_READ = {
    *("version", "macros", "exposures", "groups", "metrics", "semantic_models"),
    *("saved_queries", "analyses", "anchors"),
}
_READ = {"models", "seeds", "sources", "tests", "data_tests", "snapshots", "unit_tests"}


@dataclass(frozen=True)
class GenericTest:
    """A test as a YAML file asks for it: unique of a column, or one of the project's own.

    of: the model's name, or (source, table).  options: as written, not checked.
    """

    kind: str
    of: str | tuple[str, str]
    column: str | None
    arguments: Mapping[str, object]
    options: Mapping[str, object]
    name: str | None
    place: SourceLocation


@dataclass(frozen=True)
class Properties:
    """What a YAML file says of one thing. columns: name -> description."""

    place: SourceLocation
    description: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    tests: tuple[GenericTest, ...] = ()
    identifier: str | None = None


@dataclass(frozen=True)
class Described:
    """Everything that the YAML files of a project say; sources by (source, table).

    broken: the files that cannot be used.  unusable: models and seeds of which a file says what
    cannot be used, or that a broken file names, and why.
    """

    models: dict[str, Properties] = field(default_factory=dict)
    seeds: dict[str, Properties] = field(default_factory=dict)
    tests: dict[str, Properties] = field(default_factory=dict)
    sources: dict[tuple[str, str], Properties] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    unusable: dict[str, ModelError] = field(default_factory=dict)


def read_properties(project: Project, names: Collection[str]) -> Described:
    """Read all YAML files of a project.

    Of a file that cannot be read, every model that it names is unusable: what the file says of it,
    that it is incremental or has a test, is not known.

    Args:
        project: Where the files are.
        names: The models and seeds of the project.
    """
    found = Described()
    for path in project.yaml_files():
        try:
            _read_file(found, path)
        except ModelError as error:
            found.broken.append(Broken("YAML file", path.name, path, error))
            text = path.read_bytes().decode(errors="replace")
            words = set(_WORD.findall(text))
            found.unusable.update({name: error for name in names if name in words})
    return found


def _read_file(found: Described, path: Path) -> None:
    said = read_yaml(path)
    _check_sections(said, path)
    for section, known in (("models", found.models), ("seeds", found.seeds)):
        for item in items_of(said, section, path):
            try:
                _add(known, item["name"], _properties(item, path, item["name"]))
            except ModelError as error:
                found.unusable.setdefault(item["name"], error)
    for section in ("tests", "data_tests"):
        for item in items_of(said, section, path):
            _add(found.tests, item["name"], _properties(item, path, item["name"]))
    for item in items_of(said, "sources", path):
        for name, properties in _tables(item, path):
            _add(found.sources, name, properties)


def _check_sections(said: Lines, path: Path) -> None:
    for section in said:
        if section == "snapshots" and said[section]:
            problem = "snapshots are not built here"
            raise ModelError(path, said.line, problem, "Take them out of the file.")
        if section == "unit_tests":
            _LOG.warning("%s: unit_tests are dbt's alone, they are not run here", path)
        if section not in _READ | _NOT_READ:
            problem = f"{section!r} is no section of such a file"
            advice = f"The sections are {', '.join(sorted(_READ - {'unit_tests', 'snapshots'}))}."
            raise ModelError(path, said.line, problem, advice)


def _add(known: dict[Any, Properties], name: object, properties: Properties) -> None:
    if name in known:
        raise ModelError(
            properties.place.path,
            properties.place.line,
            f"{name!r} is described a second time, first in {known[name].place.path}",
            "Describe it once.",
        )
    known[name] = properties


def _tables(source: Lines, path: Path) -> Iterator[tuple[tuple[str, str], Properties]]:
    for table in items_of(source, "tables", path):
        name = (source["name"], table["name"])
        yield name, _properties(table, path, name)


def _properties(item: Lines, path: Path, of: str | tuple[str, str]) -> Properties:
    if item.get("versions"):
        problem = f"{item['name']!r} has versions, which are not known here"
        raise ModelError(path, item.line, problem, "Give each version a name of its own.")
    columns = items_of(item, "columns", path)
    tests = list(_tests(item, path, of, None))
    for column in columns:
        quoted = f'"{column["name"]}"' if column.get("quote") else column["name"]
        tests += _tests(column, path, of, quoted)
    options = {option_name(k): v for k, v in map_of(item, "config", path).items()}
    for name in ("meta", "tags", "docs"):
        if name in item:
            options.setdefault(name, item[name])
    return Properties(
        place=SourceLocation(path, item.line),
        description=str(item.get("description") or ""),
        options=options,
        columns={c["name"]: str(c.get("description") or "") for c in columns},
        tests=tuple(tests),
        identifier=item.get("identifier"),
    )


def _tests(
    owner: Lines, path: Path, of: str | tuple[str, str], column: str | None
) -> Iterator[GenericTest]:
    for section in ("tests", "data_tests"):
        said = owner.get(section) or []
        if not isinstance(said, list):
            raise ModelError(path, owner.line, f"{section} is no list", "Write `- unique`.")
        for entry in said:
            yield _test(entry, SourceLocation(path, getattr(entry, "line", owner.line)), of, column)


def _test(
    entry: object, place: SourceLocation, of: str | tuple[str, str], column: str | None
) -> GenericTest:
    if isinstance(entry, str):
        return GenericTest(entry, of, column, {}, {}, None, place)
    if not isinstance(entry, Lines) or (len(entry) != 1 and "test_name" not in entry):
        advice = "Write its name, or `- name:` with what it takes below."
        raise ModelError(*place, "a test makes no sense", advice)
    if "test_name" in entry:
        kind, said = str(entry["test_name"]), {k: v for k, v in entry.items() if k != "test_name"}
    else:
        ((kind, body),) = entry.items()
        if body is not None and not isinstance(body, Lines):
            raise ModelError(*place, f"the test {kind!r} makes no sense", "Write names and values.")
        said = dict(body or {})
    name = said.pop("name", None)
    options = {option_name(k): v for k, v in (said.pop("config", None) or {}).items()}
    # dbt takes the options beside the arguments too, and the arguments in a block of their own.
    arguments = dict(said.pop("arguments", None) or {})
    for key, value in said.items():
        (options if key in TEST_OPTIONS or key == "fail_calc" else arguments)[key] = value
    column = arguments.pop("column_name", column)
    return GenericTest(kind, of, column, arguments, options, name, place)
