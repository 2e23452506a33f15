"""Windows are half-open, in UTC, and told by their keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.spec.partitions import Grain, Window, window_for_key, window_of, windows_between

moments = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
grains = st.sampled_from(list(Grain))


@given(grains, moments)
def test_a_moment_is_in_its_window_and_in_no_neighbour(grain: Grain, moment: datetime) -> None:
    window = window_of(grain, moment)
    assert window.lower <= moment < window.upper
    assert window_of(grain, window.lower) == window
    assert window_of(grain, window.upper).lower == window.upper
    assert window_of(grain, window.lower - timedelta(microseconds=1)).upper == window.lower


@given(grains, moments)
def test_a_key_names_its_window_and_no_other(grain: Grain, moment: datetime) -> None:
    window = window_of(grain, moment)
    assert window_for_key(grain, window.key) == window


@given(grains, moments, moments)
def test_keys_sort_as_time_does(grain: Grain, one: datetime, other: datetime) -> None:
    first, second = sorted([window_of(grain, one), window_of(grain, other)])
    assert first.key <= second.key
    assert (first.key == second.key) == (first == second)


@given(grains, moments, st.integers(0, 40))
def test_windows_between_leave_no_gap_and_no_overlap(
    grain: Grain, lower: datetime, steps: int
) -> None:
    upper = lower
    for _ in range(steps):
        upper = grain.step(grain.floor(upper))
    windows = list(windows_between(grain, lower, upper))
    if upper == lower:
        assert windows == ([window_of(grain, lower)] if grain.floor(lower) < lower else [])
        return
    assert windows[0].lower <= lower
    assert windows[-1].upper >= upper
    assert all(a.upper == b.lower for a, b in pairwise(windows))


@pytest.mark.parametrize(
    ("grain", "key", "lower", "upper"),
    [
        ("hour", "2024-02-29-23", "2024-02-29T23:00Z", "2024-03-01T00:00Z"),
        ("day", "2024-02-29", "2024-02-29T00:00Z", "2024-03-01T00:00Z"),
        ("week", "2024-12-30", "2024-12-30T00:00Z", "2025-01-06T00:00Z"),
        ("month", "2024-12", "2024-12-01T00:00Z", "2025-01-01T00:00Z"),
        ("year", "2024", "2024-01-01T00:00Z", "2025-01-01T00:00Z"),
    ],
)
def test_a_window_of_each_grain_is_as_long_as_the_calendar_says(
    grain: str, key: str, lower: str, upper: str
) -> None:
    window = window_for_key(Grain(grain), key)
    ends = datetime.fromisoformat(lower), datetime.fromisoformat(upper)
    assert window == Window(*ends, Grain(grain))


@pytest.mark.parametrize(
    ("grain", "key", "hint"),
    [
        ("month", "2024", "2024-01"),
        ("month", "2024-13", "2024-01"),
        ("month", "2024-1", "2024-01"),
        ("day", "2024-02-30", "2024-01-01"),
        ("week", "2024-01-02", "2024-01-01"),
        ("hour", "2024-01-01-24", "2024-01-01-00"),
        ("year", "", "2024"),
    ],
)
def test_a_key_that_names_no_window_is_refused_with_one_that_does(
    grain: str, key: str, hint: str
) -> None:
    with pytest.raises(ValueError, match=f"not a partition key of grain {grain}.*{hint}"):
        window_for_key(Grain(grain), key)


@pytest.mark.parametrize(
    ("grain", "key"),
    [("month", "9999-12"), ("year", "9999"), ("day", "9999-12-31"), ("hour", "9999-12-31-23")],
)
def test_a_key_of_a_window_without_an_end_is_refused(grain: str, key: str) -> None:
    with pytest.raises(ValueError, match=f"'{key}' is too late.*9998"):
        window_for_key(Grain(grain), key)


def test_a_time_without_a_zone_is_in_no_window() -> None:
    with pytest.raises(ValueError, match="time zone"):
        window_of(Grain.DAY, datetime(2024, 1, 1))  # noqa: DTZ001
