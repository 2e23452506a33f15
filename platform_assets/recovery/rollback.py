"""Rollback: the state of a table before its last load, or the last few, in one transaction.

    lock            the load lock of the table: no load runs at the same time
    gather          the rows that the loads updated or deleted, in their versions before the first
    delete, update, insert
                    rows that carry the loads' transaction ids go, or get their old version back
    verify          as many rows as the ledger says, and the table holds the kept versions
    record          the loads as rolled back, the cold generations they superseded as live, their
                    tombstones taken back
    commit

A row that another session changed, or that was moved, no longer carries its load's id: the numbers
differ then, and nothing is changed. Earlier loads wrote the old versions, and may be undone later:
so the rows are written in one savepoint for each of these loads, whose id is recorded for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from lakebed.ingest.writers import target_of
from lakebed.ingest.writers.undo import WAS, enter_write, stored_columns
from lakebed.ingest.writers.writer import names, same
from lakebed.recovery.rollback_candidates import RollbackCandidate, RollbackError, loads_to_undo
from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.lake_owner import LakeOwner
from lakebed.resources.locks import move_lock
from lakebed.resources.postgres import Connection, Postgres
from lakebed.schema.parents import has_unique_index
from lakebed.spec.partitions import window_for_key
from lakebed.spec.steps import OnRollbackStep
from lakebed.spec.table import SourceTable
from lakebed.store.fingerprint import fingerprint_query, read_fingerprint
from lakebed.store.grain_mismatch import check_grain, describe_mismatch, grain_mismatches, query_on
from lakebed.store.locks import loading
from lakebed.store.undo_tables import record_rollback, undo_name

BEFORE = sql.Identifier("lakebed_before")
NAMED = 12
"""How many partitions an error names."""


@dataclass(frozen=True)
class RolledBack:
    """What a rollback did.

    loads: the undone ones, the newest first. removed: deleted rows. restored: rows that got their
    old version back, some of which had been deleted.
    """

    table: str
    loads: tuple[str, ...]
    removed: int
    restored: int
    partitions: tuple[str, ...] = ()


def rollback(
    postgres: Postgres,
    lake: LakeFiles,
    table: SourceTable,
    load_id: str | None = None,
    *,
    expected: Sequence[str] | None = None,
    reload: bool = False,
    on_step: OnRollbackStep = lambda step: None,
) -> RolledBack:
    """Undo the last valid load of a table, or one load and all later ones.

    expected: the loads that were confirmed; a different set is refused. reload: the next load reads
    the loads' files again. lake: where the cold files are. Raises RollbackError, LoadBusyError,
    GrainError, ForeignLakeError.
    """
    LakeOwner(lake, postgres).check()
    try:
        with (
            postgres.connect(autocommit=True) as connection,
            loading(connection, table, patience=postgres.patience),
        ):
            on_step("locked")
            with connection.transaction():
                loads = loads_to_undo(connection, table, load_id)
                found = [load.load_id for load in loads]
                if expected is not None and found != list(expected):
                    raise RollbackError(
                        f"{table.name}: it was loaded or rolled back in between; nothing was "
                        "changed. Run `lakebed rollback` again and check what it would undo"
                    )
                done = _Rollback(connection, lake, table, loads, on_step).run(reload=reload)
            on_step("committed")
            return done
    except (psycopg.errors.IntegrityError, psycopg.errors.RaiseException) as error:
        raise RollbackError(
            f"{table.name}: nothing was changed: {error.diag.message_primary}"
            f"{f' ({error.diag.message_detail})' if error.diag.message_detail else ''}. Rows of "
            "other writers depend on the loads' rows or took their keys; fix those first"
        ) from error


@dataclass
class _Rollback:
    """One rollback, in a transaction of connection."""

    connection: Connection
    lake: LakeFiles
    table: SourceTable
    loads: Sequence[RollbackCandidate]
    on_step: OnRollbackStep
    written_as: set[str] = field(default_factory=set)

    def run(self, *, reload: bool) -> RolledBack:
        self.columns = stored_columns(self.connection, self.table)
        self.key = self._key()
        partitions = self._lock_partitions()
        expected, before = self._gather()
        self.on_step("gathered")
        removed = self._delete()
        updated, inserted = self._restore_rows()
        self.on_step("written")
        if removed + updated != expected or updated + inserted != before:
            raise self._differs(expected, removed + updated)
        self._verify()
        self.on_step("verified")
        self._revive()
        self._take_back_deletes()
        record_rollback(self.connection, self.table, self._ids, reload=reload)
        self.on_step("recorded")
        return RolledBack(
            self.table.name,
            tuple(load.load_id for load in self.loads),
            removed,
            before,
            tuple(partitions),
        )

    @property
    def _ids(self) -> list[str]:
        return [load.load_id for load in self.loads]

    @property
    def _xids(self) -> sql.Composable:
        return _array({xid for load in self.loads for xid in load.xids})

    def _key(self) -> tuple[str, ...]:
        """The columns that identify a row before and after; empty if none do."""
        key = self.table.primary_key
        return key if key and has_unique_index(self.connection, self.table.relation, key) else ()

    def _lock_partitions(self) -> list[str]:
        """Keep moves out of the partitions whose cold generation comes back; return their keys."""
        rows = self.connection.execute(
            "select distinct partition_key, extract(epoch from lower_bound)::bigint,"
            " extract(epoch from upper_bound)::bigint from lakebed.load_superseded"
            " join lakebed.cold_file using (table_name, partition_key, generation)"
            " where load_id = any (%s) order by 1",
            [self._ids],
        ).fetchall()
        found = grain_mismatches(self.table, rows)
        if found:
            raise RollbackError(
                f"{self.table.name}: nothing was changed: "
                f"{describe_mismatch(self.table.require_partitioning.grain, found)}. "
                "Put that grain back into the table file first"
            )
        for key, _, _ in rows:
            window = window_for_key(self.table.require_partitioning.grain, key)
            move_lock(self.table.name, window).take(self.connection)
            check_grain(query_on(self.connection), self.table, window)
        return [key for key, _, _ in rows]

    def _gather(self) -> tuple[int, int]:
        """Gather the rows from before the loads; return how many rows of either kind to expect.

        A kept row that one of the loads had written itself is not from before them.
        """
        self.connection.execute(
            sql.SQL(
                "create temporary table {} on commit drop as select {}, xmin as {} from {} as hot"
                " limit 0"
            ).format(BEFORE, names(self.columns), sql.Identifier(WAS), target_of(self.table))
        )
        expected = before = 0
        for load in self.loads:
            expected += load.written
            if not load.kept:
                continue
            kept = self._count(undo_name(load.load_id), sql.SQL("true"))
            if kept != load.changed:
                raise RollbackError(
                    f"{self.table.name}: load {load.load_id} updated or deleted {load.changed} "
                    f"rows, of which {kept} are kept: the rest was erased since, or written by "
                    "another session at that moment, or lakebed_undo was changed; nothing was "
                    "changed. Restore from a backup"
                )
            own = sql.SQL("{} = any ({})").format(sql.Identifier(WAS), self._xids)
            expected -= self._count(undo_name(load.load_id), own)
            before += self._insert_before(load, own)
        self.connection.execute(sql.SQL("analyze {}").format(BEFORE))
        return expected, before

    def _insert_before(self, load: RollbackCandidate, own: sql.Composable) -> int:
        columns = names((*self.columns, WAS))
        try:
            return self.connection.execute(
                sql.SQL("insert into {} ({}) select {} from {} where not ({})").format(
                    BEFORE, columns, columns, undo_name(load.load_id), own
                )
            ).rowcount
        except psycopg.errors.UndefinedColumn as error:
            raise RollbackError(
                f"{self.table.name}: the table got columns since load {load.load_id} that its kept "
                "rows do not have; nothing was changed. Restore from a backup, or drop the columns"
            ) from error

    def _count(self, relation: sql.Composable, condition: sql.Composable) -> int:
        query = sql.SQL("select count(*) from {} where {}").format(relation, condition)
        return int(self.connection.execute(query).fetchall()[0][0])

    def _delete(self) -> int:
        """Delete the loads' rows, except those that get their old version back."""
        condition: sql.Composed = sql.SQL("hot.xmin = any ({})").format(self._xids)
        if self.key:
            # Rows that foreign keys refer to are updated, not deleted and inserted again.
            stays = sql.SQL("exists (select from {} as old where {})").format(
                BEFORE, same(self.key, "hot", "old")
            )
            condition = sql.SQL("{} and not {}").format(condition, stays)
        return self.connection.execute(
            sql.SQL("delete from {} as hot where {}").format(target_of(self.table), condition)
        ).rowcount

    def _restore_rows(self) -> tuple[int, int]:
        """Update and insert what was before, for each load that had written it; count both."""
        updated = inserted = 0
        for load_id, xids in self._origins():
            if load_id is None:
                self.written_as.add(self._xid())
                numbers = self._put_back_rows(xids)
            else:
                with self.connection.transaction():
                    self.written_as.add(enter_write(self.connection, load_id, 0, 0))
                    numbers = self._put_back_rows(xids)
            updated += numbers[0]
            inserted += numbers[1]
        return updated, inserted

    def _origins(self) -> list[tuple[str | None, list[str]]]:
        """Return which load wrote each old row, by their ids; None: unknown."""
        rows: list[tuple[str | None, list[str]]] = self.connection.execute(
            sql.SQL(
                "select load_id, array_agg(distinct old.xid) from"
                " (select distinct {}::text as xid from {}) as old left join ("
                " select w.xid, w.load_id from lakebed.load_write w join lakebed.load l"
                " using (load_id) where l.table_name = %s and l.rolled_back_at is null"
                " and w.xid = w.xmin::text and pg_current_xact_id()::text::numeric"
                " - w.xact::text::numeric < 2147483648) as known using (xid)"
                " group by load_id order by load_id"
            ).format(sql.Identifier(WAS), BEFORE),
            [self.table.name],
        ).fetchall()
        return rows

    def _put_back_rows(self, xids: Sequence[str]) -> tuple[int, int]:
        theirs = sql.SQL("old.{} = any ({})").format(sql.Identifier(WAS), _array(xids))
        missing: sql.Composable = sql.SQL("")
        updated = 0
        other_columns = [name for name in self.columns if name not in self.key]
        if self.key:
            updated = self.connection.execute(
                sql.SQL("update {} as hot set {} from {} as old where {} and {} and {}").format(
                    target_of(self.table),
                    sql.SQL(", ").join(
                        sql.SQL("{0} = old.{0}").format(sql.Identifier(name))
                        for name in other_columns or self.key
                    ),
                    BEFORE,
                    theirs,
                    same(self.key, "hot", "old"),
                    sql.SQL("hot.xmin = any ({})").format(self._xids),
                )
            ).rowcount
            missing = sql.SQL(" and not exists (select from {} as hot where {})").format(
                target_of(self.table), same(self.key, "hot", "old")
            )
        inserted = self.connection.execute(
            sql.SQL(
                "insert into {} ({}) overriding system value select {} from {} as old where {}{}"
            ).format(
                target_of(self.table),
                names(self.columns),
                names(self.columns),
                BEFORE,
                theirs,
                missing,
            )
        ).rowcount
        return updated, inserted

    def _xid(self) -> str:
        """The id that rows carry which are written outside of savepoints."""
        query = "select (pg_current_xact_id()::text::numeric % 4294967296)::bigint::text"
        return str(self.connection.execute(query).fetchall()[0][0])

    def _verify(self) -> None:
        """Compare the rows that were written back with the rows that were kept."""
        written = sql.SQL("{} where xmin = any ({})").format(
            target_of(self.table), _array(self.written_as)
        )
        found, kept = (
            read_fingerprint(
                self.table.columns,
                self.connection.execute(
                    fingerprint_query(self.table.columns, relation, "postgres")
                ).fetchall()[0],
            )
            for relation in (written, BEFORE)
        )
        wrong = found.differences(kept)
        if wrong:
            raise RollbackError(
                f"{self.table.name}: what would be put back is not what was kept "
                f"({'; '.join(wrong)}); nothing was changed. Look for triggers of the table"
            )

    def _revive(self) -> None:
        """Make the cold generations live again that were live before the first of the loads."""
        rows = self.connection.execute(
            "select distinct on (s.partition_key) s.partition_key, s.generation, f.path, f.bytes"
            " from lakebed.load_superseded s"
            " join lakebed.cold_file f using (table_name, partition_key, generation)"
            " join lakebed.load l on l.load_id = s.load_id"
            " where l.load_id = any (%s) order by s.partition_key, l.committed_at",
            [self._ids],
        ).fetchall()
        for key, generation, path, size in rows:
            if self.lake.size(path) != size:
                raise RollbackError(
                    f"{self.table.name} {key}: its cold file {self.lake.address(path)} is gone or "
                    "changed; nothing was changed. Bring the file back from a backup of the lake"
                )
            self.connection.execute(
                "update lakebed.cold_file set superseded_at = null where table_name = %s"
                " and partition_key = %s and generation = %s",
                [self.table.name, key, generation],
            )

    def _take_back_deletes(self) -> None:
        """Take the loads' tombstones back, and put those back that the loads had set aside."""
        entered = self.connection.execute(
            "select sum(cold_deletes) from lakebed.load where load_id = any (%s)", [self._ids]
        ).fetchall()[0][0]
        found = self.connection.execute(
            "delete from lakebed.cold_delete where load_id = any (%s)", [self._ids]
        ).rowcount
        aside = self.connection.execute(
            "with aside as (delete from lakebed.load_cold_delete where replaced_by = any (%(ids)s)"
            " returning *), back as (insert into lakebed.cold_delete overriding system value"
            " select cold_delete_id, table_name, key, moment, load_id, deleted_by, deleted_at"
            " from aside where load_id is null or load_id <> all (%(ids)s))"
            " select count(*) filter (where load_id = any (%(ids)s)) from aside",
            {"ids": self._ids},
        ).fetchall()[0][0]
        if found + aside != entered:
            raise RollbackError(
                f"{self.table.name}: of {entered} cold rows that the loads deleted, a move has "
                f"since removed {entered - found - aside} from their files; nothing was changed. "
                "Deliver the rows again, or restore from a backup (`lakebed backup list "
                f"{self.table.name}`)"
            )

    def _differs(self, expected: int, found: int) -> RollbackError:
        first = self.loads[-1]
        found_cold = self.connection.execute(
            "select distinct partition_key from lakebed.cold_file"
            " where table_name = %s and moved_at > %s order by 1",
            [self.table.name, first.committed_at],
        ).fetchall()
        moved = ", ".join(key for (key,) in found_cold[:NAMED])
        if len(found_cold) > NAMED:
            moved += f" and {len(found_cold) - NAMED} more"
        why = (
            f"these partitions were moved since: {moved}"
            if moved
            else "other sessions updated or deleted them since"
        )
        return RollbackError(
            f"{self.table.name}: of {expected} rows that the loads wrote, {found} are unchanged: "
            f"{why}. Nothing was changed. Deliver the rows again, or restore from a backup "
            f"(`lakebed backup list {self.table.name}`)"
        )


def _array(xids: set[str] | Sequence[str]) -> sql.Composable:
    return sql.SQL("{}::xid[]").format(sql.Literal("{" + ",".join(sorted(xids)) + "}"))
