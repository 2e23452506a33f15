"""The load transaction: ledger, rows, rejects, files and cursor, committed together or not at all.

insert into lakebed.load ... on conflict do nothing     (there already: it was committed before)
insert into lakebed.loaded_file                         (the fence: a version is loaded once)
the rows, as the table's write mode has it              (writers.py)
insert into lakebed.rejected_row
commit
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl
import psycopg

from platform_assets.catalog import SourceTable
from platform_assets.ingest.contract import Reject
from platform_assets.ingest.sources.reader import SourceItem
from platform_assets.ingest.writers import Counts, LoadConflictError, writer_of
from platform_assets.partitions import Window
from resources.postgres import Connection

Step = Callable[[str], None]
"""Told the name of each step when it is done: extracted, began, copied, written, recorded,
committed."""


@dataclass
class FileRead:
    """What was read of one file. cursor_ties: how many of its rows have cursor_max.

    sha256: of the whole file, kept where the file may grow.
    """

    file: SourceItem
    rows_read: int = 0
    cursor_max: Any = None
    cursor_ties: int = 0
    sha256: str | None = None


@dataclass
class Package:
    """Everything that one transaction commits, but for the rows themselves.

    windows: the partitions that the rows belong to; empty for a table without time.
    """

    load_id: str
    table: SourceTable
    started_at: datetime
    cursor_from: Any
    files: list[FileRead] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    windows: set[Window] = field(default_factory=set)

    @property
    def cursor_to(self) -> Any:
        """The greatest cursor that was read, or the one from before."""
        found = [self.cursor_from, *(read.cursor_max for read in self.files)]
        return max((value for value in found if value is not None), default=None)


def commit_package(
    connection: Connection, package: Package, parquet: Path | None, *, on_step: Step
) -> Counts:
    """Commit a package: parquet holds its good rows, or is None where there are none.

    The connection must be in autocommit mode. Returns the ledger's counts where the package was
    committed before. Raises LoadConflictError, or psycopg's errors.
    """
    with connection.transaction():
        if not _enter_ledger(connection, package):
            return _counts_of(connection, package.load_id)
        _enter_files(connection, package)
        on_step("began")
        counts = _write(connection, package, parquet, on_step)
        on_step("written")
        _quarantine(connection, package)
        _complete_ledger(connection, package, counts)
        on_step("recorded")
    on_step("committed")
    return counts


def format_cursor(value: Any) -> str | None:
    """Return the text that the ledger keeps of a cursor's value."""
    if value is None:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def parse_cursor(table: SourceTable, text: str | None) -> Any:
    """Return the value that `format_cursor` wrote, in the type of the table's cursor column."""
    if text is None or table.cursor is None:
        return None
    dtype = table.column(table.cursor).polars
    if isinstance(dtype, pl.Datetime):
        return datetime.fromisoformat(text)
    if dtype == pl.Date:
        return date.fromisoformat(text)
    if dtype == pl.Time:
        return time.fromisoformat(text)
    return pl.Series([text]).cast(dtype)[0]


def _enter_ledger(connection: Connection, package: Package) -> bool:
    entered = connection.execute(
        "insert into lakebed.load (load_id, table_name, started_at, cursor_from, cursor_to,"
        " files, bytes, rows_read, rejected) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " on conflict do nothing",
        [
            package.load_id,
            package.table.name,
            package.started_at,
            format_cursor(package.cursor_from),
            format_cursor(package.cursor_to),
            len(package.files),
            sum(read.file.bytes for read in package.files),
            sum(read.rows_read for read in package.files),
            len(package.rejects),
        ],
    )
    return entered.rowcount == 1


def _enter_files(connection: Connection, package: Package) -> None:
    try:
        connection.cursor().executemany(
            "insert into lakebed.loaded_file (table_name, path, version, load_id, rows_read,"
            " cursor_max, cursor_ties, sha256) values (%s, %s, %s, %s, %s, %s, %s, %s)",
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
                )
                for read in package.files
            ],
        )
    except psycopg.errors.UniqueViolation as error:
        raise LoadConflictError(
            f"{package.table.name}: another load committed one of these files in between; "
            "nothing was changed here. Run the load again for what is left."
        ) from error


def _write(connection: Connection, package: Package, parquet: Path | None, on_step: Step) -> Counts:
    if parquet is None:
        return Counts()
    writer = writer_of(connection, package.table, package.windows)
    writer.begin()
    writer.copy(parquet)
    on_step("copied")
    return writer.finish()


def _quarantine(connection: Connection, package: Package) -> None:
    if not package.rejects:
        return
    connection.cursor().executemany(
        "insert into lakebed.rejected_row (table_name, load_id, source_file, row_number,"
        " column_name, reason, source_row) values (%s, %s, %s, %s, %s, %s, %s::jsonb)",
        [
            (
                package.table.name,
                package.load_id,
                reject.source_file,
                reject.row_number,
                reject.column,
                reject.reason,
                reject.row,
            )
            for reject in package.rejects
        ],
    )


def _complete_ledger(connection: Connection, package: Package, counts: Counts) -> None:
    connection.execute(
        "update lakebed.load set inserted = %s, updated = %s, unchanged = %s, superseded = %s,"
        " committed_at = clock_timestamp() where load_id = %s",
        [
            counts.inserted,
            counts.updated,
            counts.unchanged,
            counts.superseded,
            package.load_id,
        ],
    )


def _counts_of(connection: Connection, load_id: str) -> Counts:
    row = connection.execute(
        "select inserted, updated, unchanged, superseded from lakebed.load where load_id = %s",
        [load_id],
    ).fetchall()[0]
    return Counts(*row)
