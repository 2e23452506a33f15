"""Who may load or alter a table: one at a time, or one a window, by PostgreSQL's advisory locks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from lakebed.errors import LakebedError
from lakebed.resources.postgres import Connection
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable

WAIT_FOR_OTHER_LOAD = "60s"


class LoadBusyError(LakebedError, RuntimeError):
    """Another load of the same rows runs and did not end in time."""

    retryable = True


@contextmanager
def alone(
    connection: Connection, table: SourceTable, window: Window | None = None
) -> Iterator[None]:
    """Hold the load lock of a table, or of a window of it; wait for another load, but not for ever.

    Raises LoadBusyError. The connection must be in autocommit mode.
    """
    name = f"lakebed.load:{table.name}"
    locks = [("", name)] if window is None else [("_shared", name), ("", f"{name}:{window.key}")]
    connection.execute("select set_config('lock_timeout', %s, false)", [WAIT_FOR_OTHER_LOAD])
    try:
        for kind, key in locks:
            _call(connection, f"pg_advisory_lock{kind}", key)
    except psycopg.errors.LockNotAvailable as error:
        raise LoadBusyError(
            f"another load of {table.name} has been running for {WAIT_FOR_OTHER_LOAD}; "
            "run this one again when it has ended"
        ) from error
    connection.execute("select set_config('lock_timeout', '0', false)")
    try:
        yield
    finally:
        if not connection.closed:
            for kind, key in reversed(locks):
                _call(connection, f"pg_advisory_unlock{kind}", key)


@contextmanager
def evolving(connection: Connection, table: SourceTable) -> Iterator[None]:
    """Hold what keeps two loads of different windows from adding the same column."""
    key = f"lakebed.evolve:{table.name}"
    _call(connection, "pg_advisory_lock", key)
    try:
        yield
    finally:
        if not connection.closed:
            _call(connection, "pg_advisory_unlock", key)


def _call(connection: Connection, function: str, key: str) -> None:
    query = sql.SQL("select {}(hashtextextended(%s, 0))").format(sql.Identifier(function))
    connection.execute(query, [key])
