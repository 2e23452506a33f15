"""Restore from a backup: the table becomes what it was then, hot and cold, in one transaction.

lock       the load lock of the table, and all its partitions against moves
stage      the backup's rows, as text
write      with a key only what differs, else all rows
verify     the table holds what the backup holds
record     the manifest of that time, the loads since as rolled back
commit
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
from psycopg import sql

from lakebed.ingest.writers import target_of
from lakebed.ingest.writers.writer import names
from lakebed.pgcopy.encoding import copy_rows
from lakebed.recovery.backup import (
    TEXT_STYLE,
    Backup,
    BackupError,
    as_text,
    backups_of,
    texts,
)
from lakebed.recovery.older_backup import Columns, columns_for
from lakebed.resources.durable import sha256
from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.lake_owner import LakeOwner
from lakebed.resources.locks import move_lock
from lakebed.resources.postgres import Connection, Postgres
from lakebed.schema.parents import has_unique_index
from lakebed.spec.partitions import window_for_key
from lakebed.spec.steps import OnPutBackStep
from lakebed.spec.table import SourceTable
from lakebed.store.fingerprint import Fingerprint, fingerprint_query, read_fingerprint
from lakebed.store.grain_mismatch import describe_mismatch, grain_mismatches
from lakebed.store.locks import loading
from lakebed.store.undo_tables import FORGOTTEN, record_rollback, undo_name

STAGE = sql.Identifier("lakebed_backup")

SUPERSEDE_OTHER_LOADS = """
update lakebed.cold_file f set superseded_at = clock_timestamp()
where table_name = %s and superseded_at is null and not exists (
    select from lakebed.backup_cold b
    where b.backup_id = %s and b.partition_key = f.partition_key and b.generation = f.generation)
"""
REVIVE = """
update lakebed.cold_file f set superseded_at = null
from lakebed.backup_cold b
where f.table_name = %s and f.superseded_at is not null
    and b.backup_id = %s and b.partition_key = f.partition_key and b.generation = f.generation
"""
# A file's version names the load that it was forgotten with; that may be another load.
REMEMBERED = """
select f.ctid as row, f.path, substr(f.version, length(%(forgotten)s || u || ' ') + 1) as version
from lakebed.loaded_file f join lakebed.load l using (load_id)
    join unnest(%(loads)s::text[]) as u on starts_with(f.version, %(forgotten)s || u || ' ')
