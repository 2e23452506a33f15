"""Read YAML into mappings that know the line on which they begin, for errors that name it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lakebed.models.model import ModelError


class Lines(dict[str, Any]):
    """A mapping of a YAML file. line: where it begins, counted from 1."""

    line: int = 1


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads no more than plain values."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Iterator[Lines]:
    found = Lines()
    found.line = node.start_mark.line + 1
    yield found
    found.update({str(name): value for name, value in loader.construct_mapping(node).items()})


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(path: Path) -> Lines:
    """Return the contents of a file; an empty file is an empty mapping.

    Raises:
        ModelError: The file is not a YAML mapping in UTF-8.
    """
    try:
        found = yaml.load(path.read_bytes(), _Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else None
        problem = f"the YAML cannot be read: {error.problem}"
        raise ModelError(path, line, problem, "Correct it there.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = str(error).partition("\n")[0]
        raise ModelError(
            path, None, f"the YAML cannot be read: {text}", "Save it as UTF-8."
        ) from error
    if found is None:
        return Lines()
    if not isinstance(found, Lines):
        raise ModelError(path, 1, "the file is not a mapping", "Begin with `version: 2`.")
    return found


def items_of(parent: Lines, name: str, path: Path) -> list[Lines]:
    """Return the list of named mappings under a name.

    Raises:
        ModelError: It is not such a list.
    """
    found = parent.get(name) or []
    if not isinstance(found, list) or not all(isinstance(item, Lines) for item in found):
        raise ModelError(
            path, parent.line, f"{name} is not a list of mappings", "Write `- name: ...`."
        )
    for item in found:
        if not isinstance(item.get("name"), str):
            problem = f"something under {name} has no name"
            raise ModelError(path, item.line, problem, "Write `- name: ...`.")
    return found


def map_of(parent: Lines, name: str, path: Path) -> Lines:
    """Return the mapping under a name, or an empty one.

    Raises:
        ModelError: The value is not a mapping.
    """
    found = parent.get(name)
    if found is None:
        return Lines()
    if not isinstance(found, Lines):
        raise ModelError(path, parent.line, f"{name} is not a mapping", "Write names and values.")
    return found
