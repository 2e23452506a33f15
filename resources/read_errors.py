"""The errors of a reading session."""

from __future__ import annotations

from lakebed.errors import LakebedError


class LakeReadError(LakebedError, RuntimeError):
    """The lake cannot be read; the text says what is missing and what to do."""


class ReadOnlyError(LakeReadError):
    """A statement that would change something, in a session that only reads."""


class SessionEndedError(LakeReadError):
    """A session whose snapshot is gone, because a query failed in it or was cancelled."""
