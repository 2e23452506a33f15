"""Commit ledger, rows, rejects, items and cursor of a load together or not at all.

insert into lakebed.load
the rows, by the table's write mode                     (writers/)
insert into lakebed.rejected_row
insert into lakebed.loaded_file                         (the fence: a version is loaded once)
rejects of earlier loads that were read again           (outdated.py)
commit
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psycopg

from lakebed.ingest.as_read import AsRead
from lakebed.ingest.incremental import last_cursor
from lakebed.ingest.outdated import supersede_rejects
from lakebed.ingest.package import Package, format_cursor
from lakebed.ingest.unfinished import forget_unfinished, note_unfinished, waits_for_parents
from lakebed.ingest.windows import WindowWriter
from lakebed.ingest.writers import Counts, LoadConflictError, LoadStamp, writer_of
from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.locks import cursor_lock
from lakebed.resources.postgres import Connection
from lakebed.spec.sources import RejectedRows
from lakebed.spec.steps import OnLoadStep
from lakebed.store.rejects import Reject, write_rejects
from lakebed.store.undo_tables import record_rollback


class LoadTransaction:
    """All writes of one load. The caller opens the transaction and commits it.

    Only one thread at a time may call it.
    """

    def __init__(
        self,
        connection: Connection,
        package: Package,
        lake: LakeFiles,
        as_read: AsRead,
        on_step: OnLoadStep,
    ) -> None:
        """Prepare the writes of a load.

        Args:
            connection: In a transaction.
            package: The load.
            lake: Where the cold files are.
            as_read: The rows as read, for rows that the transaction rejects.
            on_step: Called after each step.
        """
        self._connection = connection
        self._package = package
        self._on_step = on_step
        self._is_retry = isinstance(package.table.source, RejectedRows)
        load = LoadStamp(package.load_id, package.started_at, lake, as_read, self.quarantine)
        self._writer = writer_of(connection, package.table, package.windows, load)
        if package.window is not None:
            self._writer = WindowWriter(self._writer, package.window)

    def begin(self) -> None:
        """Insert the load into the ledger, to which all other writes refer."""
        self._connection.execute(
            "insert into lakebed.load (load_id, table_name, started_at, cursor_from, is_retry)"
            " values (%s, %s, %s, %s, %s)",
            [
                self._package.load_id,
                self._package.table.name,
                self._package.started_at,
                format_cursor(self._package.cursor_from),
                self._is_retry,
            ],
        )
        self._writer.undo.wrote(0)
        self._writer.begin()
        self._on_step("began")

    def copy(self, parquet: Path) -> None:
        """Send the rows of one file. Raises LoadConflictError, or psycopg's errors."""
        self._writer.copy(parquet)
        if not self._writer.needs_files:
            parquet.unlink()
        self._on_step("copied")

    def quarantine(self, rejects: Sequence[Reject]) -> None:
        """Keep rows that broke the contract."""
        new = self._package.reader.keep(self._connection, rejects)
        write_rejects(self._connection, self._package.table.name, self._package.load_id, new)

    def finish(self) -> Counts:
        """Write the rows into the table, record the items, complete the ledger; return the counts.

        Raises:
            LoadConflictError: Another load committed one of the items in between.
        """
        counts = self._writer.finish()
        self._writer.undo.finish()
        self._on_step("written")
        if self._package.window is None:
            _enter_files(self._connection, self._package)
        files = [read.file for read in self._package.files]
        supersede_rejects(self._connection, self._package)
        self._package.reader.settle(self._connection, self._package.load_id, files)
        _complete_ledger(self._connection, self._package, counts)
        self._note_what_waits(counts)
        rejected = self._package.rejected + counts.rejected
        if self._is_retry and rejected == self._package.rows_read:
            # A rollback cannot return to a retry that loaded nothing.
            record_rollback(
                self._connection, self._package.table, [self._package.load_id], reload=False
            )
        self._on_step("recorded")
        return counts

    def _note_what_waits(self, counts: Counts) -> None:
        """Record whether the load waits for other tables. Only a whole load clears the record."""
        table = self._package.table.name
        if counts.held or waits_for_parents(self._connection, table):
            note_unfinished(self._connection, table, self._package.seen)
        elif not self._is_retry and self._package.window is None:
            forget_unfinished(self._connection, table)


_ENTER = (
    "insert into lakebed.loaded_file (table_name, path, version, load_id, rows_read, cursor_max,"
    " cursor_ties, sha256, boundary) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
_ENTER_AGAIN = (
    f"{_ENTER} on conflict (table_name, digest) do update set load_id = excluded.load_id,"
    " rows_read = excluded.rows_read, cursor_max = excluded.cursor_max,"
    " cursor_ties = excluded.cursor_ties, sha256 = excluded.sha256, boundary = excluded.boundary"
)
"""A version of a source that loads as a whole belongs to the last load that read it."""


def _enter_files(connection: Connection, package: Package) -> None:
    try:
        connection.cursor().executemany(
            _ENTER_AGAIN if package.table.loads_whole or package.again else _ENTER,
            [
                (
                    package.table.name,
                    read.file.name,
                    read.file.version,
                    package.load_id,
                    read.rows_read,
                    format_cursor(read.cursor_max),
                    read.cursor_ties,
                    read.sha256,
                    read.boundary.pack() if read.boundary else None,
                )
                for read in package.files
            ],
        )
    except psycopg.errors.UniqueViolation as error:
        raise LoadConflictError(
            f"{package.table.name}: another load committed one of these files in between; this "
            "load changed nothing. Run it again for the remaining files."
        ) from error


def _complete_ledger(connection: Connection, package: Package, counts: Counts) -> None:
    # Parallel loads commit one after the other from here on: the last has the greatest cursor.
    cursor_lock(package.table.name).take(connection)
    known = [last_cursor(connection, package.table), package.cursor_to]
    cursor_to = max((cursor for cursor in known if cursor is not None), default=None)
    connection.execute(
        "update lakebed.load set cursor_to = %s, files = %s, bytes = %s, rows_read = %s,"
        " rejected = %s, inserted = %s, updated = %s, unchanged = %s, superseded = %s,"
        " marked = %s, deleted = %s, committed_at = clock_timestamp() where load_id = %s",
        [
            format_cursor(cursor_to),
            len(package.files),
            package.bytes,
            package.rows_read,
            package.rejected + counts.rejected,
            counts.inserted,
            counts.updated,
            counts.unchanged,
            counts.superseded,
            counts.marked,
            counts.deleted,
            package.load_id,
        ],
    )
