"""Read the times and durations that people write in commands, settings and models.

A time has a zone (`2024-05-01T00:00:00+00:00`) and becomes UTC. Some places accept a day alone
(`2024-05-01`). A duration is a number and a unit: `90s`, `30m`, `24h`, `7d`, `4w`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from lakebed.errors import WRONG_USAGE, LakebedError

_DURATION = re.compile(r"(\d{1,9})([smhdw])")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
LONGEST = timedelta(days=365_000)
"""The longest duration. A thousand years from now are still in every calendar."""

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class TimeTextError(LakebedError, ValueError):
    """A text that is not a time or not a duration. The message shows how to write one."""

    exit_code = WRONG_USAGE


def read_duration(text: str) -> timedelta:
    """Read a duration such as 90s, 30m, 24h, 7d or 4w. Raises TimeTextError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise TimeTextError(f"{text!r} is not a duration. Expected one such as 30m, 12h, 7d or 4w")
    number, unit = int(found[1]), _UNITS[found[2]]
    if number > LONGEST / unit:
        raise TimeTextError(f"{text!r} is too long. Expected at most {LONGEST.days}d")
    return number * unit


def read_time(text: str, *, or_day: bool = False) -> datetime:
    """Read a time with a time zone; return it in UTC.

    Args:
        text: The time, in ISO 8601.
        or_day: Whether to accept a day alone, as its first moment in UTC.

    Raises:
        TimeTextError: The text is not a time, or has no zone.
    """
    moment = _parsed(text)
    if moment.tzinfo is None and not (or_day and _DAY.fullmatch(text)):
        raise TimeTextError(
            f"{text!r} has no time zone. Expected a time such as 2024-05-01T00:00:00+00:00"
        )
    return in_utc(moment)


def read_time_or_utc(text: str) -> datetime:
    """Read a time or a day; take UTC where it has no zone. Raises TimeTextError."""
    return in_utc(_parsed(text))


def in_utc(moment: datetime) -> datetime:
    """Return the time in UTC; take UTC where it has no zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise TimeTextError(
            f"{text!r} is not a time. Expected ISO 8601 such as 2024-05-01T00:00:00+00:00"
        ) from error
