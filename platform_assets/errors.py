"""Errors that more than one layer raises."""

from __future__ import annotations


class TieringError(RuntimeError):
    """A change of the lake that did not happen. The text says why and what to do."""


class VerificationError(TieringError):
    """A file does not hold what it should; nothing was changed."""


class BusyError(TieringError):
    """Another process writes the same."""
