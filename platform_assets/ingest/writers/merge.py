"""Merge: the newest row of each key wins, in the load and against the table.

A row that would not change is not written. Rows marked as deleted delete the row of their key; a
full extract also deletes the rows that are missing from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
from psycopg import sql

from lakebed.ingest.cold_conflicts import (
    COLD,
    OVERRIDDEN,
    Merged,
    live_generations,
    may_touch_cold,
    merge_with_cold,
)
from lakebed.ingest.relatives import still_referenced
from lakebed.ingest.writers.missing import check_share, keep_rejected, missing_from
from lakebed.ingest.writers.stage import PLACE, Stage
from lakebed.ingest.writers.undo import RETURNING_OLD_NEW_VERSION, Undo
from lakebed.ingest.writers.writer import Counts, Writer, names, same, target_of
from lakebed.pgcopy.encoding import copy_rows
from lakebed.spec.columns import GONE
from lakebed.spec.table import SourceTable


class MergeWriter(Writer):
    """Lets the newest row of each key win, in the load and against the table."""

    @property
    def needs_files(self) -> bool:
        """As long as a doubled key may make it copy them again, into the stage."""
        return self.straight

    def begin(self) -> None:
        """Copy straight into the table where nothing can be met, else into the stage."""
        self.sent = self.arrived = self.held = 0
        self.copied: list[Path] = []
        plain = not self.table.lookups and self.table.marker is None
        self.straight = plain and self._is_empty() and not self._has_cold_rows()
        if self.straight:
            self.connection.execute("savepoint straight")
        else:
            self.stage = Stage(self.connection, self.table, self.load)

    def copy(self, parquet: Path) -> None:
        """Copy at the speed of an append; from the first repeated key on, use the stage."""
        if not self.straight:
            self.stage.copy(parquet)
            return
        self.copied.append(parquet)
        try:
            target = target_of(self.table)
            self.arrived += copy_rows(self.connection, target, self.wire, parquet)
            self.sent += pq.read_metadata(parquet).num_rows
        except psycopg.errors.UniqueViolation:
            self._go_by_the_stage()

    def finish(self) -> Counts:
        """Merge what is in the stage. Among equals the later in the files is newer."""
        if self.straight and self._has_cold_rows():
            self._go_by_the_stage()
        if self.straight:
            self.undo.wrote(self.arrived)
            return Counts(inserted=self.arrived, unchanged=self.sent - self.arrived)
        tells = self.connection.info.server_version >= RETURNING_OLD_NEW_VERSION
        plain = not self.table.lookups and self.table.marker is None
        rejected = self.stage.settle(joined=self.table.loads_whole or not (plain and tells))
        statement = merge_statement(
            self.table,
            self.stage.source,
            guarded=self._is_guarded,
            tells=tells,
            undo=self.undo if self.undo.keeps else None,
            cold_rows=COLD if self._may_touch_cold and self.table.loads_whole else None,
        )
        merged = self._run(statement, tells=tells)
        latest, marked, deleted, inserted, written = merged.result
        return Counts(
            inserted=inserted,
            updated=written - inserted,
            unchanged=latest - written,
            superseded=self.stage.rows - rejected - latest - marked,
            marked=marked,
            rejected=rejected,
            deleted=deleted + self.removed + merged.deleted,
            held=self.held,
        )

    def _run(self, statement: sql.Composed, *, tells: bool) -> Merged[tuple[int, ...]]:
        """Merge, without rows that are older than the cold row of their key."""

        def merge() -> tuple[int, ...]:
            if self.undo.keeps:
                self.undo.make()
                if not tells:
                    self._keep_what_changes()
            numbers = self.connection.execute(statement).fetchall()[0]
            _, _, deleted, inserted, written = numbers
            self.undo.wrote(written, changed=written - inserted + deleted)
            return tuple(numbers)

        def first() -> None:
            self.removed = self._remove_missing()

        if not self._may_touch_cold:
            first()
            return Merged(merge())
        return merge_with_cold(
            self.connection,
            self.table,
            self.stage.name,
            self.load.lake,
            self.windows,
            merge,
            first=first,
            undo=self.undo,
        )

    def _go_by_the_stage(self) -> None:
        """Take back what was copied straight into the table, and copy it into the stage."""
        self.connection.execute("rollback to savepoint straight")
        self.straight = False
        self.stage = Stage(self.connection, self.table, self.load)
        for path in self.copied:
            self.stage.copy(path)

    @property
    def _may_touch_cold(self) -> bool:
        """Whether a row may meet a cold one: be older, or say that it is gone."""
        return self._is_guarded and may_touch_cold(self.table)

    def _has_cold_rows(self) -> bool:
        """Whether there are cold rows that a row of the load may meet."""
        windows = None if self.table.loads_whole else self.windows
        return self._may_touch_cold and bool(live_generations(self.connection, self.table, windows))

    @property
    def _is_guarded(self) -> bool:
        """Whether a row must be at least as new as the one in the table."""
        return True

    def _remove_missing(self) -> int:
        """Delete rows that are missing from a full extract; return how many.

        Raises LoadConflictError.
        """
        deletes = self.table.deleting
        if deletes is None or not deletes.full_extract:
            return 0
        spared = keep_rejected(self.connection, self.table, self.load)
        total, removed = self._delete_missing(spared)
        missing = removed + self.held
        check_share(self.table, deletes.at_most, total, missing, self.stage.rows)
        return removed

    def _delete_missing(self, spared: sql.Identifier | None) -> tuple[int, int]:
        """Delete rows that are missing from the stage; return the total and the deleted number."""
        target = target_of(self.table)
        total = self.connection.execute(
            sql.SQL("select count(*) from {}").format(target)
        ).fetchall()[0][0]
        source = self.stage.source
        gone = self._unless_referenced(missing_from(self.table, source, spared))
        removed = self.undo.delete(gone)
        if self._may_touch_cold:
            total += self.connection.execute(
                sql.SQL("select count(*) from {} where not {}").format(COLD, OVERRIDDEN)
            ).fetchall()[0][0]
            missing = missing_from(self.table, source, spared, "cold")
            removed += self.undo.delete_cold(COLD, OVERRIDDEN, missing)
        return total, removed

    def _unless_referenced(self, missing: sql.Composable) -> sql.Composable:
        """Return the condition without rows that children hold, which stay until those are gone."""
        referenced = still_referenced(self.connection, self.table, "hot")
        if referenced is None:
            return missing
        query = sql.SQL("select count(*) from {} as hot where {} and {}").format(
            target_of(self.table), missing, referenced
        )
        self.held = self.connection.execute(query).fetchall()[0][0]
        if not self.held:
            return missing
        return sql.SQL("{} and not {}").format(missing, referenced)

    def _keep_what_changes(self) -> None:
        """Keep the rows that the merge will update, for servers that cannot return them later."""
        table = self.table
        others = [name for name in table.written_names if name not in table.key]
        if not others:
            return
        there = sql.SQL(" and not latest.{}").format(sql.Identifier(GONE))
        self.undo.keep(
            sql.SQL("latest join {} as hot on {} where ({}) is distinct from ({}){}{}").format(
                target_of(table),
                same(table.key, "hot", "latest"),
                _columns("hot", others),
                _columns("latest", others),
                _guard(_guarding(table, self._is_guarded), "latest"),
                there if table.marker is not None else sql.SQL(""),
            ),
            sql.SQL("with {} ").format(_latest(table, self.stage.source)),
        )

    def _is_empty(self) -> bool:
        """Whether the table has no row that the load could meet."""
        where: sql.Composable = sql.SQL("true")
        if self.windows and not self.table.loads_whole:
            where = sql.SQL(
                "{time} >= {lower}::timestamptz and {time} < {upper}::timestamptz"
            ).format(
                time=sql.Identifier(self.table.require_partitioning.column),
                lower=min(window.lower for window in self.windows).isoformat(),
                upper=max(window.upper for window in self.windows).isoformat(),
            )
        query = sql.SQL("select not exists (select from {} where {})").format(
            target_of(self.table), where
        )
        return bool(self.connection.execute(query).fetchall()[0][0])


def merge_statement(
    table: SourceTable,
    source: sql.Composable,
    *,
    guarded: bool,
    tells: bool,
    undo: Undo | None = None,
    cold_rows: sql.Identifier | None = None,
) -> sql.Composed:
    """Return the merge of the rows of a query.

    It answers with five numbers: the latest rows of a key that are there, those that are gone, rows
    deleted, rows inserted, rows inserted or updated.  guarded: a row older by cursor than the one
    in the table is skipped.  tells: the server's RETURNING has the old row (18 and later).  undo:
    keeps the deleted rows and, where the server returns them, the updated ones.  cold_rows: the
    cold rows for a full extract, of which equal ones stay cold.
    """
    guard = _guarding(table, guarded)
    marks = table.marker is not None
    there = sql.SQL(" where not {}").format(sql.Identifier(GONE)) if marks else sql.SQL("")
    parts: list[sql.Composable] = [_latest(table, source)]
    changed: sql.Composable = sql.SQL("latest{}").format(there)
    if table.loads_whole:
        # Most rows of an extract are the same, and a conflict locks its row even so.
        parts.append(_changes(table, cold_rows))
        changed = sql.SQL("changed")
    if not tells:
        parts.append(
            sql.SQL(
                "known as (select from (select * from {}) as latest join {} as hot on {})"
            ).format(changed, target_of(table), same(table.key, "hot", "latest"))
        )
    if marks:
        parts += _deletion(table, guard, undo)
    parts.append(
        sql.SQL(
            "written as (insert into {} as hot ({}) select {} from {}"
            " on conflict ({}) do {} returning {} as lakebed_inserted{})"
        ).format(
            target_of(table),
            names(table.written_names),
            names(table.written_names),
            changed,
            names(table.key),
            _action(table, guard),
            sql.SQL("old.{} is null").format(sql.Identifier(table.key[0]))
            if tells
            else sql.SQL("null::boolean"),
            sql.SQL(", {}").format(undo.old("old")) if undo and tells else sql.SQL(""),
        )
    )
    if undo and tells:
        parts.append(
            sql.SQL(
                "kept as (insert into {} select {} from written where not lakebed_inserted)"
            ).format(undo.name, undo.kept)
        )
    here = sql.SQL("(select count(*) from latest{})").format(there)
    return sql.SQL("with {} select {}, {}, {}, {}, count(*) from written").format(
        sql.SQL(", ").join(parts),
        here,
        sql.SQL("(select count(*) from latest where {})").format(sql.Identifier(GONE))
        if marks
        else sql.SQL("0"),
        sql.SQL("(select count(*) from deleted)") if marks else sql.SQL("0"),
        sql.SQL("count(*) filter (where lakebed_inserted)")
        if tells
        else sql.SQL("(select count(*) from {}) - (select count(*) from known)").format(changed),
    )


def _action(table: SourceTable, guard: str | None) -> sql.Composable:
    """Return what is done where the key is there: the update of a row that differs."""
    others = [name for name in table.written_names if name not in table.key]
    if not others:
        return sql.SQL("nothing")
    # Byte by byte: 0.0 and -0.0, 1.0 and 1.00 are distinct, and json has no equality at all.
    return sql.SQL("update set {} where row({})::record *<> row({})::record{}").format(
        sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others
        ),
        _columns("hot", others),
        _columns("excluded", others),
        _guard(guard, "excluded"),
    )


def _changes(table: SourceTable, cold_rows: sql.Identifier | None) -> sql.Composable:
    """Return the rows of an extract that differ from the table's, hot or cold."""
    changes = sql.SQL(
        "changed as (select latest.* from latest left join {} as hot on {}"
        " where row({})::record *<> row({})::record{})"
    )
    cold: sql.Composable = sql.SQL("")
    if cold_rows is not None:
        cold = sql.SQL(
            " and not exists (select from {} as cold where not cold.{} and {}"
            " and row({})::record *= row({})::record)"
        ).format(
            cold_rows,
            OVERRIDDEN,
            same(table.key, "cold", "latest"),
            _columns("cold", table.written_names),
            _columns("latest", table.written_names),
        )
    return changes.format(
        target_of(table),
        same(table.key, "hot", "latest"),
        _columns("latest", table.written_names),
        _columns("hot", table.written_names),
        cold,
    )


