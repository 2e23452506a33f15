"""Which errors may pass by themselves, so that a further try can help; bad data never does."""

from __future__ import annotations

import psycopg

from lakebed.resources.postgres import LockWaitError, PostgresUnavailableError
from lakebed.store.locks import LoadBusyError
from lakebed.tiering.partition import PartitionBusyError

TRANSIENT = (
    LoadBusyError,
    PartitionBusyError,
    LockWaitError,
    PostgresUnavailableError,
    psycopg.OperationalError,
)
"""Kinds of errors of which some may pass."""

_STATES = ("08", "40", "57P")
"""Connection lost, serialization and deadlock, the server going down or coming up."""


def is_transient(error: BaseException) -> bool:
    """Whether an error, or what caused it, is that others were busy or PostgreSQL was away."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, psycopg.OperationalError):
            return cause.sqlstate is None or cause.sqlstate.startswith(_STATES)
        if isinstance(cause, TRANSIENT):
            return True
        cause = cause.__cause__
    return False
