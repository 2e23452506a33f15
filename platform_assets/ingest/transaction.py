"""The load transaction: ledger, rows, rejects, files and cursor, committed together or not at all.

insert into lakebed.load ... on conflict do nothing     (there already: it was committed before)
insert into lakebed.loaded_file                         (the fence: a version is loaded once)
append:  copy into the table
merge:   copy into a temporary table, then insert ... on conflict do update ... where different
insert into lakebed.rejected_row
commit
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pgpq
import polars as pl
import psycopg
import pyarrow.parquet as pq
from psycopg import sql
from psycopg.copy import LibpqWriter, QueuedLibpqWriter

from platform_assets.catalog import SourceTable
from platform_assets.ingest.contract import Reject
from platform_assets.ingest.files import SourceFile
from platform_assets.partitions import Window
from platform_assets.quality.schema import arrow_schema
from resources.postgres import Connection

BATCH_ROWS = 131_072

Step = Callable[[str], None]
"""Told the name of each step when it is done: extracted, began, copied, written, recorded,
committed."""


class LoadConflictError(RuntimeError):
    """Another load committed one of these files in between; nothing was changed."""


@dataclass
class FileRead:
    """What was read of one file. cursor_ties: how many of its rows have cursor_max.

    sha256: of the whole file, kept where the file may grow.
    """

    file: SourceFile
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


@dataclass(frozen=True)
class Counts:
    """What became of the rows that were good.

    superseded: rows that a newer row of the same key in the same load replaced.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0


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
    target = sql.Identifier("public", package.table.name)
    rows = 0
    if package.table.write_mode == "append":
        try:
            rows = _copy(connection, package.table, target, parquet)
        except psycopg.errors.UniqueViolation as error:
            raise LoadConflictError(
                f"{package.table.name}: a key is delivered that the table has already "
                f"({error.diag.message_detail}); nothing was loaded. An appended table takes a key "
                "once: use write_mode='merge', or leave the key out"
            ) from error
    elif _is_empty(connection, package):
        rows = _copy_unless_doubled(connection, package.table, target, parquet)
    if rows:
        on_step("copied")
        return Counts(inserted=rows)
    stage = sql.Identifier("lakebed_stage")
    connection.execute(
        sql.SQL("create temporary table {} on commit drop as select {} from {} limit 0").format(
            stage, _names(package.table.column_names), target
        )
    )
    rows = _copy(connection, package.table, stage, parquet)
    on_step("copied")
    return _merge(connection, package.table, stage, rows)


def _copy(connection: Connection, table: SourceTable, target: sql.Composable, parquet: Path) -> int:
    """Stream the file's batches as COPY BINARY; encoding runs beside the sending."""
    encoder = pgpq.ArrowToPostgresBinaryEncoder(arrow_schema(table.columns))
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        target, _names(table.column_names)
    )
    rows = 0
    with pq.ParquetFile(parquet) as file, connection.cursor() as cursor:
        small = file.metadata.num_rows <= BATCH_ROWS
        writer = LibpqWriter(cursor) if small else QueuedLibpqWriter(cursor)
        with cursor.copy(statement, writer=writer) as copy:
            copy.write(encoder.write_header())
            for batch in file.iter_batches(BATCH_ROWS):
                copy.write(encoder.write_batch(batch))
                rows += batch.num_rows
            copy.write(encoder.finish())
    return rows


def _is_empty(connection: Connection, package: Package) -> bool:
    """Whether the table has no row that the package could meet."""
    table = sql.Identifier("public", package.table.name)
    where: sql.Composable = sql.SQL("true")
    if package.windows:
        where = sql.SQL("{time} >= {lower}::timestamptz and {time} < {upper}::timestamptz").format(
            time=sql.Identifier(package.table.partitioned.column),
            lower=min(window.lower for window in package.windows).isoformat(),
            upper=max(window.upper for window in package.windows).isoformat(),
        )
    query = sql.SQL("select not exists (select from {} where {})").format(table, where)
    return bool(connection.execute(query).fetchall()[0][0])


def _copy_unless_doubled(
    connection: Connection, table: SourceTable, target: sql.Composable, parquet: Path
) -> int:
    """Copy straight into the table, at the speed of an append; 0 where a key stands twice."""
    try:
        with connection.transaction():
            return _copy(connection, table, target, parquet)
    except psycopg.errors.UniqueViolation:
        return 0


def _merge(connection: Connection, table: SourceTable, stage: sql.Composable, rows: int) -> Counts:
    """Let the newest row of each key win, in the batch and against the table.

    Rows that would not change are not written. Among equals the later in the files is the newer.
    """
    others = [name for name in table.column_names if name not in table.key]
    order: list[sql.Composable] = [sql.Identifier(name) for name in table.key]
    guard: sql.Composable = sql.SQL("")
    if table.cursor is not None and table.cursor not in table.key:
        cursor = sql.Identifier(table.cursor)
        order.append(sql.SQL("{} desc").format(cursor))
        guard = sql.SQL(" and excluded.{0} >= hot.{0}").format(cursor)
    order.append(sql.SQL("ctid desc"))
    action: sql.Composable = sql.SQL("nothing")
    if others:
        action = sql.SQL("update set {} where ({}) is distinct from ({}){}").format(
            sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others
            ),
            sql.SQL(", ").join(sql.Identifier("hot", name) for name in others),
            sql.SQL(", ").join(sql.Identifier("excluded", name) for name in others),
            guard,
        )
    statement = sql.SQL(
        "with latest as (select distinct on ({key}) {columns} from {stage} order by {order}),"
        " known as (select count(*) as rows from latest join {table} using ({key})),"
        " written as (insert into {table} as hot ({columns}) select {columns} from latest"
        " on conflict ({key}) do {action} returning 1)"
        " select (select count(*) from latest), (select rows from known), count(*) from written"
    ).format(
        key=_names(table.key),
        columns=_names(table.column_names),
        stage=stage,
        order=sql.SQL(", ").join(order),
        table=sql.Identifier("public", table.name),
        action=action,
    )
    connection.execute(sql.SQL("analyze {}").format(stage))
    latest, known, written = connection.execute(statement).fetchall()[0]
    inserted = latest - known
    return Counts(inserted, written - inserted, latest - written, rows - latest)


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


def _names(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(name) for name in columns)
