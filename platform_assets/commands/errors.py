"""Which errors a person is told in a line, and what the command exits with.

By name: the modules that most of them live in take seconds to import, and an error can only be
raised by a module that was.
"""

from __future__ import annotations

from contextlib import suppress

FAILED = 1
WRONG_USAGE = 2
UNREACHABLE = 3
STOPPED = 130

EXIT_CODES = {
    "platform_assets.commands.errors.PartlyFailedError": FAILED,
    "platform_assets.commands.errors.QueryError": FAILED,
    "platform_assets.demo_files.DemoDataError": FAILED,
    "platform_assets.exports.target.ExportFailedError": FAILED,
    "platform_assets.ingest.constraints.TooManyViolationsError": FAILED,
    "platform_assets.ingest.locks.LoadBusyError": FAILED,
    "platform_assets.ingest.sources.reader.SourceError": FAILED,
    "platform_assets.ingest.apply.ApplyError": FAILED,
    "platform_assets.ingest.undoable.RollbackError": FAILED,
    "platform_assets.ingest.writers.writer.LoadConflictError": FAILED,
    "platform_assets.quality.ddl.DriftError": FAILED,
    "platform_assets.tiering.transaction.TieringError": FAILED,
    "platform_assets.up.UpError": FAILED,
    "resources.dlt_pipelines.ExtractError": FAILED,
    "resources.extensions.ExtensionError": FAILED,
    "resources.session.LakeReadError": FAILED,
    "resources.lake_files.LakeFileError": FAILED,
    "resources.postgres.LockWaitError": FAILED,
    "resources.postgres.MigrationError": FAILED,
    "_duckdb.Error": FAILED,
    "psycopg.Error": FAILED,
    "builtins.PermissionError": FAILED,
    "platform_assets.adoption.AdoptionError": WRONG_USAGE,
    "platform_assets.catalog.TableError": WRONG_USAGE,
    "platform_assets.exports.export.ExportError": WRONG_USAGE,
    "platform_assets.models.model.ModelError": WRONG_USAGE,
    "platform_assets.models.selection.SelectionError": WRONG_USAGE,
    "platform_assets.scaffold.ScaffoldError": WRONG_USAGE,
    "platform_assets.tiering.predicate.PredicateError": WRONG_USAGE,
    "resources.settings.SettingsError": WRONG_USAGE,
    "resources.postgres.PostgresUnavailableError": UNREACHABLE,
}


_FILE_GONE = "No files found that match the pattern"


class PartlyFailedError(RuntimeError):
    """Some of the work failed; the rest is done. The text says which."""


class QueryError(RuntimeError):
    """A query that DuckDB refuses; the text is DuckDB's, and says what can be done about it."""


def exit_code(error: BaseException) -> int | None:
    """Return what the command exits with for an expected error, None for any other."""
    if _connection_lost(error):
        return UNREACHABLE
    for kind in type(error).__mro__:
        code = EXIT_CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return code
    return None


def words(error: BaseException) -> str:
    """Return the error's text without the database's password and the keys of the lake."""
    from resources.lake_files import lake_files
    from resources.postgres import Postgres
    from resources.settings import SettingsError, read_settings

    text = str(error).strip() or type(error).__name__
    with suppress(SettingsError):
        settings = read_settings()
        text = lake_files(settings).redact(Postgres(settings).redact(text))
    if _FILE_GONE in text:
        text += "\nWhere that is a file of the lake, `lakebed verify` names all that are gone"
    return text


def _connection_lost(error: BaseException) -> bool:
    """Whether PostgreSQL went away while it was at work: no SQLSTATE, class 08, or 57P0x."""
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    state = getattr(error, "sqlstate", None)
    return "psycopg.OperationalError" in names and (
        state is None or state.startswith(("08", "57P"))
    )
