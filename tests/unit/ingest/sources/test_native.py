"""Arrow text that is no UTF-8 comes as bytes, so that its rows can be told apart."""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from typing import Any

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
    assert (reason, rule) == ("is not valid UTF-8", "utf8")
    assert bad.to_list() == [value == b"\xff" for value in values]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_text_that_is_utf_8_is_text(kind: pa.DataType) -> None:
    values = ["ä", None, "", "🦆"]
    series = frame_of(pa.table({"text": pa.array(values, kind)}))["text"]
    assert series.dtype == pl.String and series.to_list() == values


def decimals(kind: pa.DataType, *values: str | None) -> pa.Array:
    """Decimals of a type that may hold fewer digits than they have: Arrow does not look."""
    plain = pa.array([None if v is None else Decimal(v) for v in values], pa.decimal128(38, 2))
    return pa.Array.from_buffers(kind, len(values), plain.buffers())


TIMES = [
    (pa.time32("s"), pa.int32(), 1, ""),
    (pa.time32("ms"), pa.int32(), 10**3, ".000"),
    (pa.time64("us"), pa.int64(), 10**6, ".000000"),
    (pa.time64("ns"), pa.int64(), 10**9, ".000000000"),
]


@pytest.mark.parametrize(("kind", "number", "per_second", "rest"), TIMES)
def test_an_hour_beyond_the_day_is_a_reject_with_its_own_value_and_never_null(
    kind: pa.DataType, number: pa.DataType, per_second: int, rest: str
) -> None:
    seconds = [86_400 * per_second, 79_200 * per_second, None]
    series = frame_of(pa.table({"closes": pa.array(seconds, number).cast(kind)}))["closes"]
    assert series.to_list() == [f"24:00:00{rest}", f"22:00:00{rest}", None]
    done = cast(series, pl.Time())
    assert done.series.to_list() == [None, time(22), None]
    assert [bad.to_list() for _, bad, _ in done.problems] == [[True, False, False]]


def test_a_decimal_beyond_the_precision_of_its_file_is_its_own_value() -> None:
    found = decimals(pa.decimal128(5, 2), "12345.60", "1.23", None)
    lists = pa.ListArray.from_arrays([0, 2, 2, 3], found)
    frame = frame_of(pa.table({"one": found, "many": lists}))
    assert frame["one"].to_list() == [Decimal("12345.60"), Decimal("1.23"), None]
    assert frame["many"].to_list() == [[Decimal("12345.60"), Decimal("1.23")], [], [None]]
    (problem,) = cast(frame["one"], pl.Decimal(5, 2)).problems
    assert problem[1].to_list() == [True, False, False]
    (problem,) = cast(frame["many"], pl.List(pl.Decimal(5, 2))).problems
    assert problem[1].to_list() == [True, False, False]


@pytest.mark.parametrize(
    ("packed", "values"),
    [
        (pa.DictionaryArray.from_arrays([0, 1, None], ["a", None]), ["a", None, None]),
        (pa.DictionaryArray.from_arrays([0, 1, None], [7, None]), [7, None, None]),
        (
            pa.DictionaryArray.from_arrays(
                [0, 1, None], pa.array([Decimal("1.5"), None], pa.decimal256(50, 2))
            ),
            [Decimal("1.50"), None, None],
        ),
        (pa.RunEndEncodedArray.from_arrays([2, 3], ["a", None]), ["a", "a", None]),
        (pa.RunEndEncodedArray.from_arrays([1, 3], [7, None]), [7, None, None]),
    ],
    ids=["text", "number", "decimal", "runs of text", "runs of numbers"],
)
def test_values_that_lie_packed_are_read_and_nulls_in_a_dictionary_are_nulls(
    packed: pa.Array, values: list[Any]
) -> None:
    series = frame_of(pa.table({"column": packed}))["column"]
    assert series.to_list() == values
    assert series.null_count() == values.count(None)
