"""Numbers of JSON as they are written, and JSON that keeps them so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import simplejson


class Written(simplejson.RawJSON):  # type: ignore[misc]
    """A number with a fraction or an exponent, as its source wrote it: no digit is lost."""

    def __str__(self) -> str:
        """Return the number in its own notation."""
        return str(self.encoded_json)

    __repr__ = __str__

    def __float__(self) -> float:
        """Return the nearest double, for who counts with it."""
        return float(self.encoded_json)

    def __int__(self) -> int:
        """Return the whole part."""
        return int(float(self))


def json_of(value: Any, text_of: Callable[[Any], str]) -> str:
    """Return nested values as JSON, exact numbers as they are; text_of: of what JSON has not."""
    text: str = simplejson.dumps(
        value,
        default=text_of,
        ensure_ascii=False,
        allow_nan=True,
        use_decimal=True,
        namedtuple_as_object=False,
    )
    return text
