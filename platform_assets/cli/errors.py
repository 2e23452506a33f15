"""What the command exits with for an error that it shows in one line, and the text of the error.

Errors of Lakebed carry their exit code. DuckDB and psycopg take long to import, and only what was
imported can raise an error: their classes are looked up, never imported here.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from lakebed.errors import FAILED, UNREACHABLE, LakebedError

STOPPED = 130

_FILE_GONE = "No files found that match the pattern"


class PartlyFailedError(LakebedError, RuntimeError):
    """Some of the work failed; the rest is done. The text says which."""


class QueryError(LakebedError, RuntimeError):
    """A query that DuckDB refuses; the text is DuckDB's, and says what can be done about it."""


def exit_code(error: BaseException) -> int | None:
    """Return what the command exits with for an expected error, None for any other."""
    if _connection_lost(error):
        return UNREACHABLE
    if isinstance(error, LakebedError):
        return error.exit_code
    return FAILED if isinstance(error, (PermissionError, *_database_errors())) else None


def words(error: BaseException) -> str:
    """Return the error's text without the database's password and the keys of the lake."""
    from lakebed.resources.lake_files import lake_files
    from lakebed.resources.postgres import Postgres
    from lakebed.resources.settings import SettingsError, read_settings

    text = str(error).strip() or type(error).__name__
    with suppress(SettingsError):
        settings = read_settings()
        text = lake_files(settings).redact(Postgres(settings).redact(text))
    if _FILE_GONE in text:
        text += "\nWhere that is a file of the lake, `lakebed verify` names all that are gone"
    return text


def _database_errors() -> list[type[BaseException]]:
    """Return the error classes of the database clients that this process has imported."""
    clients = (sys.modules.get(name) for name in ("duckdb", "psycopg"))
    return [client.Error for client in clients if client is not None]


def _connection_lost(error: BaseException) -> bool:
    """Whether PostgreSQL went away while it was at work: no SQLSTATE, class 08, or 57P0x."""
    psycopg = sys.modules.get("psycopg")
    if psycopg is None or not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
