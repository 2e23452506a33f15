"""The errors of a reading session."""

from __future__ import annotations

from lakebed.errors import LakebedError


class LakeReadError(LakebedError, RuntimeError):
    """The lake cannot be read; the text says what is missing and what to do."""


class ReadOnlyError(LakeReadError):
    """A statement that would change something, in a session that only reads."""


class SessionEndedError(LakeReadError):
    """A session whose snapshot is gone, because a query failed in it or was cancelled."""


class InexactError(LakeReadError):
    """A query of values that DuckDB's type cannot hold, so that it would return different ones.

    The text names the column, the rows and what to do. The session can be used further.
    """


class ErasedError(LakeReadError):
    """Rows that the session's snapshot shows were erased while it was open, with their file."""

    retryable = True


class FileMissingError(LakeReadError):
    """A file of the lake is missing, which the manifest names."""
