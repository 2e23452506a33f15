"""Arrow text that is no UTF-8 comes as bytes, so that its rows can be told apart."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

from lakebed.ingest.casts import cast
from lakebed.ingest.sources.reader import frame_of

OFFSETS = pa.array([0, 1, 2, 4], pa.int32()).buffers()[1]
BROKEN = pa.Array.from_buffers(pa.string(), 3, [None, OFFSETS, pa.py_buffer(b"a\xffbc")])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (BROKEN, [b"a", b"\xff", b"bc"]),
        (pa.DictionaryArray.from_arrays([1, None, 0], BROKEN), [b"\xff", None, b"a"]),
    ],
)
def test_text_that_is_no_utf_8_is_told_apart_row_by_row(
    text: pa.Array, values: list[bytes | None]
) -> None:
    series = frame_of(pa.table({"text": text, "other": [1, 2, 3]}))["text"]
    assert series.to_list() == values
    ((reason, bad, rule),) = cast(series, pl.String()).problems
    assert (reason, rule) == ("is no valid UTF-8", "utf8")
    assert bad.to_list() == [value == b"\xff" for value in values]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_text_that_is_utf_8_is_text(kind: pa.DataType) -> None:
    values = ["ä", None, "", "🦆"]
    series = frame_of(pa.table({"text": pa.array(values, kind)}))["text"]
    assert series.dtype == pl.String and series.to_list() == values
