"""Identify the PostgreSQL error that DuckDB passes on.

DuckDB's extension passes on PostgreSQL's text and drops its SQLSTATE. PostgreSQL translates its
texts by lc_messages, which its own servers set to the language of the machine. So sessions of
DuckDB pin lc_messages to C where the role may set it (a superuser may, and a role that was granted
SET ON PARAMETER lc_messages): there the texts are the constants of PostgreSQL's own code, and
identify the SQLSTATE. Where the role may not set it, and the server uses another language, an error
of PostgreSQL is UNKNOWN.
"""

from __future__ import annotations

import re

import duckdb
from psycopg import errors

UNKNOWN = "?????"
"""PostgreSQL refused, in words that say nothing to us."""

CONTENTION = frozenset(
    {
        errors.SerializationFailure.sqlstate,
        errors.DeadlockDetected.sqlstate,
        errors.LockNotAvailable.sqlstate,
        errors.UniqueViolation.sqlstate,  # of two that write the first file of a table
        UNKNOWN,
    }
)
"""Errors that another transaction caused: a retry of the same work can succeed."""

_TEXTS = {
    "could not serialize access": errors.SerializationFailure.sqlstate,
    "deadlock detected": errors.DeadlockDetected.sqlstate,
    "canceling statement due to lock timeout": errors.LockNotAvailable.sqlstate,
    "duplicate key value violates unique constraint": errors.UniqueViolation.sqlstate,
}

_FROM_POSTGRES = re.compile(r"Failed to [^\n]*?: (?P<severity>[^\W\d]+):  (?P<text>.*)", re.S)
"""As the extension puts it; a severity and two blanks are libpq's."""


def sqlstate_of(error: duckdb.Error, *, translated: bool) -> str | None:
    """Return the SQLSTATE of a PostgreSQL error that DuckDB passes on, if a retry can help.

    Args:
        error: DuckDB's error in a session with PostgreSQL attached.
        translated: Whether the text may be in another language than English.

    Returns:
        The SQLSTATE if a retry can succeed, UNKNOWN if the text is not English, None otherwise.
    """
    found = _FROM_POSTGRES.search(str(error))
    if found is None:
        return None
    if translated:
        return UNKNOWN
    return next(
        (state for text, state in _TEXTS.items() if found["text"].startswith(text)),
        None,
    )
