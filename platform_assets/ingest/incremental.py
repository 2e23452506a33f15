"""What is new: files by the ledger, and rows beyond the cursor in a file that has grown.

The ledger in PostgreSQL is the only memory. A file at one version is loaded once; a file that
changed is read again by its table's policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from platform_assets.catalog import SourceTable
from platform_assets.ingest.casts import cast
from platform_assets.ingest.files import Batch, SourceFile, SourceFileError
from platform_assets.ingest.transaction import FileRead, parse_cursor
from resources.postgres import Connection


@dataclass(frozen=True)
class Refused:
    """A file that was left out, and why."""

    path: str
    problem: str


@dataclass(frozen=True)
class Pending:
    """A file to load. From a file that has grown only rows from a cursor on are read, if it is set.

    ties: how many rows at exactly that cursor are loaded already.  loaded: how many rows at all.
    """

    file: SourceFile
    cursor: str | None = None
    ties: int = 0
    loaded: int = 0


def new_files_of(
    connection: Connection, table: SourceTable, files: list[SourceFile]
) -> list[SourceFile]:
    """Return those of the files that a load would read: new ones, and changed ones by policy."""
    pending, _ = pending_files(connection, table, files)
    return [item.file for item in pending]


def last_load_of(connection: Connection, table: SourceTable) -> str | None:
    """Return the id of the load that changed the table last, None where there was none."""
    row = connection.execute(
        "select load_id from lakebed.load where table_name = %s order by committed_at desc limit 1",
        [table.name],
    ).fetchone()
    return row[0] if row else None


def pending_files(
    connection: Connection, table: SourceTable, files: list[SourceFile]
) -> tuple[list[Pending], list[Refused]]:
    """Tell new and changed files from those that are in the ledger."""
    rows = connection.execute(
        "select distinct on (f.path) f.path, f.cursor_max, f.cursor_ties,"
        " array_agg(f.version) over same_path, (sum(f.rows_read) over same_path)::bigint"
        " from lakebed.loaded_file f join lakebed.load l using (load_id)"
        " where f.table_name = %s window same_path as (partition by f.path)"
        " order by f.path, l.committed_at desc",
        [table.name],
    ).fetchall()
    known = {path: found for path, *found in rows}
    pending: list[Pending] = []
    refused: list[Refused] = []
    for file in files:
        if file.path not in known:
            pending.append(Pending(file))
            continue
        cursor, ties, versions, loaded = known[file.path]
        if file.version in versions:
            continue
        if table.changed_files == "refuse":
            refused.append(
                Refused(
                    file.path,
                    "it was loaded before and has changed since; deliver new rows in a new file, "
                    "or set changed_files in the table file",
                )
            )
        elif table.changed_files == "cursor":
            pending.append(Pending(file, cursor, ties, loaded))
        else:
            pending.append(Pending(file))
    return pending, refused


def last_cursor(connection: Connection, table: SourceTable) -> Any:
    """Return the greatest cursor that was committed, in its column's type, or None."""
    row = connection.execute(
        "select cursor_to from lakebed.load where table_name = %s and cursor_to is not null"
        " order by committed_at desc limit 1",
        [table.name],
    ).fetchone()
    return parse_cursor(table, row[0]) if row else None


class Start:
    """Where reading begins: at the first row, or beyond the cursor in a file that has grown."""

    def __init__(self, table: SourceTable, item: Pending) -> None:
        self.column = table.cursor
        self.dtype = table.column(table.cursor).polars if table.cursor else None
        self.value = parse_cursor(table, item.cursor)
        self.ties_left = item.ties
        self.item = item
        self.passed_over = 0
        self.unreadable = 0

    @property
    def newer(self) -> tuple[str, Any] | None:
        """The column and the value below which row groups need not be read."""
        return None if self.value is None or self.column is None else (self.column, self.value)

    def cut(self, batch: Batch, read: FileRead) -> Batch:
        """Return the rows beyond the start, and note their greatest cursor.

        Rows whose cursor cannot be read are kept: the contract will say what is wrong with them.
        """
        self.passed_over += batch.left_out
        if self.column is None or self.dtype is None or batch.frame.height == 0:
            return batch
        try:
            cursors = cast(batch.frame[self.column], self.dtype).series
        except pl.exceptions.PolarsError:
            return batch  # no column at all: so says the contract, with the file's name
        if self.value is not None:
            keep = (cursors >= self.value).fill_null(True)
            ties = keep & (cursors == self.value).fill_null(False)
            skip = ties & (ties.cum_sum() <= self.ties_left)
            self.ties_left -= int(skip.sum())
            keep &= ~skip
            self.passed_over += int((~keep).sum())
            self.unreadable += cursors.null_count()
            batch = Batch(batch.frame.filter(keep), batch.numbers.filter(keep), batch.malformed)
            cursors = cursors.filter(keep)
        _note_cursor(read, cursors)
        return batch

    def check_the_past(self) -> None:
        """Make sure that what was passed over is what was loaded. Raises SourceFileError.

        A file that was not only added to would lose rows without a word.
        """
        loaded = self.item.loaded
        if self.value is None or loaded - self.unreadable <= self.passed_over <= loaded:
            return
        raise SourceFileError(
            self.item.file.path,
            f"up to the cursor {self.item.cursor} it has {self.passed_over} rows where {loaded} "
            "were loaded: it was not only added to. Deliver new rows in a new file, or use merge",
        )


def _note_cursor(read: FileRead, cursors: pl.Series) -> None:
    newest = cursors.max()
    if newest is None:
        return
    ties = int((cursors == newest).sum())
    if read.cursor_max is None or newest > read.cursor_max:
        read.cursor_max, read.cursor_ties = newest, ties
    elif newest == read.cursor_max:
        read.cursor_ties += ties
