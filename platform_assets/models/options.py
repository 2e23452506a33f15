"""The options of models and tests: their names, their values, and how layers of them combine.

An option can come from three places, as in dbt. The nearest wins: config() in the file, then YAML
in the same folder, then the folder's line in dbt_project.yml. This module does not know the lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import cast

from lakebed.models.model import UnlocatedModelError, did_you_mean
from lakebed.spec.times import TimeTextError, read_time_or_utc

_TAG = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_OWNER = re.compile(r"team:.+|[^@\s]+@[^@\s]+\.[^@\s]+")
_CONDITION = re.compile(r"\s*(!=|<>|>=|<=|==|=|>|<)\s*(\d+)\s*")
_HOOKS = ("pre_hook", "post_hook")


def _is_one_of(*choices: str) -> Callable[[object], str | None]:
    *most, last = (repr(choice) for choice in choices)
    written = f"{', '.join(most)} or {last}"
    return lambda value: None if value in choices else f"Use {written}."


def _is_text(value: object) -> str | None:
    return None if isinstance(value, str) else "Write one text in quotes."


def _is_tags(value: object) -> str | None:
    tags = [value] if isinstance(value, str) else value
    if isinstance(tags, list | tuple) and all(
        isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags
    ):
        return None
    return "A tag has letters, digits, '_', '-' and '.'. Write a list: tags=['daily']."


def _is_owner(value: object) -> str | None:
    if isinstance(value, str) and _OWNER.fullmatch(value):
        return None
    return "An owner is an e-mail address or 'team:' and a name."


def _is_switch(value: object) -> str | None:
    return None if isinstance(value, bool) else "Write true or false."


def _is_map(value: object) -> str | None:
    return None if isinstance(value, Mapping) else "Write names and values: {'name': 'value'}."


def _is_texts(value: object) -> str | None:
    if isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values()):
        return None
    return "Write names and texts: {'name': 'text'}."


def _is_hooks(value: object) -> str | None:
    hooks = value if isinstance(value, list | tuple) else [value]
    if all(isinstance(_sql_of(hook), str) for hook in hooks):
        return None
    return "A hook is one SQL statement in quotes, or a list of them."


def _is_columns(value: object) -> str | None:
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list | tuple) and names and all(isinstance(n, str) and n for n in names):
        return None
    return "Name a column, or several in a list: unique_key=['day', 'kind']."


def _is_moment(value: object) -> str | None:
    try:
        read_time_or_utc(str(value))
    except TimeTextError:
        return "Write a day or a time: begin='2013-01-01'."
    return None


def _is_number_of_windows(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return None
    return "Write a number of windows: lookback=1."


def _is_condition(value: object) -> str | None:
    if isinstance(value, str) and _CONDITION.fullmatch(value):
        return None
    return "Compare the number of rows: '> 10'."


def _is_count(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return None
    return "Write a number of rows."


def _is_no_contract(value: object) -> str | None:
    if isinstance(value, Mapping) and value.get("enforced") in (None, False):
        return None
    return "Lakebed does not enforce the types of models: remove the option, or write a test."


def _is_anything(value: object) -> str | None:
    return None


Options = Mapping[str, Callable[[object], str | None]]

# dbt's options without an effect on the rows here: one schema, one owner of all grants.
_WITHOUT_EFFECT: Options = dict.fromkeys(
    [
        *("access", "concurrent_batches", "database", "docs", "grants", "group"),
        *("persist_docs", "quoting", "schema", "static_analysis"),
    ],
    _is_anything,
)
MODEL_OPTIONS: Options = {
    "materialized": _is_one_of("view", "table", "incremental", "ephemeral"),
    "incremental_strategy": _is_one_of("append", "delete+insert", "merge", "microbatch"),
    "unique_key": _is_columns,
    "on_schema_change": _is_one_of("ignore", "fail", "append_new_columns"),
    "full_refresh": _is_switch,
    "event_time": _is_text,
    "batch_size": _is_one_of("hour", "day", "week", "month", "year"),
    "begin": _is_moment,
    "lookback": _is_number_of_windows,
    "description": _is_text,
    "tags": _is_tags,
    "owner": _is_owner,
    "enabled": _is_switch,
    "meta": _is_map,
    "pre_hook": _is_hooks,
    "post_hook": _is_hooks,
    "contract": _is_no_contract,
}
SEED_OPTIONS: Options = {
    **{name: MODEL_OPTIONS[name] for name in ("description", "tags", "owner", "enabled", "meta")},
    **{name: MODEL_OPTIONS[name] for name in ("event_time", "full_refresh", *_HOOKS)},
    "column_types": _is_texts,
    "delimiter": _is_text,
    "quote_columns": _is_switch,
}
TEST_OPTIONS: Options = {
    "severity": _is_one_of("error", "warn"),
    "description": _is_text,
    "where": _is_text,
    "limit": _is_count,
    "error_if": _is_condition,
    "warn_if": _is_condition,
    "tags": _is_tags,
    "enabled": _is_switch,
    "meta": _is_map,
    "store_failures": _is_anything,
    "store_failures_as": _is_anything,
}


def checked(name: str, value: object, options: Options, written: str = "config") -> object:
    """Check the value of an option, and return it in its normal form.

    Args:
        name: The option.
        value: Its value.
        options: The known options.
        written: Where it is set, for the error: "config" for config(name=value), or a name.

    Raises:
        UnlocatedModelError: The option is unknown, or the value is wrong.
    """
    if name not in options and name not in _WITHOUT_EFFECT:
        where = "config()" if written == "config" else written
        advice = did_you_mean(name, options, "The options")
        raise UnlocatedModelError(f"{where} has no option {name!r} here", advice)
    if name not in options:
        return value
    if name == "severity" and isinstance(value, str):
        value = value.lower()
    complaint = options[name](value)
    if complaint is not None:
        setting = f"config({name}={value!r})" if written == "config" else f"{name}: {value!r}"
        raise UnlocatedModelError(f"{setting} is not a valid option", complaint)
    if name == "tags":
        return (value,) if isinstance(value, str) else tuple(cast(Collection[str], value))
    if name in _HOOKS:
        hooks = value if isinstance(value, list | tuple) else [value]
        return tuple(str(_sql_of(hook)) for hook in hooks)
    if name in ("error_if", "warn_if"):
        return _condition(cast(str, value))
    return value


def layered(*layers: Mapping[str, object]) -> dict[str, object]:
    """Combine layers of options. Later ones override earlier ones; tags, hooks and meta add up."""
    found: dict[str, object] = {}
    for layer in layers:
        for name, value in layer.items():
            if name == "tags" or name in _HOOKS:
                earlier = cast(tuple[str, ...], found.get(name, ()))
                value = tuple(dict.fromkeys(earlier + cast(tuple[str, ...], value)))
            elif name == "meta":
                earlier_meta = cast(Mapping[str, object], found.get(name, {}))
                value = {**earlier_meta, **cast(Mapping[str, object], value)}
            found[name] = value
    return found


def option_name(written: str) -> str:
    """Return the name of an option that dbt_project.yml or YAML writes, such as +pre-hook."""
    return written.removeprefix("+").replace("-", "_")


def _sql_of(hook: object) -> object:
    return hook.get("sql") if isinstance(hook, Mapping) else hook


def _condition(text: str) -> str:
    found = _CONDITION.fullmatch(text)
    assert found is not None
    operator = {"<>": "!=", "==": "="}.get(found[1], found[1])
    return f"{operator} {found[2]}"
