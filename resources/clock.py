"""The clock as a parameter: whoever needs "now" is given one of these."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time, always as a time-zone-aware UTC datetime."""

    def now(self) -> datetime:
        """Return the present moment in UTC."""
        ...


@dataclass(frozen=True)
class SystemClock:
    """The clock of real operation."""

    def now(self) -> datetime:
        """Return the machine's time in UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True)
class FixedClock:
    """A clock that stands still: the demo's, and the tests'."""

    at: datetime

    def __post_init__(self) -> None:
        """Refuse a naive datetime: a clock without a zone tells no time."""
        if self.at.tzinfo is None:
            raise ValueError(f"FixedClock needs a time-zone-aware datetime, not {self.at!r}")

    def now(self) -> datetime:
        """Return the moment at which this clock stands, in UTC."""
        return self.at.astimezone(UTC)
