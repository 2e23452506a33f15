"""Whether the values of a declaration are of the kinds that its fields name, by pydantic. No I/O.

Strict: a text is not a number, a number is not a text, a list is not a tuple.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def kind_problems(part: object) -> Iterator[tuple[str, str]]:
    """Yield each field of a dataclass whose value is of another kind, and what is wrong with it."""
    if not is_dataclass(part) or isinstance(part, type):
        return
    kinds = _kinds(type(part))
    for one in fields(part):
        if one.init and (problem := _problem(kinds[one.name], getattr(part, one.name))):
            yield one.name, problem


@cache
def _kinds(declared: type) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(declared)
    return {
        one.name: TypeAdapter(
            hints[one.name], config=None if is_dataclass(hints[one.name]) else _STRICT
        )
        for one in fields(declared)
        if one.init
    }


def _problem(kind: TypeAdapter[Any], value: object) -> str | None:
    try:
        kind.validate_python(value, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False)
    else:
        return None
    # Of a union there is one error a member, of a tuple one an element that is wrong.
    first = found[0]["input"]
    wanted = [one["msg"].removeprefix("Input should be ") for one in found if one["input"] is first]
    hint = f"; write ({value!r},)" if found[0]["type"] == "tuple_type" else ""
    return f"{first!r} is not {' or '.join(dict.fromkeys(wanted))}{hint}"
