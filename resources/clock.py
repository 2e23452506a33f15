"""The clock as a parameter: code that needs "now" receives one of these."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Returns the time, always as a time-zone-aware UTC datetime."""

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
    """A clock with a fixed time: the demo's, and the tests'."""

    at: datetime

    def __post_init__(self) -> None:
        """Refuse a naive datetime."""
        if self.at.tzinfo is None:
            raise ValueError(f"FixedClock needs a time-zone-aware datetime, not {self.at!r}")

    def now(self) -> datetime:
        """Return the fixed time of this clock, in UTC."""
        return self.at.astimezone(UTC)
