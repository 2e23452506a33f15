"""Record the items that an attempt to load a table refused, whether it committed or failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from lakebed.errors import LakebedError
from lakebed.ingest.report import LoadReport
from lakebed.resources.lake_files import lake_files
from lakebed.resources.postgres import Connection, Postgres, PostgresUnavailableError
from lakebed.resources.settings import Settings
from lakebed.spec.partitions import Window
from lakebed.spec.sources import RejectedRows
from lakebed.spec.table import SourceTable
from lakebed.store.locks import LoadBusyError
from lakebed.store.refusals import record_failure, record_refusals

_NO_FAILURE = (LoadBusyError, PostgresUnavailableError)
"""Errors that are not recorded: another process loads the table, or the server is unreachable."""


def record_report(
    connection: Connection, table: SourceTable, window: Window | None, report: LoadReport
) -> LoadReport:
    """Record the items that an attempt refused, and return its report.

    A retry of the quarantine does not read the source, so it records nothing.
    """
    if not isinstance(table.source, RejectedRows):
        refused = [(item.path, item.problem) for item in report.refused]
        record_refusals(connection, table.name, _key(window), refused)
    return report


@contextmanager
def failure_recorded(
    settings: Settings, postgres: Postgres, table: SourceTable, window: Window | None = None
) -> Iterator[None]:
    """Record an error that ends the whole load, without secrets, and raise it again."""
    try:
        yield
    except _NO_FAILURE:
        raise
    except (LakebedError, psycopg.Error) as error:
        if not isinstance(table.source, RejectedRows):
            text = str(error).strip() or type(error).__name__
            problem = lake_files(settings).redact(postgres.redact(text))
            # Raise the error itself in any case, even where the server is unreachable by now.
            with (
                suppress(PostgresUnavailableError, psycopg.Error),
                postgres.connect(autocommit=True) as connection,
            ):
                record_failure(connection, table.name, _key(window), problem)
        raise


def _key(window: Window | None) -> str:
    return "" if window is None else window.key