where f.table_name = %(table)s and l.committed_at <= %(taken_at)s
"""
DROP_READ_AGAIN = f"""
delete from lakebed.loaded_file f using ({REMEMBERED}) as known
where f.table_name = %(table)s and f.path = known.path and f.version = known.version
"""  # noqa: S608
REMEMBER = f"""
update lakebed.loaded_file f set version = known.version from ({REMEMBERED}) as known
where f.ctid = known.row
"""  # noqa: S608


@dataclass(frozen=True)
class Restored:
    """What became of a table. loads: those after the backup, which are rolled back now."""

    backup: Backup
    loads: tuple[str, ...]
    removed: int
    updated: int
    inserted: int


def find_backup(connection: Connection, table: SourceTable, backup_id: str) -> Backup:
    """Return a backup of a table. Raises BackupError."""
    for backup in backups_of(connection, table):
        if backup.backup_id == backup_id:
            return backup
    raise BackupError(
        f"{table.name} has no backup {backup_id}; "
        f"`lakebed backup list {table.name}` shows the backups"
    )


def restore(
    home: Path,
    postgres: Postgres,
    lake: LakeFiles,
    table: SourceTable,
    backup_id: str,
    *,
    reload: bool = False,
    on_step: OnPutBackStep = lambda step: None,
) -> Restored:
    """Restore a table from a backup, hot and cold, in one transaction.

    reload: the next load reads the files again that were loaded since. lake: where the cold files
    are. Raises BackupError, LoadBusyError, ForeignLakeError.
    """
    LakeOwner(lake, postgres).check()
    try:
        with (
            postgres.connect(autocommit=True) as connection,
            loading(connection, table, patience=postgres.patience),
        ):
            on_step("locked")
            with connection.transaction():
                done = _Restorer(connection, home, lake, table, on_step).run(backup_id, reload)
            on_step("committed")
            return done
    except (psycopg.errors.IntegrityError, psycopg.errors.RaiseException) as error:
        raise BackupError(
            f"{table.name}: nothing was changed: {error.diag.message_primary}"
            f"{f' ({error.diag.message_detail})' if error.diag.message_detail else ''}. Fix the "
            "rows of other tables that depend on these, then restore again"
        ) from error


@dataclass
class _Restorer:
    """One restore, in a transaction of connection."""

    connection: Connection
    home: Path
    lake: LakeFiles
    table: SourceTable
    on_step: OnPutBackStep

    def run(self, backup_id: str, reload: bool) -> Restored:
        backup = find_backup(self.connection, self.table, backup_id)
        self._lock_partitions(backup)
        for style in TEXT_STYLE:
            self.connection.execute(sql.SQL(style))
        expected, self.altered = self._check(backup)
        self.columns = as_text(pq.read_schema(self.home / backup.path).names)
        self._stage(backup)
        self.on_step("staged")
        numbers = self._write()
        self.on_step("written")
        query = fingerprint_query(
            self.columns, texts(self.table, self.columns, self.altered.widened), "postgres"
        )
        found = read_fingerprint(self.columns, self.connection.execute(query).fetchall()[0])
        wrong = found.differences(expected)
        if wrong:
            raise BackupError(
                f"{self.table.name}: the table would not hold what the backup holds "
                f"({'; '.join(wrong)}); nothing was changed. Other sessions write to it, or it has "
                "triggers"
            )
        self.on_step("verified")
        self._put_back_manifest(backup)
        loads = self._record(backup, reload)
        self.on_step("recorded")
        return Restored(backup, tuple(loads), *numbers)

    def _lock_partitions(self, backup: Backup) -> None:
        """Keep moves out of the partitions that are cold now, or were.

        Raises BackupError where some are of another grain than the table now.
        """
        rows = self.connection.execute(
            "select distinct partition_key, extract(epoch from lower_bound)::bigint,"
            " extract(epoch from upper_bound)::bigint from lakebed.cold_file f"
            " where table_name = %s and (superseded_at is null or exists (select from"
            " lakebed.backup_cold b where b.backup_id = %s and (b.table_name, b.partition_key,"
            " b.generation) = (f.table_name, f.partition_key, f.generation))) order by 2, 3",
            [self.table.name, backup.backup_id],
        ).fetchall()
        found = grain_mismatches(self.table, rows)
        if found:
            raise BackupError(
                f"{self.table.name}: nothing was changed: "
                f"{describe_mismatch(self.table.require_partitioning.grain, found)}. "
                "Put that grain back into the table file first"
            )
        for key in sorted({row[0] for row in rows} | backup.generations.keys()):
            window = window_for_key(self.table.require_partitioning.grain, key)
            move_lock(self.table.name, window).take(self.connection)

    def _check(self, backup: Backup) -> tuple[Fingerprint, Columns]:
        """Check that files and columns exist and fit; return the rows' fingerprint and mapping."""
        digest, fingerprint, columns = self.connection.execute(
            "select sha256, fingerprint, columns from lakebed.backup where backup_id = %s",
            [backup.backup_id],
        ).fetchall()[0]
        file = self.home / backup.path
        if not file.is_file() or sha256(file) != digest:
            raise BackupError(
                f"{self.table.name}: the backup's file {file} is gone or changed; nothing was "
                "changed. Bring it back from where you keep copies of the home"
            )
        altered = columns_for(self.connection, self.table, columns)
        files = self.connection.execute(
            "select path, bytes from lakebed.backup_cold"
            " join lakebed.cold_file using (table_name, partition_key, generation)"
            " where backup_id = %s",
            [backup.backup_id],
        ).fetchall()
        for path, size in files:
            if self.lake.size(path) != size:
                raise BackupError(
                    f"{self.table.name}: the cold file {self.lake.address(path)} is gone or "
                    "changed; nothing was changed. Bring it back from a backup of the lake"
                )
        return Fingerprint.from_json(fingerprint), altered

    def _stage(self, backup: Backup) -> None:
        parts = sql.SQL(", ").join(
            sql.SQL("{} text").format(sql.Identifier(column.name)) for column in self.columns
        )
        self.connection.execute(
            sql.SQL("create temporary table {} ({}) on commit drop").format(STAGE, parts)
        )
        copy_rows(self.connection, STAGE, self.columns, self.home / backup.path)
        self.connection.execute(sql.SQL("analyze {}").format(STAGE))

    def _write(self) -> tuple[int, int, int]:
        """Make the table hold the staged rows; return how many were deleted, updated and inserted.

        With a key only the difference is written, so that rows that foreign keys refer to stay.
        """
        values = self.altered.values()
        key = self.table.primary_key
        keyed = bool(key) and has_unique_index(self.connection, self.table.relation, key)
        parts: dict[str, sql.Composable] = {
            "table": target_of(self.table),
            "stage": STAGE,
            "columns": names(tuple(values)),
            "values": sql.SQL(", ").join(values.values()),
        }
        if not keyed:
            removed = self._run("delete from {table}", parts)
            inserted = self._run(
                "insert into {table} ({columns}) overriding system value"
                " select {values} from {stage} as old",
                parts,
            )
            return removed, 0, inserted
        parts["same"] = sql.SQL(" and ").join(
            sql.SQL("hot.{} = {}").format(sql.Identifier(name), values[name]) for name in key
        )
        parts["sets"] = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in values.items()
        )
        parts["now"] = sql.SQL(", ").join(
            sql.SQL("hot.{}::text").format(sql.Identifier(name)) for name in values
        )
        parts["then"] = sql.SQL(", ").join(
            sql.SQL("({})::text").format(value) for value in values.values()
        )
        removed = self._run(
            "delete from {table} as hot where not exists (select from {stage} as old where {same})",
            parts,
        )
        updated = self._run(
            "update {table} as hot set {sets} from {stage} as old"
            " where {same} and ({now}) is distinct from ({then})",
            parts,
        )
        inserted = self._run(
            "insert into {table} ({columns}) overriding system value select {values}"
            " from {stage} as old where not exists (select from {table} as hot where {same})",
            parts,
        )
        return removed, updated, inserted

    def _run(self, statement: str, parts: dict[str, sql.Composable]) -> int:
        return self.connection.execute(sql.SQL(statement).format(**parts)).rowcount

    def _put_back_manifest(self, backup: Backup) -> None:
        self.connection.execute(SUPERSEDE_OTHER_LOADS, [self.table.name, backup.backup_id])
        self.connection.execute(REVIVE, [self.table.name, backup.backup_id])
        self.connection.execute(
            "delete from lakebed.cold_delete where table_name = %s", [self.table.name]
        )
        self.connection.execute(
            "insert into lakebed.cold_delete overriding system value"
            " select cold_delete_id, table_name, key, moment, load_id, deleted_by, deleted_at"
            " from lakebed.backup_cold_delete where backup_id = %s",
            [backup.backup_id],
        )

    def _let_stand(self, backup: Backup) -> None:
        """Record loads that were rolled back since as valid again: the backup holds their rows."""
        stood = self.connection.execute(
            "update lakebed.load set rolled_back_at = null where table_name = %s"
            " and committed_at <= %s and rolled_back_at > %s returning load_id",
            [self.table.name, backup.taken_at, backup.taken_at],
        ).fetchall()
        loads = [row[0] for row in stood]
        self.connection.execute(
            "update lakebed.rejected_row set resolved_by = null, resolved_at = null"
            " where load_id = resolved_by and load_id = any (%s)",
            [loads],
        )
        # A forgotten file may have been read again since, by a load that is rolled back now.
        known = {
            "loads": loads,
            "forgotten": FORGOTTEN,
            "table": self.table.name,
            "taken_at": backup.taken_at,
        }
        self.connection.execute(DROP_READ_AGAIN, known)
        self.connection.execute(REMEMBER, known)

    def _record(self, backup: Backup, reload: bool) -> list[str]:
        """Record the loads since as rolled back, and the loads of the backup as valid.

        Which load wrote a row is no longer known for the rows of the backup.
        """
        loads = [
            row[0]
            for row in self.connection.execute(
                "select load_id from lakebed.load where table_name = %s and committed_at > %s"
                " and rolled_back_at is null order by committed_at desc",
                [self.table.name, backup.taken_at],
            ).fetchall()
        ]
        # First this: files of loads that are valid again are not forgotten.
        self._let_stand(backup)
        record_rollback(self.connection, self.table, loads, reload=reload)
        self.connection.execute(
            "delete from lakebed.load_write using lakebed.load l"
            " where l.load_id = load_write.load_id and l.table_name = %s",
            [self.table.name],
        )
        kept = self.connection.execute(
            "select relname::text from pg_class join lakebed.load on load_id = relname"
            " where relnamespace = 'lakebed_undo'::regnamespace and table_name = %s order by 1",
            [self.table.name],
        ).fetchall()
        for (load_id,) in kept:
            self.connection.execute(sql.SQL("drop table {}").format(undo_name(load_id)))
        return loads
