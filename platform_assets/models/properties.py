"""Read dbt's YAML files about models, seeds, sources and tests: descriptions, options, tests.

This module does not render templates in the texts and does not check options.
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
# Sections of dbt that have no effect here and change no rows.
_NOT_READ = {
    *("version", "macros", "exposures", "groups", "metrics", "semantic_models"),
    *("saved_queries", "analyses", "anchors"),
}
_READ = {"models", "seeds", "sources", "tests", "data_tests", "snapshots", "unit_tests"}


@dataclass(frozen=True)
class GenericTest:
    """A test in a YAML file: a built-in one such as unique, or one of the project.

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
    """A YAML file's description of one model, seed, source or test.

    columns: name -> description.
    """

    place: SourceLocation
    description: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    tests: tuple[GenericTest, ...] = ()
    identifier: str | None = None


@dataclass(frozen=True)
class Described:
    """The contents of all YAML files of a project; sources by (source, table).

    broken: the files that cannot be used.  unusable: the models and seeds with an unusable
    description, or that a broken file names; each with the reason.
    """

    models: dict[str, Properties] = field(default_factory=dict)
    seeds: dict[str, Properties] = field(default_factory=dict)
    tests: dict[str, Properties] = field(default_factory=dict)
    sources: dict[tuple[str, str], Properties] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    unusable: dict[str, ModelError] = field(default_factory=dict)


def read_properties(project: Project, names: Collection[str]) -> Described:
    """Read all YAML files of a project.

    If a file cannot be read, every model that it names is unusable: the file could have made it
    incremental or given it a test.

    Args:
        project: The project with the files.
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
    document = read_yaml(path)
    _check_sections(document, path)
    for section, known in (("models", found.models), ("seeds", found.seeds)):
        for item in items_of(document, section, path):
            try:
                _add(known, item["name"], _properties(item, path, item["name"]))
            except ModelError as error:
                found.unusable.setdefault(item["name"], error)
    for section in ("tests", "data_tests"):
        for item in items_of(document, section, path):
            _add(found.tests, item["name"], _properties(item, path, item["name"]))
    for item in items_of(document, "sources", path):
        for name, properties in _tables(item, path):
            _add(found.sources, name, properties)


def _check_sections(document: Lines, path: Path) -> None:
    for section in document:
        if section == "snapshots" and document[section]:
            problem = "Lakebed does not build snapshots"
            raise ModelError(path, document.line, problem, "Remove them from the file.")
        if section == "unit_tests":
            _LOG.warning("%s: Lakebed does not run unit_tests", path)
        if section not in _READ | _NOT_READ:
            problem = f"{section!r} is not a known section of this file"
            advice = f"The sections are {', '.join(sorted(_READ - {'unit_tests', 'snapshots'}))}."
            raise ModelError(path, document.line, problem, advice)


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
        problem = f"{item['name']!r} has versions, which Lakebed does not support"
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
        tests = owner.get(section) or []
        if not isinstance(tests, list):
            raise ModelError(path, owner.line, f"{section} is not a list", "Write `- unique`.")
        for entry in tests:
            yield _test(entry, SourceLocation(path, getattr(entry, "line", owner.line)), of, column)


def _test(
    entry: object, place: SourceLocation, of: str | tuple[str, str], column: str | None
) -> GenericTest:
    if isinstance(entry, str):
        return GenericTest(entry, of, column, {}, {}, None, place)
    if not isinstance(entry, Lines) or (len(entry) != 1 and "test_name" not in entry):
        advice = "Write its name, or `- name:` with its arguments below."
        raise ModelError(*place, "a test is neither a name nor a mapping", advice)
    if "test_name" in entry:
        kind, fields = str(entry["test_name"]), {k: v for k, v in entry.items() if k != "test_name"}
    else:
        ((kind, body),) = entry.items()
        if body is not None and not isinstance(body, Lines):
            problem = f"the arguments of the test {kind!r} are not a mapping"
            raise ModelError(*place, problem, "Write names and values.")
        fields = dict(body or {})
    name = fields.pop("name", None)
    options = {option_name(k): v for k, v in (fields.pop("config", None) or {}).items()}
    # dbt also takes options next to the arguments, and arguments in a block of their own.
    arguments = dict(fields.pop("arguments", None) or {})
    for key, value in fields.items():
        (options if key in TEST_OPTIONS or key == "fail_calc" else arguments)[key] = value
    column = arguments.pop("column_name", column)
    return GenericTest(kind, of, column, arguments, options, name, place)
