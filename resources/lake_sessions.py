"""Many sessions over one DuckDB: for a build of many models, one after another or side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from lakebed.resources.lake import Lake
    from lakebed.resources.session import ReadSession


class LakeSessions:
    """One DuckDB with PostgreSQL attached, from which sessions are opened; see Lake.sessions."""

    def __init__(self, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        """Wrap a connection that its owner closes."""
        self._lake = lake
        self._connection = connection
        self._opening = Lock()
        self._open: set[duckdb.DuckDBPyConnection] = set()

    @contextmanager
    def open(
        self, names: Collection[str] | None = None, *, define: bool = True
    ) -> Iterator[ReadSession]:
        """Open one snapshot of all tables and models, or of named ones.

        define: whether to create their views, or only read their definitions.
        """
        with self._opening:
            cursor = self._connection.cursor()
            self._open.add(cursor)
        try:
            # A setting that each connection has for itself.
            cursor.execute("set enable_progress_bar = false")
            yield self._lake.snapshot(cursor, names, define=define)
        finally:
            self._open.discard(cursor)
            # Closing waits for a running query, even for one that was stopped with Ctrl-C.
            cursor.interrupt()
            # Closed in a transaction whose server has gone, DuckDB would end the whole process.
            with suppress(duckdb.Error):
                cursor.execute("rollback")
            cursor.close()

    def interrupt(self) -> None:
        """Stop what the open sessions do."""
        for cursor in [*self._open]:
            cursor.interrupt()
