"""Times and durations as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lakebed.errors import WRONG_USAGE
from lakebed.spec.times import TimeTextError, read_duration, read_time, read_time_or_utc

MAY = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("4w", timedelta(weeks=4)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, length: timedelta) -> None:
    assert read_duration(text) == length


@pytest.mark.parametrize(
    "text", ["", "a week", "7", "-7d", "7 d", "7y", "999999999w", "999999999d", "365001d", "7d\n"]
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(TimeTextError) as caught:
        read_duration(text)
    assert caught.value.exit_code == WRONG_USAGE


@pytest.mark.parametrize(
    "text", ["2024-05-01T00:00:00+00:00", "2024-05-01T02:00:00+02:00", "2024-05-01T00:00Z"]
)
def test_a_time_that_names_its_zone_is_read_in_utc(text: str) -> None:
    assert read_time(text) == MAY
    assert read_time(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["yesterday", "2024-05-01T00:00:00", "2024-05-01", ""])
def test_a_time_without_a_zone_is_refused(text: str) -> None:
    with pytest.raises(TimeTextError):
        read_time(text)


def test_a_day_is_its_first_moment_where_a_day_will_do() -> None:
    assert read_time("2024-05-01", or_day=True) == MAY
    with pytest.raises(TimeTextError):
        read_time("2024-05-01T00:00:00", or_day=True)
    assert read_time_or_utc("2024-05-01") == read_time_or_utc("2024-05-01T00:00:00") == MAY
