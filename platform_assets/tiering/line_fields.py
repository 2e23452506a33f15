"""Find values in a line that is not a row by the shape that a field would have. Pure.

The fields of such a line are unknown. A value is found between two characters that can delimit a
field, in any case, quoted or not. False matches are preferred to missed ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

_ENDS = ";,|\t\r\n\"'{}[]()="
"""The characters that may delimit a field, in addition to the delimiter of the source."""


def field_pattern(
    value: str, *, number: bool, delimiter: str | None = None, thousands: str = ""
) -> str:
    """Return a regular expression of PostgreSQL for a field with this value.

    number: the value is a number, which may be written with more zeros, a sign or a decimal comma.
    thousands: the separator that may occur between groups of digits.
    """
    ends = "".join(f"\\{mark}" if not mark.isspace() else mark for mark in _ENDS)
    if delimiter and delimiter not in _ENDS:
        ends += delimiter if delimiter.isalnum() or delimiter.isspace() else f"\\{delimiter}"
    field = _number(Decimal(value), thousands) if number else "".join(_written(value))
    return f'(?:^|[{ends}]|"\\s*:)\\s*(?:{field})\\s*(?:$|[{ends}])'


def _number(value: Decimal, thousands: str) -> str:
    whole, _, fraction = f"{abs(value):f}".partition(".")
    between = f"(?:{_escaped(thousands)})?" if thousands else ""
    groups = re.findall(r"\d{1,3}", whole.lstrip("0")[::-1])
    digits = between.join(group[::-1] for group in reversed(groups)) or "0"
    fraction = fraction.rstrip("0")
    rest = f"[.,]{fraction}0*" if fraction else "(?:[.,]0*)?"
    return f"{'-' if value < 0 else '[+]?'}0*{digits}{rest}"


def _written(value: str) -> Iterator[str]:
    """Yield the pattern of each character: a special one may be doubled, or escaped."""
    for char in value:
        if char in "\"'":
            yield f"[\\\\{char}]?{char}"
        elif char.isascii() and not char.isalnum():
            yield f"\\\\?{_escaped(char)}"
        else:
            yield char


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c.isascii() and not c.isalnum() else c for c in text)
