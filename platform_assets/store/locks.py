"""The lock of the loads of a table: one at a time, or one a window. See resources/locks.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from lakebed.errors import LakebedError
from lakebed.resources.locks import load_lock, window_lock
from lakebed.resources.patience import PATIENCE, Patience
from lakebed.resources.postgres import Connection
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable


class LoadBusyError(LakebedError, RuntimeError):
    """Another load of the same rows runs and did not end in time."""

    retryable = True


@contextmanager
def loading(
    connection: Connection,
    table: SourceTable,
    window: Window | None = None,
    *,
    patience: Patience = PATIENCE,
) -> Iterator[None]:
    """Hold the load lock of a table, or of a window of it; wait for another load up to a limit.

    Raises LoadBusyError. The connection must be in autocommit mode.
    """
    limit = f"{patience.for_other_load * 1000:.0f}ms"
    connection.execute("select set_config('lock_timeout', %s, false)", [limit])
    with ExitStack() as held:
        try:
            whole = load_lock(table.name)
            held.enter_context(whole.held(connection, shared=window is not None))
            if window is not None:
                held.enter_context(window_lock(table.name, window).held(connection))
        except psycopg.errors.LockNotAvailable as error:
            raise LoadBusyError(
                f"another load of {table.name} has been running for {patience.for_other_load:g} s; "
                "run this one again when it has ended"
            ) from error
        connection.execute("select set_config('lock_timeout', '0', false)")
        yield
