"""The values of JSON lines as text, exactly as they are written. By column, not by row.

The positions of quotes and brackets alone give the ends of keys and values. The caller has checked
that the lines are JSON objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from lakebed.ingest.sources.marks import escaped

Places = npt.NDArray[np.intp]
_MARKS = np.zeros(256, np.bool_)
_MARKS[list(b'{}[]:,"')] = True
_DEPTH = np.zeros(256, np.int32)
_DEPTH[list(b"{[")] = 1
_DEPTH[list(b"}]")] = -1
_WHITE = " \t\r\n"


@dataclass(frozen=True)
class Members:
    """The members of many objects: of each its line (from 0), its key and its value as JSON."""

    lines: Places
    keys: pl.Series
    values: pl.Series


def members_of(data: bytes) -> Members:
    """Take objects apart, one a line. Nested objects and arrays stay what they are: text."""
    array = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(_MARKS[array])
    marks = array[places]
    quotes = (marks == ord('"')) & ~escaped(array, places, ord("\\"))
    inside = (np.cumsum(quotes) % 2).astype(np.bool_)
    outside = ~inside & (marks != ord('"'))
    places, marks = places[outside], marks[outside]
    depth = np.cumsum(_DEPTH[marks])
    top = (depth == 1) & ((marks == ord("{")) | (marks == ord(":")) | (marks == ord(",")))
    top |= (depth == 0) & (marks == ord("}"))
    places, marks = places[top], marks[top]
    colons = np.flatnonzero(marks == ord(":"))
    # A key ends at its colon; its value is between the colon and the next mark.
    starts = np.stack([places[colons - 1] + 1, places[colons] + 1], axis=1).ravel()
    ends = np.stack([places[colons], places[colons + 1]], axis=1).ravel()
    texts = _slices(data, starts, ends).str.strip_chars(_WHITE)
    breaks = np.flatnonzero(array == ord("\n"))
    return Members(
        np.searchsorted(breaks, places[colons]),
        unquoted(texts.gather_every(2)),
        texts.gather_every(2, 1),
    )


def unquoted(values: pl.Series) -> pl.Series:
    """Return JSON values as their text: strings without quotes and escapes, null as null."""
    values = values.set(values == "null", None)
    strings = values.str.starts_with('"').fill_null(False)
    if not strings.any():
        return values
    inner = values.str.slice(1).str.strip_suffix('"')
    result = values.zip_with(~strings, inner)
    escaped = strings & values.str.contains("\\", literal=True).fill_null(False)
    if escaped.any():
        decoded = values.filter(escaped).str.json_decode(pl.String)
        result = result.scatter(escaped.arg_true(), decoded)
    return result


def _slices(data: bytes, starts: Places, ends: Places) -> pl.Series:
    """Return pieces of the data, which follow each other, as strings."""
    if len(starts) == 0:
        return pl.Series([], dtype=pl.String)
    offsets = np.empty(2 * len(starts) + 1, np.int32)
    offsets[0:-1:2], offsets[1::2], offsets[-1] = starts, ends, ends[-1]
    pieces = pa.StringArray.from_buffers(
        2 * len(starts), pa.py_buffer(offsets), pa.py_buffer(data), None, 0, 0
    )
    series = pl.from_arrow(pieces)
    assert isinstance(series, pl.Series)
    return series.gather_every(2)
