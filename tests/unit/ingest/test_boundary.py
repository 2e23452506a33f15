"""The texts by which rows at a cursor's boundary are known again: one value, one text."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from lakebed.ingest.boundary import _canonical


@pytest.mark.parametrize(
    "values",
    [
        [[1.0, None], [None, 1.0], [1.0], [], None, [float("nan")], [0.0], [-0.0]],
        [["a", None], ["a"], ["a,b"], ["a", "b"], [], None, ['"'], [""]],
        [0.0, -0.0, float("nan"), float("inf"), None],
        [b"", b"\xff", None],
        [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC), None],
    ],
)
def test_different_values_have_different_texts_and_null_has_none(values: list[object]) -> None:
    texts = _canonical(pl.Series(values))
    assert texts.dtype == pl.String
    assert texts.null_count() == 1
    assert texts.n_unique() == len(values)
    assert _canonical(pl.Series(values)).equals(texts)
