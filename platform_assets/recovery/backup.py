"""Backups: all hot rows of a table in one file, and the cold generations that were live with them.

The tombstones of that moment are kept in `lakebed.backup_cold_delete`.

    one snapshot: count, copy to Parquet, verify, make durable, record, commit

Every value is kept as PostgreSQL's own text, which PostgreSQL reads back to the same value for any
type. Columns outside of the contract are kept too. Cold files are never changed, so their names are
enough.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from psycopg import sql

from lakebed.ingest.writers import target_of
from lakebed.ingest.writers.undo import stored_columns
from lakebed.recovery.rollback_candidates import RollbackError
from lakebed.resources.durable import forget, make_durable, sha256, unfinished
from lakebed.resources.lake import Lake
from lakebed.resources.postgres import Connection, Postgres
from lakebed.resources.private import make_private_folder
from lakebed.schema.ddl import COLUMNS_QUERY, relation_exists
from lakebed.spec.schema import Column
from lakebed.spec.steps import OnBackupStep
from lakebed.spec.table import SourceTable
from lakebed.spec.types import TYPES
from lakebed.store.fingerprint import Fingerprint, fingerprint_query, read_fingerprint
from lakebed.store.locks import loading

TEXT_STYLE = (
    "set local timezone = 'UTC'",
    "set local datestyle = 'ISO, YMD'",
    "set local intervalstyle = 'postgres'",
    "set local extra_float_digits = 1",
    "set local bytea_output = 'hex'",
)
"""Settings that give a value one text, whatever the server and the role set."""


class BackupError(RollbackError):
    """A backup that was not taken or not put back; nothing was changed."""


@dataclass(frozen=True)
class Backup:
    """A backup. path: of the file of hot rows, below the home.  generations: cold ones, by key."""

    backup_id: str
    table: str
    taken_at: datetime
    path: str
    rows: int
    bytes: int
    generations: dict[str, int]


def backups_of(connection: Connection, table: SourceTable) -> list[Backup]:
    """Return the backups of a table, the newest first."""
    rows = connection.execute(
        "select backup_id, table_name, taken_at, path, rows, bytes, (select"
        " coalesce(jsonb_object_agg(partition_key, generation), '{}') from lakebed.backup_cold c"
        " where c.backup_id = backup.backup_id)"
        " from lakebed.backup where table_name = %s order by taken_at desc",
        [table.name],
    ).fetchall()
    return [Backup(*row) for row in rows]


def take_backup(
    home: Path,
    postgres: Postgres,
    lake: Lake,
    table: SourceTable,
    *,
    on_step: OnBackupStep = lambda step: None,
) -> Backup:
    """Back up a table, holding off loads. Raises BackupError, LoadBusyError."""
    backup_id = uuid.uuid4().hex[:12]
    file = home / "backups" / table.name / backup_id / "hot.parquet"
    with (
        postgres.connect(autocommit=True) as connection,
        loading(connection, table, patience=postgres.patience),
    ):
        if not relation_exists(connection, table):
            raise BackupError(f"{table.name} is not there yet; load it first")
        columns = as_text(stored_columns(connection, table))
        stored = kinds(connection, table)
        make_private_folder(file.parent)
        try:
            with lake.attached(read_only=False) as duck:
                taker = _Taker(duck, home, table, columns, file, on_step)
                taker.run(backup_id, stored)
        except BaseException as error:
            if not _is_recorded(postgres, backup_id):
                for path in (file, unfinished(file)):
                    path.unlink(missing_ok=True)
                file.parent.rmdir()
            if isinstance(error, duckdb.Error):
                raise BackupError(f"{table.name}: {lake.redact(str(error))}") from None
            raise
        on_step("committed")
        return next(b for b in backups_of(connection, table) if b.backup_id == backup_id)


def delete_backup(
    home: Path,
    postgres: Postgres,
    backup: Backup,
    *,
    on_step: OnBackupStep = lambda step: None,
) -> None:
    """Delete a backup: its rows in PostgreSQL in one transaction, then its file.

    Cold files that only the backup needed are deleted by the next housekeeping. A file that a
    killed delete left behind is in a folder that no backup names.
    """
    with postgres.connect() as connection:
        connection.execute("delete from lakebed.backup where backup_id = %s", [backup.backup_id])
    on_step("committed")
    file = home / backup.path
    if file.parent.is_dir():
        forget(file)
        file.parent.rmdir()


def _is_recorded(postgres: Postgres, backup_id: str) -> bool:
    with postgres.connect() as connection:
        query = "select 1 from lakebed.backup where backup_id = %s"
        return connection.execute(query, [backup_id]).fetchone() is not None


@dataclass
class _Taker:
    """One backup, in one transaction of DuckDB and PostgreSQL."""

    duck: duckdb.DuckDBPyConnection
    home: Path
    table: SourceTable
    columns: tuple[Column, ...]
    file: Path
    on_step: OnBackupStep

    def run(self, backup_id: str, stored: dict[str, str]) -> None:
        self.duck.execute("begin")
        for style in TEXT_STYLE:
            self._do(sql.SQL(style))
        query = fingerprint_query(self.columns, texts(self.table, self.columns), "postgres")
        expected = self._read(self._ask(query))
        self.on_step("counted")
        found = self._copy(expected)
        make_durable(unfinished(self.file), self.file, self.home)
        self.on_step("verified")
        self._record(backup_id, stored, expected, *found)
        self.on_step("recorded")
        self.duck.execute("commit")

    def _copy(self, expected: Fingerprint) -> tuple[int, str]:
        """Copy the rows to a file and hold it against what was counted; return size and SHA-256."""
        rows = sql.SQL("select * from {}").format(texts(self.table, self.columns))
        file = unfinished(self.file)
        copy = sql.SQL(
            "copy (from postgres_query('pg', {})) to {} (format parquet, compression zstd,"
            " use_tmp_file false, kv_metadata {{lakebed_table: {}}})"
        ).format(sql.Literal(rows.as_string()), sql.Literal(str(file)), self.table.name)
        self.duck.execute(copy.as_string())
        self.on_step("copied")
        relation = sql.SQL("read_parquet([{}])").format(sql.Literal(str(file)))
        query = fingerprint_query(self.columns, relation, "duckdb").as_string()
        wrong = self._read(self.duck.execute(query).fetchall()).differences(expected)
        if wrong:
            raise BackupError(
                f"{self.table.name}: the file differs from the rows in PostgreSQL "
                f"({'; '.join(wrong)}), and was deleted. Run `lakebed backup` again"
            )
        return file.stat().st_size, sha256(file)

    def _record(
        self, backup_id: str, stored: dict[str, str], found: Fingerprint, size: int, digest: str
    ) -> None:
        self._do(
            sql.SQL(
                "insert into lakebed.backup (backup_id, table_name, path, rows, bytes, sha256,"
                " fingerprint, columns) values ({}, {}, {}, {}, {}, {}, {}::jsonb, {}::jsonb)"
            ).format(
                backup_id,
                self.table.name,
                str(self.file.relative_to(self.home)),
                found.rows,
                size,
                digest,
                json.dumps(found.to_json()),
                json.dumps(stored),
            )
        )
        self._do(
            sql.SQL(
                "insert into lakebed.backup_cold select {}, table_name, partition_key, generation"
                " from lakebed.cold_file where table_name = {} and superseded_at is null"
            ).format(backup_id, self.table.name)
        )
        self._do(
            sql.SQL(
                "insert into lakebed.backup_cold_delete select {}, d.*"
                " from lakebed.cold_delete d where table_name = {}"
            ).format(backup_id, self.table.name)
        )

    def _read(self, rows: list[tuple[Any, ...]]) -> Fingerprint:
        return read_fingerprint(self.columns, rows[0])

    def _ask(self, query: sql.Composed) -> list[tuple[Any, ...]]:
        return self.duck.execute(
            "from postgres_query('pg', $query)", {"query": query.as_string()}
        ).fetchall()

    def _do(self, statement: sql.SQL | sql.Composed) -> None:
        self.duck.execute(
            "call postgres_execute('pg', $statement)", {"statement": statement.as_string()}
        )


def as_text(columns: Sequence[str]) -> tuple[Column, ...]:
    """Return columns as text, for which both engines have a fingerprint."""
    text = TYPES[pl.String]
    return tuple(Column(name, pl.String(), text, True, False, "", ()) for name in columns)


def texts(
    table: SourceTable, columns: Sequence[Column], types: Mapping[str, str] | None = None
) -> sql.Composable:
    """Return the table's rows with every value as text, as a relation.

    types: the types of the kept texts, for columns whose types are wider now.
    """
    had = types or {}
    values = sql.SQL(", ").join(
        sql.SQL("{0}{1}::text as {0}").format(
            sql.Identifier(column.name),
            sql.SQL(f"::{had[column.name]}" if column.name in had else ""),
        )
        for column in columns
    )
    return sql.SQL("(select {} from {}) as texts").format(values, target_of(table))


def kinds(connection: Connection, table: SourceTable) -> dict[str, str]:
    """Return the PostgreSQL type of each column that is stored."""
    rows = connection.execute(sql.SQL(COLUMNS_QUERY).format(table.oid)).fetchall()
    stored = stored_columns(connection, table)
    return {name: kind for name, kind, *_ in rows if name in stored}
