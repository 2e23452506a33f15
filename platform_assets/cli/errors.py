"""The errors of the command itself, and the text that it shows of an error."""

from __future__ import annotations

from contextlib import suppress

from lakebed.errors import LakebedError

STOPPED = 130

_FILE_GONE = "No files found that match the pattern"


class QueryError(LakebedError, RuntimeError):
    """A query that DuckDB refuses; the text is DuckDB's, and says what can be done about it."""


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
