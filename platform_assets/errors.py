"""The base of every error of Lakebed, and the errors that more than one layer raises.

`except LakebedError` catches whatever Lakebed raises on purpose. Each class says what the command
exits with and whether the same work, tried again, can succeed.
"""

from __future__ import annotations

from typing import ClassVar

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
