"""Trying again what other transactions got in the way of: by tenacity, with one way to pause.

    retrying(5, (psycopg.errors.LockNotAvailable,))(work)

The pause doubles from attempt to attempt, and is cut by a random part, so that two that met do not
meet again. The last error is raised as it is.
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
    """Return what calls a function until it raises nothing of `on`.

    Args:
        attempts: How often it is called at the least, and at the most where seconds is 0.
        on: The errors after which it is called again; any other is raised at once.
        first: The pause after the first attempt, in seconds.
        longest: The longest pause, in seconds.
        seconds: For how long it is called again, whatever the number of attempts.
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
