"""Which errors a person is told in a line, and what the command exits with.

By name: most of them live in modules that take a second to import.
"""

from __future__ import annotations

import duckdb

from platform_assets.catalog import TableError
from platform_assets.models.model import ModelError
from platform_assets.tiering.move import MoveError
from resources.lake import LakeReadError
from resources.postgres import LockWaitError, PostgresUnavailableError
from resources.settings import SettingsError


class PartlyFailedError(RuntimeError):
    """Some of the work failed; the rest is done. The text says which."""


EXPECTED = (
    TableError,
    ModelError,
    MoveError,
    LakeReadError,
    LockWaitError,
    PostgresUnavailableError,
    SettingsError,
    PartlyFailedError,
    duckdb.Error,
)

WRONG_USAGE = (TableError, ModelError, SettingsError)


def exit_code(error: BaseException) -> int:
    """Return what the command exits with for an expected error."""
    if isinstance(error, PostgresUnavailableError):
        return 3
    return 2 if isinstance(error, WRONG_USAGE) else 1
