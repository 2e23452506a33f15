"""Which errors may pass by themselves, so that a further try can help; bad data never does."""

from __future__ import annotations

import psycopg

from lakebed.errors import LakebedError

_STATES = ("08", "40", "57P")
"""Connection lost, serialization and deadlock, the server going down or coming up."""


def is_transient(error: BaseException) -> bool:
    """Whether an error, or what caused it, can pass: a writer was busy, or PostgreSQL was away."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, psycopg.OperationalError):
            return cause.sqlstate is None or cause.sqlstate.startswith(_STATES)
        if isinstance(cause, LakebedError) and cause.retryable:
            return True
        cause = cause.__cause__
    return False
