"""Load by window: replace the rows of one partition with those of the source.

Such a load records only its entry in the ledger, and repeating it gives the same rows. A window
that had moved returns to the hot tier: the same transaction supersedes its cold generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from psycopg import sql

from lakebed.ingest.package import FileRead
from lakebed.ingest.resume_point import below, record_cursor
from lakebed.ingest.sources.reader import Batch
from lakebed.ingest.transform import transform
from lakebed.ingest.writers import Counts, Writer
from lakebed.resources.locks import move_lock
from lakebed.spec.partitions import Window
from lakebed.spec.schema import Column
from lakebed.spec.table import SourceTable
from lakebed.store.grain_mismatch import check_grain, query_on


class WindowFilter:
    """Selects the rows of a window, and rows without a readable time, which become rejects."""

    value: Any = None
    boundary: None = None
    waiting: frozenset[str] = frozenset()
    beginning: None = None

    def __init__(self, table: SourceTable, window: Window) -> None:
        self._table = table
        self._window = window
        self._time = table.require_partitioning.column

    @property
    def newer(self) -> tuple[str, Any] | None:
        """The column and the value below which row groups need not be read."""
        return below(self._table, self._time, self._window.lower)

    def filter(self, batch: Batch, read: FileRead) -> Batch:
        """Return the rows of the window, and record their greatest cursor."""
        if batch.frame.height == 0:
            return batch
        moments = transform(self._table, read.file, batch.frame, self._time)[self._time].series
        keep = ((moments >= self._window.lower) & (moments < self._window.upper)).fill_null(True)
        batch = replace(batch, frame=batch.frame.filter(keep), numbers=batch.numbers.filter(keep))
        if self._table.cursor is not None and batch.frame.height:
            cursor = self._table.cursor
            record_cursor(
                read, transform(self._table, read.file, batch.frame, cursor)[cursor].series
            )
        return batch

    def verify_already_loaded(self) -> None:
        """Do nothing: a load by window does not depend on earlier loads."""


class WindowWriter(Writer):
    """Empties a window, hot and cold, before another writer fills it."""

    def __init__(self, inner: Writer, window: Window) -> None:
        super().__init__(inner.connection, inner.table, inner.windows, inner.load, inner.undo)
        self._inner = inner
        self._window = window

    @property
    def wire(self) -> Sequence[Column]:
        """The columns of the copied rows."""
        return self._inner.wire

    @property
    def needs_files(self) -> bool:
        """Whether the writer that fills the window needs the files."""
        return self._inner.needs_files

    def begin(self) -> None:
        """Delete the rows of the window, under the lock that a move of the partition takes.

        Raises:
            GrainError: The window has cold rows of another grain. Checked after the delete, which
                waits for a move under way.
        """
        move_lock(self.table.name, self._window).take(self.connection)
        self.undo.supersede(self._window)
        time = sql.Identifier(self.table.require_partitioning.column)
        self.undo.delete(
            sql.SQL("{} >= {} and {} < {}").format(
                time, sql.Literal(self._window.lower), time, sql.Literal(self._window.upper)
            )
        )
        check_grain(query_on(self.connection), self.table, self._window)
        self._inner.begin()

    def copy(self, parquet: Path) -> None:
        """Copy the rows of one file."""
        self._inner.copy(parquet)

    def finish(self) -> Counts:
        """Write the rows into the window; return their counts."""
        return self._inner.finish()
