"""The base of every error of Lakebed, and the errors that more than one layer raises.

`except LakebedError` catches whatever Lakebed raises on purpose. Each class says what the command
exits with and whether the same work, tried again, can succeed.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar

FAILED = 1
WRONG_USAGE = 2
UNREACHABLE = 3


class LakebedError(Exception):
    """The base of all errors of Lakebed. The text says what is wrong and what to do.

    Attributes:
        exit_code: What the command `lakebed` exits with: 1 failed, 2 wrong usage or settings,
            3 PostgreSQL cannot be reached.
        retryable: Whether the same work can succeed later without a change: another process was
            busy, or the server was away.
    """

    exit_code: ClassVar[int] = FAILED
    retryable: ClassVar[bool] = False


class TieringError(LakebedError, RuntimeError):
    """A change of the lake that did not happen. The text says why and what to do."""


class VerificationError(TieringError):
    """A file does not hold what it should; nothing was changed."""


class BusyError(TieringError):
    """Another process writes the same."""

    retryable = True


class PartlyFailedError(LakebedError, RuntimeError):
    """Some of the work failed and the rest is done. The text names what failed.

    Attributes:
        done: The reports of what was done, where the caller returns reports.
    """

    def __init__(self, text: str, done: tuple[Any, ...] = ()) -> None:
        """Keep the reports with the text."""
        super().__init__(text)
        self.done = done


def exit_code(error: BaseException) -> int | None:
    """Return what the command exits with for an expected error, None for any other."""
    if _connection_lost(error):
        return UNREACHABLE
    if isinstance(error, LakebedError):
        return error.exit_code
    return FAILED if isinstance(error, (PermissionError, *_database_errors())) else None


def _database_errors() -> list[type[BaseException]]:
    """Return the error classes of the database clients, where this process has imported them.

    Both take long to import, and only a client that was imported can raise an error.
    """
    clients = (sys.modules.get(name) for name in ("duckdb", "psycopg"))
    return [client.Error for client in clients if client is not None]


def _connection_lost(error: BaseException) -> bool:
    """Whether PostgreSQL went away while it was at work: no SQLSTATE, class 08, or 57P0x."""
    psycopg = sys.modules.get("psycopg")
    if psycopg is None or not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
