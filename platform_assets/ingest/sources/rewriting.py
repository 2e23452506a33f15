r"""Rewrite CSV that Arrow cannot read into CSV that it can: bytes in, bytes out.

Spaces before values are left out, short lines get the values that they lack, null strings such as
\N are marked, and the escapes of COPY become those of CSV. Whole records; all by array, or by one
regular expression.
"""

from __future__ import annotations

import re

import numpy as np

from lakebed.ingest.sources.dialect import Dialect
from lakebed.ingest.sources.marks import (
    delimiters_in,
    hides_escapes,
    initial_spaces,
    line_ends,
    quotes_in,
    unescaped_escapes,
)

NULL = b"\0null\0"
"""Replaces a null that Arrow would not recognize, such as \\N; no text contains it."""
_COPY = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_COPY_TABLE = np.arange(256, dtype=np.uint8)
for _letter, _byte in _COPY.items():
    _COPY_TABLE[_letter[0]] = _byte[0]
_COPY_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))", re.S)
_COPY_NUMBER = re.compile(rb"\\[x0-7]")


class Rewriting:
    """Makes CSV that Arrow reads of whole records in a dialect."""

    def __init__(self, dialect: Dialect, columns: int, nulls: list[str]) -> None:
        """Know the dialect, how many columns there are, and null strings that begin escaped."""
        self._dialect = dialect
        self._columns = columns
        self._nulls = _EscapedNulls(nulls, dialect) if nulls else None

    @property
    def marks_nulls(self) -> bool:
        """Whether the result may hold NULL."""
        return self._nulls is not None or self._dialect.short_lines

    def __call__(self, data: bytes) -> bytes:
        """Return the records as Arrow reads them."""
        if self._dialect.initial_space and b" " in data:
            data = _without_spaces(data, self._dialect)
        if self._dialect.short_lines and self._columns > 1:
            data = _filled(data, self._dialect, self._columns)
        if self._nulls is not None:
            data = self._nulls.marked(data)
        if self._dialect.copy_text and b"\\" in data:
            data = _from_copy(data)
        return data


def _without_spaces(data: bytes, dialect: Dialect) -> bytes:
    array = np.frombuffer(data, np.uint8)
    return np.delete(array, initial_spaces(array, dialect)).tobytes()


def _filled(data: bytes, dialect: Dialect, columns: int) -> bytes:
    """Return records in which no line has too few values; it gets nulls for them."""
    array = np.frombuffer(data, np.uint8)
    quotes = quotes_in(array, dialect)
    ends = line_ends(array, quotes, dialect)
    if len(ends) == 0 or ends[-1] < len(array) - 2:
        ends = np.append(ends, len(array.tobytes().rstrip(b"\r\n")))
    delimiters = delimiters_in(array, quotes, dialect)
    values = np.diff(np.searchsorted(delimiters, ends), prepend=0) + 1
    # A line without a byte is none.
    blank = np.isin(array[np.maximum(ends - 1, 0)], [10, 13]) | (ends == 0)
    missing = np.where(blank, 0, np.maximum(columns - values, 0))
    if not missing.any():
        return data
    token = np.frombuffer(dialect.delimiter + NULL, np.uint8)
    places = np.repeat(ends, missing * len(token))
    return np.insert(array, places, np.tile(token, int(missing.sum()))).tobytes()


def _from_copy(data: bytes) -> bytes:
    r"""Return records whose escapes precede the character itself: a tab instead of t."""
    if _COPY_NUMBER.search(data):
        return _COPY_ESCAPE.sub(_of_escape, data)
    array = np.frombuffer(data, np.uint8).copy()
    after = unescaped_escapes(array, ord("\\")) + 1
    after = after[after < len(array)]
    array[after] = _COPY_TABLE[array[after]]
    return array.tobytes()


def _of_escape(found: re.Match[bytes]) -> bytes:
    hexadecimal, octal, other = found.groups()
    if other is not None:
        return b"\\" + _COPY.get(other, other)
    number = int(hexadecimal, 16) if hexadecimal else int(octal, 8)
    return b"\\" + bytes([number % 256])


class _EscapedNulls:
    r"""Marks each \N that is a whole value: the parser would take its backslash away."""

    def __init__(self, nulls: list[str], dialect: Dialect) -> None:
        assert dialect.escape is not None
        self._dialect = dialect
        escape = re.escape(dialect.escape)
        marks = re.escape(dialect.delimiter) + rb"\r\n"
        edge = rb"[" + marks + rb"]"
        begin = rb"(?:(?<=" + edge + rb")|(?<![\s\S]))"
        words = b"|".join(re.escape(null.encode()) for null in nulls)
        null = begin + rb"(?:" + words + rb")(?=" + edge + rb"|\Z)"
        self._null = re.compile(null)
        self._escaped_edge = re.compile(escape + edge + escape)
        # What follows an escaped character in a value without quotes belongs to it.
        rest = rb"(?:" + escape + rb"." + rb"[^" + marks + escape + rb"]*+)++"
        others = begin + dialect.quoted + rb"|" + rest
        self._null_or_others = re.compile(rb"(" + null + rb")|" + others, re.S)

    def marked(self, data: bytes) -> bytes:
        """Return whole records with the marks."""
        if self._escaped_edge.search(data) or hides_escapes(data, self._dialect):
            return self._null_or_others.sub(lambda found: NULL if found[1] else found[0], data)
        return self._null.sub(NULL, data)
