"""What a filter bounds is believed only where it is understood."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.resources.pruning import Bounds, _bounds, comparisons, tells_apart

JAN, FEB, MAR = (datetime(2024, month, 1, tzinfo=UTC) for month in (1, 2, 3))
TICK = timedelta(microseconds=1)
TZ = "::TIMESTAMP WITH TIME ZONE"
moments = st.none() | st.sampled_from([JAN, FEB, MAR])


@pytest.mark.parametrize(
    ("filters", "first", "last"),
    [
        (f"at>='2024-01-01 00:00:00+00'{TZ} AND at<'2024-02-01 00:00:00+00'{TZ}", JAN, FEB - TICK),
        (
            [f"at>'2024-01-01 00:00:00+00'{TZ}", f"at<='2024-02-01 00:00:00+00'{TZ}"],
            JAN + TICK,
            FEB,
        ),
        (f"at='2024-02-01 00:00:00+00'{TZ}", FEB, FEB),
        (f"at='2024-02-01 01:00:00+01'{TZ}", FEB, FEB),
        (f"note='a AND at>=''2024-02-01 00:00:00+00''{TZ} AND b'", None, None),
        (f"note='a AND at='2024-02-01 00:00:00+00'{TZ}", None, None),
        (
            [f"note>='a' AND at='2024-02-01 00:00:00+00'{TZ}", f"at>='2024-01-01 00:00:00+00'{TZ}"],
            JAN,
            None,
        ),
        (f"other='2024-02-01 00:00:00+00'{TZ}", None, None),
        (f"at!='2024-02-01 00:00:00+00'{TZ}", None, None),
        (f"at IN ('2024-02-01 00:00:00+00'{TZ})", None, None),
        (f"(at<'2024-01-01 00:00:00+00'{TZ} OR at>'2024-02-01 00:00:00+00'{TZ})", None, None),
        (f"at<'infinity'{TZ}", None, None),
        (f"at<'20000-01-01 00:00:00+00'{TZ}", None, None),
        (f"at>='0044-03-15 (BC) 00:00:00+00'{TZ}", None, None),
        ("at IS NOT NULL", None, None),
        ([], None, None),
    ],
)
def test_a_filter_bounds_the_times_or_nothing(filters: Any, first: Any, last: Any) -> None:
    assert _bounds(filters, "at") == Bounds(first, last)


@pytest.mark.parametrize("name", ["a AND at", "at>", "at>=", "at<", "at=", "at!", '"at"', "it's"])
def test_a_name_that_reads_like_a_filter_is_not_told_apart(name: str) -> None:
    assert tells_apart(["at", "Zeit", "begins and ends", "Ü.Ü", "{0}", "and", "AND"])
    assert not tells_apart(["at", name])


@given(st.builds(Bounds, moments, moments), st.builds(Bounds, moments, moments))
def test_the_hull_touches_whatever_one_of_its_parts_touches(one: Bounds, other: Bounds) -> None:
    hull = one.hull(other)
    for first, last in ((JAN, JAN), (JAN, FEB), (FEB, MAR), (MAR, MAR)):
        if one.touches(first, last) or other.touches(first, last):
            assert hull.touches(first, last)


@given(st.builds(Bounds, moments, moments), st.builds(Bounds, moments, moments))
def test_bounds_cover_what_adds_nothing_to_their_hull(one: Bounds, other: Bounds) -> None:
    assert one.covers(other) == (one.hull(other) == one)


def test_a_file_on_the_edge_is_touched() -> None:
    assert Bounds(FEB, FEB).touches(JAN, FEB)
    assert Bounds(FEB, FEB).touches(FEB, MAR)
    assert not Bounds(FEB, FEB).touches(JAN, JAN)
    assert not Bounds(FEB, FEB).touches(MAR, MAR)
    assert Bounds().touches(JAN, MAR)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["id=77"], [("id", "=", ("77",), "integer")]),
        (["id>=-1 AND id<=5"], [("id", ">=", ("-1",), "integer"), ("id", "<=", ("5",), "integer")]),
        (["n=1.50", "b>3"], [("n", "=", ("1.50",), "decimal"), ("b", ">", ("3",), "integer")]),
        (["optional: id IN (1, 5, 9)"], [("id", "in", ("1", "5", "9"), "integer")]),
        (["name='a b'"], [("name", "=", ("a b",), "text")]),
        (["optional: name IN ('a', 'b, c')"], [("name", "in", ("a", "b, c"), "text")]),
        ([f"u='{'0' * 32}'::UUID"], [("u", "=", ("0" * 32,), "uuid")]),
        # What could be read in two ways, or is of another kind, is not taken.
        (["name='it''s AND id=5'"], []),
        (["name='a AND id=5'"], []),
        (["name>='a' AND id<5"], []),
        (["optional: id=1 OR id=2"], []),
        (["optional: Dynamic Filter (id)"], []),
        (["d>='2024-01-01'::DATE"], []),
        (["by='a'::BLOB"], []),
        (["id!=5"], []),
        (["a b=5"], []),
        (["'a'=5"], []),
        (["f=nan"], []),
        (["f=1e+30"], []),
    ],
)
def test_a_comparison_is_taken_where_it_can_be_read_in_one_way(
    filters: list[str], found: list[tuple[str, str, tuple[str, ...], str]]
) -> None:
    assert [(c.column, c.operator, c.values, c.kind) for c in comparisons(filters)] == found
