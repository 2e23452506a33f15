"""A row that comes back from the quarantine is the row that was read."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakebed.ingest.quarantine import decode, encode, shown

WHEN = datetime(2024, 2, 1, 12, 30, 0, 5, tzinfo=UTC)


def back(frame: pl.DataFrame) -> pl.DataFrame:
    rows, types = encode(frame)
    texts = [json.dumps(row) for row in rows]
    assert not any("\\u0000" in text for text in texts)
    return decode(texts, frame.columns, json.loads(types) if types else {})


def as_read(series: pl.Series) -> pl.Series:
    text = series.dtype in (pl.String, pl.Categorical, pl.Enum)
    return series.cast(pl.String).cast(pl.Binary) if text else series


@pytest.mark.parametrize(
    "series",
    [
        pl.Series([b"text", b"", b"\xff\x00", None, "ä\U0001f600".encode()]),
        pl.Series(["text", "nul\0", None]),
        pl.Series(["a", "b"], dtype=pl.Categorical),
        pl.Series([1, None, 2**63 - 1]),
        pl.Series([2**64 - 1], dtype=pl.UInt64),
        pl.Series([-128, 127], dtype=pl.Int8),
        pl.Series([True, False, None]),
        pl.Series([0.1, -0.0, float("nan"), float("inf"), 5e-324, 1.7976931348623157e308, None]),
        pl.Series([0.1, 3.4e38, 1e-45], dtype=pl.Float32),
        pl.Series([Decimal("1.50"), None], dtype=pl.Decimal(38, 2)),
        pl.Series([date(1, 1, 1), date(9999, 12, 31), None]),
        pl.Series([-(10**8)], dtype=pl.Int32).cast(pl.Date),
        pl.Series([time(0), time(23, 59, 59, 999999), None]),
        pl.Series([1], dtype=pl.Int64).cast(pl.Time),
        pl.Series([WHEN, None], dtype=pl.Datetime("us", "UTC")),
        pl.Series([WHEN], dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone("Europe/Berlin"),
        pl.Series([WHEN.replace(tzinfo=None)], dtype=pl.Datetime("ms")),
        pl.Series([1, -1, 2**62]).cast(pl.Datetime("ns")),
        pl.Series([2**63 - 1, -(2**62)]).cast(pl.Datetime("us", "UTC")),
        pl.Series([timedelta(days=-1, microseconds=3), None]),
        pl.Series([[1, None], [], None]),
        pl.Series([{"a": 1, "b": "x"}]),
        pl.Series([None, None]),
    ],
    ids=lambda series: str(series.dtype),
)
def test_every_value_comes_back_as_it_was(series: pl.Series) -> None:
    frame = series.alias("c").to_frame()
    assert_frame_equal(back(frame), as_read(series.alias("c")).to_frame())


@given(st.lists(st.one_of(st.none(), st.binary(max_size=8)), min_size=1))
def test_any_bytes_come_back(values: list[bytes | None]) -> None:
    frame = pl.DataFrame({"c": pl.Series(values, dtype=pl.Binary)})
    assert_frame_equal(back(frame), frame)


@given(st.lists(st.floats(), min_size=1))
def test_any_float_comes_back(values: list[float]) -> None:
    frame = pl.DataFrame({"c": pl.Series(values, dtype=pl.Float64)})
    assert_frame_equal(back(frame), frame, check_exact=True)


@pytest.mark.parametrize(
    ("written", "kind", "values"),
    [
        ('{"c": 12}', None, [b"12"]),
        ('{"c": 1.10}', None, [b"1.10"]),
        ('{"c": true}', None, [b"true"]),
        ('{"c": "12"}', ["Int64"], [12]),
        ('{"c": 12.50}', ["Decimal", 10, 2], [Decimal("12.50")]),
        ('{"c": "a dozen"}', ["Int64"], ["a dozen"]),
        ("{}", ["Int64"], [None]),
    ],
)
def test_a_value_that_was_mended_by_hand_is_read_as_it_is_written(
    written: str, kind: list[Any] | None, values: list[Any]
) -> None:
    assert decode([written], ["c"], {"c": kind} if kind else {})["c"].to_list() == values


def test_what_is_kept_exactly_is_shown_as_text() -> None:
    (row, *_), _ = encode(pl.DataFrame({"a": [b"x\xff\0"], "b": [[1, 2]], "c": ["plain"]}))
    assert shown(row["a"]) == "x\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    assert "1" in shown(row["b"])
    assert shown(row["c"]) == "plain"
