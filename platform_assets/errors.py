"""The base of every error of Lakebed, and the errors that more than one layer raises.

`except LakebedError` catches every error that Lakebed raises on purpose. Each class has the exit
code of the command, and whether the same work can succeed later.
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
    """A change of the lake failed and changed nothing. The text has the reason and the fix."""


class VerificationError(TieringError):
    """A file does not have the expected contents. Nothing was changed."""


class BusyError(TieringError):
    """Another process is changing the same table, partition or file."""

    retryable = True


class PartlyFailedError(LakebedError, RuntimeError):
    """Some of the work failed, and the rest is done. The text names the failures.

    Attributes:
        done: The reports of the finished work, where the caller returns reports.
    """

    def __init__(self, text: str, done: tuple[Any, ...] = ()) -> None:
        """Keep the reports with the text."""
        super().__init__(text)
        self.done = done


def exit_code(error: BaseException) -> int | None:
    """Return the exit code of the command for an expected error; None for any other."""
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
    """Whether the connection to PostgreSQL was lost: no SQLSTATE, class 08, or 57P0x."""
    psycopg = sys.modules.get("psycopg")
    if psycopg is None or not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
