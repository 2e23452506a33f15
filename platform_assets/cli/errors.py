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
    "lakebed.cli.errors.PartlyFailedError": FAILED,
    "lakebed.cli.errors.QueryError": FAILED,
    "lakebed.demo.demo_files.DemoDataError": FAILED,
    "lakebed.exports.target.ExportFailedError": FAILED,
    "lakebed.ingest.constraints.TooManyViolationsError": FAILED,
    "lakebed.store.locks.LoadBusyError": FAILED,
    "lakebed.ingest.sources.reader.SourceError": FAILED,
    "lakebed.schema.apply.ApplyError": FAILED,
    "lakebed.recovery.undoable.RollbackError": FAILED,
    "lakebed.ingest.writers.writer.LoadConflictError": FAILED,
    "lakebed.schema.ddl.DriftError": FAILED,
    "lakebed.errors.TieringError": FAILED,
    "lakebed.orchestration.up.UpError": FAILED,
    "lakebed.resources.dlt_pipelines.ExtractError": FAILED,
    "lakebed.resources.extensions.ExtensionError": FAILED,
    "lakebed.resources.session.LakeReadError": FAILED,
    "lakebed.resources.lake_files.LakeFileError": FAILED,
    "lakebed.resources.postgres.LockWaitError": FAILED,
    "lakebed.resources.postgres.MigrationError": FAILED,
    "_duckdb.Error": FAILED,
    "psycopg.Error": FAILED,
    "builtins.PermissionError": FAILED,
    "lakebed.scaffolding.adoption.AdoptionError": WRONG_USAGE,
    "lakebed.spec.table.TableError": WRONG_USAGE,
    "lakebed.spec.export.ExportError": WRONG_USAGE,
    "lakebed.models.model.ModelError": WRONG_USAGE,
    "lakebed.models.selection.SelectionError": WRONG_USAGE,
    "lakebed.scaffolding.scaffold.ScaffoldError": WRONG_USAGE,
    "lakebed.tiering.predicate.PredicateError": WRONG_USAGE,
    "lakebed.resources.settings.SettingsError": WRONG_USAGE,
    "lakebed.resources.postgres.PostgresUnavailableError": UNREACHABLE,
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


def _connection_lost(error: BaseException) -> bool:
    """Whether PostgreSQL went away while it was at work: no SQLSTATE, class 08, or 57P0x."""
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    state = getattr(error, "sqlstate", None)
    return "psycopg.OperationalError" in names and (
        state is None or state.startswith(("08", "57P"))
    )