def _latest(table: SourceTable, source: sql.Composable) -> sql.Composable:
    order: list[sql.Composable] = [*map(sql.Identifier, table.key)]
    cursor = _guarding(table, True)
    if cursor is not None:
        order.append(sql.SQL("{} desc").format(sql.Identifier(cursor)))
    order.append(sql.SQL("{} desc").format(sql.Identifier(PLACE)))
    return sql.SQL("latest as (select distinct on ({}) * from ({}) as rows order by {})").format(
        names(table.key), source, sql.SQL(", ").join(order)
    )


def _deletion(table: SourceTable, guard: str | None, undo: Undo | None) -> list[sql.Composable]:
    deleted = sql.SQL(
        "deleted as (delete from {} as hot using latest where latest.{} and {}{} returning {})"
    ).format(
        target_of(table),
        sql.Identifier(GONE),
        same(table.key, "hot", "latest"),
        _guard(guard, "latest"),
        undo.old("hot") if undo else sql.SQL("1"),
    )
    if not undo:
        return [deleted]
    keep = sql.SQL("kept_deleted as (insert into {} select * from deleted)").format(undo.name)
    return [deleted, keep]


def _guarding(table: SourceTable, guarded: bool) -> str | None:
    """Return the cursor that decides which of two rows of a key is newer."""
    return table.cursor if guarded and table.cursor not in table.key else None


def _guard(cursor: str | None, newer: str) -> sql.Composable:
    if cursor is None:
        return sql.SQL("")
    return sql.SQL(" and {} >= {}").format(
        sql.Identifier(newer, cursor), sql.Identifier("hot", cursor)
    )


def _columns(relation: str, columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(relation, name) for name in columns)
