"""What a template may call: ref, source, config, var, each with the meaning that dbt gives it.

A `Calls` object lives for one rendering and remembers what was asked for. The options of config()
and what they may be are here as well. Where in a file a call stands is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import cast

from platform_assets.models.model import did_you_mean

SOURCE = "lakebed"
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_OWNER = re.compile(r"team:.+|[^@\s]+@[^@\s]+\.[^@\s]+")
_MISSING = object()


class CallError(ValueError):
    """A call that makes no sense: what is wrong and what to do."""

    def __init__(self, problem: str, advice: str) -> None:
        self.problem = problem
        self.advice = advice
        super().__init__(f"{problem}. {advice}")


def _is_one_of(*choices: str) -> Callable[[object], str | None]:
    written = " or ".join(repr(choice) for choice in choices)
    return lambda value: None if value in choices else f"Use {written}."


def _is_text(value: object) -> str | None:
    return None if isinstance(value, str) else "Write it as one text in quotes."


def _is_tags(value: object) -> str | None:
    tags = [value] if isinstance(value, str) else value
    if isinstance(tags, list | tuple) and all(
        isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags
    ):
        return None
    return "Tags are texts of letters, digits, '_', '-' and '.', in a list: tags=['daily']."


def _is_owner(value: object) -> str | None:
    if isinstance(value, str) and _OWNER.fullmatch(value):
        return None
    return "An owner is an e-mail address or 'team:' and a name."


Options = Mapping[str, Callable[[object], str | None]]

MODEL_OPTIONS: Options = {
    "materialized": _is_one_of("view", "table"),
    "description": _is_text,
    "tags": _is_tags,
    "owner": _is_owner,
}
TEST_OPTIONS: Options = {"severity": _is_one_of("error", "warn"), "description": _is_text}


class Calls:
    """The functions that one template sees, and what it asked of them."""

    def __init__(
        self,
        models: Collection[str],
        sources: Mapping[str, Collection[str]],
        variables: Mapping[str, object],
        options: Options,
    ) -> None:
        self._known_models = models
        self._known_sources = sources
        self._variables = variables
        self._options = options
        # Dictionaries serve as sets that keep the order in which things were asked for.
        self.refs: dict[str, None] = {}
        self.sources: dict[str, None] = {}
        self.config: dict[str, object] = {}

    def ref(self, *names: object, **options: object) -> str:
        """Return the quoted name of a model, and remember that it is read."""
        name = _only_text("ref", names, options, "{{ ref('model') }}")
        if name not in self._known_models:
            advice = did_you_mean(name, self._known_models, "The models")
            if any(name in tables for tables in self._known_sources.values()):
                advice = f"It is a source table: write {{{{ source('{SOURCE}', '{name}') }}}}."
            raise CallError(f"ref({name!r}) names no model", advice)
        self.refs[name] = None
        return f'"{name}"'

    def source(self, *names: object, **options: object) -> str:
        """Return the quoted name of a source table, and remember that it is read."""
        usage = f"{{{{ source('{SOURCE}', 'table') }}}}"
        if len(names) != 2:
            raise CallError(
                f"source() takes a source and a table, it got {len(names)}", f"Write {usage}."
            )
        source = _only_text("source", names[:1], options, usage)
        table = _only_text("source", names[1:], options, usage)
        tables = self._known_sources.get(source)
        if tables is None:
            advice = did_you_mean(source, self._known_sources, "The sources")
            raise CallError(f"source({source!r}, {table!r}) names no source", advice)
        if table not in tables:
            advice = did_you_mean(table, tables, f"The tables of {source!r}")
            if table in self._known_models:
                advice = f"It is a model: write {{{{ ref('{table}') }}}}."
            raise CallError(f"source({source!r}, {table!r}) names no table", advice)
        self.sources[table] = None
        return f'"{table}"'

    def configure(self, **options: object) -> str:
        """Remember the options. A later call overrides an earlier one; tags add up."""
        for name, value in options.items():
            if name not in self._options:
                advice = did_you_mean(name, self._options, "The options")
                raise CallError(f"config() has no option {name!r} here", advice)
            complaint = self._options[name](value)
            if complaint is not None:
                raise CallError(f"config({name}={value!r}) makes no sense", complaint)
            if name == "tags":
                fresh = (value,) if isinstance(value, str) else tuple(cast(Collection[str], value))
                earlier = cast(tuple[str, ...], self.config.get("tags", ()))
                value = tuple(dict.fromkeys(earlier + fresh))
            self.config[name] = value
        return ""

    def var(self, name: str, default: object = _MISSING) -> object:
        """Return the value of a variable, or the default where it has none."""
        value = self._variables.get(name, default)
        if value is _MISSING:
            raise CallError(
                f"var({name!r}) has no value and no default",
                f"Give it one, {{{{ var('{name}', 0) }}}}, or set the variable. "
                + did_you_mean(name, self._variables, "The variables"),
            )
        return value

    def namespace(self) -> dict[str, object]:
        """Return the functions by the names under which a template sees them."""
        return {
            "ref": self.ref,
            "source": self.source,
            "config": self.configure,
            "var": self.var,
        }


def _only_text(
    function: str, arguments: tuple[object, ...], options: Mapping[str, object], usage: str
) -> str:
    if len(arguments) == 1 and isinstance(arguments[0], str) and not options:
        return arguments[0]
    given = [repr(argument) for argument in arguments]
    given += [f"{name}={value!r}" for name, value in options.items()]
    problem = f"{function}() does not take ({', '.join(given)})"
    raise CallError(problem, f"Write {usage}.")
