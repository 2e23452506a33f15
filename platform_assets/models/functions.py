"""dbt's functions that do not depend on models: log, target, modules, tojson, return, ...

SQL is compiled before anything runs. Functions that need a database while a template runs
(run_query, adapter, statement) therefore raise an error.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import NoReturn
from zoneinfo import ZoneInfo

import yaml

from lakebed.models.model import UnlocatedModelError

_LOG = logging.getLogger("lakebed.models")
TARGET: Mapping[str, object] = {
    "name": "lakebed",
    "type": "duckdb",
    "database": "lakebed",
    "schema": "main",
    "profile_name": "lakebed",
    "threads": 4,
}
_MODULES: Mapping[str, Mapping[str, object]] = {
    "datetime": {
        **{"date": date, "datetime": datetime, "time": time, "timedelta": timedelta},
        **{"timezone": timezone, "tzinfo": tzinfo},
    },
    "pytz": {"timezone": ZoneInfo, "utc": UTC, "UTC": UTC},
    "re": {
        name: getattr(re, name)
        for name in (
            *("compile", "escape", "findall", "finditer", "fullmatch", "match", "search"),
            *("split", "sub", "subn", "I", "IGNORECASE", "M", "MULTILINE", "S", "DOTALL"),
        )
    },
    "itertools": {
        name: getattr(itertools, name)
        for name in (
            *("accumulate", "chain", "combinations", "groupby", "islice", "permutations"),
            *("product", "starmap", "zip_longest"),
        )
    },
}


class Returned(Exception):  # noqa: N818  (not an error: control flow of macros)
    """Carries the value that a macro returns with return()."""

    def __init__(self, value: object) -> None:
        self.value = value
        super().__init__("return() outside of a macro")


class Unavailable:
    """A name of dbt's that Lakebed does not support. Every use of it raises an error."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *arguments: object, **options: object) -> NoReturn:
        """Refuse the call."""
        self._refuse()

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnlocatedModelError(
            f"{self._name} needs a database, and templates run without one",
            "Write the query in the SQL of the model.",
        )


class _Exceptions:
    """dbt's `exceptions`."""

    def raise_compiler_error(self, text: object) -> NoReturn:
        """Raise an error with the text of the template."""
        raise UnlocatedModelError(str(text).rstrip("."), "The template raises this error.")

    def warn(self, text: object) -> str:
        """Log a warning."""
        _LOG.warning("%s", text)
        return ""


def functions(project: str, started_at: datetime, *, quiet: bool) -> dict[str, object]:
    """Return the functions by name.

    Args:
        project: The name of the project.
        started_at: When the run began.
        quiet: Let log() write nothing.
    """
    return {
        "target": TARGET,
        "project_name": project,
        "run_started_at": started_at,
        "execute": True,
        "modules": _MODULES,
        "exceptions": _Exceptions(),
        "return": _return,
        "log": _silent if quiet else _log,
        "print": _silent if quiet else _log,
        "tojson": _tojson,
        "fromjson": _quietly(json.loads),
        "toyaml": _toyaml,
        "fromyaml": _quietly(yaml.safe_load),
        "set": _collected(lambda items: list(dict.fromkeys(items))),
        "zip": _zip,
        "local_md5": lambda text: hashlib.md5(text.encode()).hexdigest(),  # noqa: S324
        **{name: Unavailable(name) for name in ("adapter", "run_query", "statement", "api")},
        **{name: Unavailable(name) for name in ("load_result", "graph", "store_result")},
    }


def _return(value: object = None) -> NoReturn:
    raise Returned(value)


def _log(text: object, info: bool = False) -> str:
    _LOG.log(logging.INFO if info else logging.DEBUG, "%s", text)
    return ""


def _silent(text: object = "", info: bool = False) -> str:
    return ""


def _tojson(value: object, default: object = None, sort_keys: bool = False) -> object:
    try:
        return json.dumps(value, sort_keys=sort_keys)
    except (TypeError, ValueError):
        return default


def _toyaml(value: object, default: object = None, sort_keys: bool = False) -> object:
    try:
        return yaml.safe_dump(value, sort_keys=sort_keys)
    except yaml.YAMLError:
        return default


def _quietly(read: Callable[[str], object]) -> Callable[..., object]:
    def call(text: str, default: object = None) -> object:
        try:
            return read(text)
        except (ValueError, yaml.YAMLError):
            return default

    return call


def _collected(make: Callable[[list[object]], object]) -> Callable[..., object]:
    def call(value: object, default: object = None) -> object:
        return make(list(value)) if hasattr(value, "__iter__") else default

    return call


def _zip(*parts: list[object], default: object = None) -> object:
    return [*zip(*parts, strict=False)]
