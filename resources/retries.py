"""Retry work that conflicts with other transactions, by tenacity, with one way to pause.

    retrying(5, (psycopg.errors.LockNotAvailable,))(work)

The pause doubles from attempt to attempt, minus a random part, so that two colliding processes do
not collide again. The last error is raised unchanged.
"""

from __future__ import annotations

import tenacity
from tenacity.stop import stop_base


def retrying(
    attempts: int,
    on: type[BaseException] | tuple[type[BaseException], ...],
    *,
    first: float = 0.1,
    longest: float = 2.0,
    seconds: float = 0.0,
) -> tenacity.Retrying:
    """Return an object that calls a function until it raises none of the errors in `on`.

    Args:
        attempts: The least number of calls, and the greatest if seconds is 0.
        on: The errors after which it retries; any other is raised at once.
        first: The pause after the first attempt, in seconds.
        longest: The longest pause, in seconds.
        seconds: How long it retries, whatever the number of attempts.
    """
    stop: stop_base = tenacity.stop_after_attempt(attempts)
    if seconds:
        stop = stop & tenacity.stop_after_delay(seconds)
    return tenacity.Retrying(
        stop=stop,
        wait=tenacity.wait_random_exponential(multiplier=first, max=longest, min=first / 2),
        retry=tenacity.retry_if_exception_type(on),
        reraise=True,
    )
