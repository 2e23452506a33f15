"""Divide time into partitions: grains and half-open windows in UTC.

One boundary rule holds for the whole platform: a window contains `lower <= t < upper`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

LAST_YEAR = 9998
"""The last year in which the end of every window is a time that Python can represent."""


class Grain(StrEnum):
    """The length of a partition. Weeks begin on Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"

    @property
    def key_format(self) -> str:
        """The strftime format of this grain's partition keys; sorts as time does."""
        return _KEY_FORMATS[self]

    def floor(self, moment: datetime) -> datetime:
        """Return the start of the window that holds the moment."""
        moment = _utc(moment)
        hour = moment.replace(minute=0, second=0, microsecond=0)
        if self is Grain.HOUR:
            return hour
        day = hour.replace(hour=0)
        if self is Grain.DAY:
            return day
        if self is Grain.WEEK:
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self is Grain.MONTH else day.replace(day=1, month=1)

    def step(self, lower: datetime) -> datetime:
        """Return the start of the window after the one that starts at lower."""
        match self:
            case Grain.HOUR:
                return lower + timedelta(hours=1)
            case Grain.DAY:
                return lower + timedelta(days=1)
            case Grain.WEEK:
                return lower + timedelta(days=7)
            case Grain.MONTH:
                return (lower.replace(day=1) + timedelta(days=32)).replace(day=1)
            case Grain.YEAR:
                return lower.replace(year=lower.year + 1)


_KEY_FORMATS = {
    Grain.HOUR: "%Y-%m-%d-%H",
    Grain.DAY: "%Y-%m-%d",
    Grain.WEEK: "%Y-%m-%d",
    Grain.MONTH: "%Y-%m",
    Grain.YEAR: "%Y",
}


@dataclass(frozen=True, order=True)
class Window:
    """A half-open time range of one partition, in UTC: lower <= t < upper."""

    lower: datetime
    upper: datetime
    grain: Grain

    @property
    def key(self) -> str:
        """The partition key, for example 2013-01 for a month."""
        return self.lower.strftime(self.grain.key_format)


def window_of(grain: Grain, moment: datetime) -> Window:
    """Return the window of this grain that holds the moment."""
    lower = grain.floor(moment)
    return Window(lower, grain.step(lower), grain)


def window_for_key(grain: Grain, key: str) -> Window:
    """Return the window that a partition key names. Raises ValueError with an example."""
    example = datetime(2024, 1, 1, tzinfo=UTC).strftime(grain.key_format)
    try:
        moment = datetime.strptime(key, grain.key_format).replace(tzinfo=UTC)
    except ValueError as error:
        raise ValueError(
            f"{key!r} is not a partition key of grain {grain}. Expected a key such as {example}"
        ) from error
    if moment.year > LAST_YEAR:
        raise ValueError(f"{key!r} is too late. Expected a year up to {LAST_YEAR}")
    window = window_of(grain, moment)
    if window.key != key:
        raise ValueError(
            f"{key!r} is not a partition key of grain {grain}. That {grain} is {window.key}"
        )
    return window


def windows_between(grain: Grain, lower: datetime, upper: datetime) -> Iterator[Window]:
    """Yield the windows that touch lower <= t < upper, in order."""
    window = window_of(grain, lower)
    while window.lower < upper:
        yield window
        window = Window(window.upper, grain.step(window.upper), grain)


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone. Add one, such as tzinfo=UTC")
    return moment.astimezone(UTC)
