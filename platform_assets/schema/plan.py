"""The plan: what a table file would change in PostgreSQL, as SQL, and how it can be done.

Pure: from the table spec and PostgreSQL's catalog. The kinds of changes are in changes.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import LiteralString

from psycopg import sql

from lakebed.schema.changes import SMALL_BYTES as SMALL_BYTES
from lakebed.schema.changes import Change as Change
from lakebed.schema.changes import Found as Found
from lakebed.schema.changes import FoundColumn as FoundColumn
from lakebed.schema.changes import Plan as Plan
from lakebed.schema.changes import Safety as Safety
from lakebed.schema.ddl import create_statements, key_of, partition_table_statements, time_index
from lakebed.schema.evolved import evolved_column
from lakebed.schema.keys import (
    definition,
    is_surrogate,
    missing_references,
    missing_unique_keys,
    surrogate_changes,
)
from lakebed.schema.parents import foreign_key
from lakebed.spec.names import partition_table_name
from lakebed.spec.partitions import Window
from lakebed.spec.postgres_types import field_line, types_of, widening
from lakebed.spec.schema import Column
from lakebed.spec.table import Lookup, SourceTable


def plan_table(
    table: SourceTable,
    found: Found | None,
    windows: Iterable[Window] = (),
    tiering_blockers: Sequence[str] = (),
) -> Plan:
    """Compare a table with PostgreSQL's catalog.

    found: None if the table does not exist. table: with its evolved columns. windows: those that
    should have partition tables. tiering_blockers: what prevents its rows from being moved, and the
    fix.
    """
    fields = tuple(field_line(column) for column in table.evolved)
    if found is None and table.adopted:
        return Plan(table.name, (_not_there(table, tiering_blockers),))
    if found is None:
        make = Change("the table is missing", "instant", (tuple(create_statements(table)),))
        return Plan(table.name, (make, *_partition_tables(table, frozenset(), windows)), fields)
    planner = _Planner(table, found)
    changes = [_blocked(problem) for problem in tiering_blockers] + planner.changes()
    if found.require_partitioning and not table.adopted:
        changes += _partition_tables(table, found.partition_tables, windows)
    more = tuple(
        field_line(replace(evolved_column(c.name, c.kind, "", ""), description=c.comment or ""))
        for c in planner.unknown
        if types_of(c.kind) is not None
    )
    return Plan(table.name, tuple(changes), fields + more)


def _not_there(table: SourceTable, tiering_blockers: Sequence[str]) -> Change:
    why = (
        "; ".join(tiering_blockers)
        or "correct its name and schema, or wait until its owner creates it"
    )
    return Change(f"the table {table.place} to adopt does not exist", "refused", (), why=why)


def _blocked(problem: str) -> Change:
    return Change("its rows cannot be moved", "refused", (), why=problem)


class _Planner:
    """The comparison of one table that is there."""

    def __init__(self, table: SourceTable, found: Found) -> None:
        self.table = table
        self.found = found
        self.there = {column.name: column for column in found.columns}
        known = set(table.column_names)
        self.unknown = [column for column in found.columns if column.name not in known]

    def changes(self) -> list[Change]:
        wanted = self.table.columns
        missing = [c for c in wanted if c.name not in self.there]
        both = [(c, self.there[c.name]) for c in wanted if c.name in self.there]
        retyped = [(c, is_.kind) for c, is_ in both if is_.kind != c.postgres]
        return [
            *(self._add(column) for column in missing),
            *self._retype(retyped),
            *(self._let_be_null(c) for c, is_ in both if is_.not_null and c.nullable),
            *self._key(),
            *(self._refer(lookup) for lookup in missing_references(self.table, self.found)),
            *surrogate_changes(self.table, self.there),
            *(self._unique(names) for names in missing_unique_keys(self.table, self.found)),
            *(self._require(c) for c, is_ in both if not (is_.not_null or c.nullable)),
            *self._index(),
            *self._comments([c for c in wanted if c not in missing]),
            *(self._leave_alone(column) for column in self.unknown if self._in_the_way(column)),
        ]

    def _add(self, column: Column) -> Change:
        what = f"column {column.name} is missing ({column.postgres})"
        add = self._alter("add column {}", definition(self.table, column))
        if is_surrogate(self.table, column):
            lock = "no session reads or writes the table while each row gets its surrogate"
            return self._through_all_rows(what, add, (column.name,), lock)
        statements = (add, *self._comment_on(column)) if column.description else (add,)
        if column.nullable or not self.found.filled:
            return Change(what, "instant", (statements,), (column.name,))
        given = sql.SQL("{} default <value>").format(add)
        return Change(
            what,
            "refused",
            ((given,),),
            (column.name,),
            why="the existing rows have no value for it: declare it nullable=True, or add it "
            "yourself with a value for them",
        )

    def _retype(self, columns: Sequence[tuple[Column, str]]) -> list[Change]:
        """Change types: what rewrites the table in one statement, so that it does so once."""
        instant: list[Change] = []
        rewrite: list[tuple[Column, str]] = []
        refused: list[Change] = []
        for column, kind in columns:
            what = f"column {column.name} is {kind}, the contract says {column.postgres}"
            how = None if self._partitions(column) else widening(kind, column.postgres)
            if how == "instant":
                statement = self._alter("{}", self._type(column))
                instant.append(Change(what, "instant", ((statement,),), (column.name,)))
            elif how == "rewrite":
                rewrite.append((column, what))
            else:
                refused.append(self._refuse_type(column, kind, what))
        if rewrite:
            statement = self._alter(
                "{}", sql.SQL(", ").join(self._type(column) for column, _ in rewrite)
            )
            names = tuple(column.name for column, _ in rewrite)
            what = "; ".join(text for _, text in rewrite)
            lock = "no session reads or writes the table while its rows are rewritten"
            instant.append(self._through_all_rows(what, statement, names, lock))
        return instant + refused

    def _refuse_type(self, column: Column, kind: str, what: str) -> Change:
        using: LiteralString = "{name}::{kind}"
        if (kind, column.postgres) == ("timestamp without time zone", "timestamp with time zone"):
            using = "{name} at time zone 'UTC'"
        name, to = sql.Identifier(column.name), sql.SQL(column.postgres)
        statement = self._alter(
            "alter column {} type {} using {}",
            name,
            to,
            sql.SQL(using).format(name=name, kind=to),
        )
        why = (
            "it partitions the table, and PostgreSQL changes no such column: make another table"
            if self._partitions(column)
            else f"a {kind} may lose or change its value as {column.postgres}: declare the type "
            "that is there, or alter the table yourself when you know that its values fit"
        )
        steps = () if self._partitions(column) else ((statement,),)
        return Change(what, "refused", steps, (column.name,), why=why)

    def _let_be_null(self, column: Column) -> Change:
        what = f"column {column.name} is NOT NULL, the contract lets it be null"
        statement = self._alter("alter column {} drop not null", sql.Identifier(column.name))
        if column.name in self.found.primary_key:
            key = ", ".join(self.found.primary_key)
            return Change(
                what,
                "refused",
                (),
                (column.name,),
                why=f"it is in the primary key ({key}): declare it nullable=False",
            )
        return Change(what, "instant", ((statement,),), (column.name,))

    def _require(self, column: Column) -> Change:
        """SET NOT NULL through a constraint: the check of all rows blocks no session."""
        name = sql.Identifier(column.name)
        digest = hashlib.sha256(column.name.encode()).hexdigest()[:8]
        check = sql.Identifier(f"lakebed_not_null_{digest}")
        drop = self._alter("drop constraint {}", check)
        return Change(
            f"column {column.name} may be null, the contract says it may not",
            "checked",
            (
                (
                    self._alter("drop constraint if exists {}", check),
                    self._alter("add constraint {} check ({} is not null) not valid", check, name),
                ),
                (self._alter("validate constraint {}", check),),
                (self._alter("alter column {} set not null", name), drop),
            ),
            (column.name,),
            self.found.rows,
            self.found.bytes,
            "readers and writers go on while the rows are looked through",
        )

    def _key(self) -> list[Change]:
        key = self.table.primary_key
        sets = {frozenset(columns) for columns in (self.found.primary_key, *self.found.unique)}
        if not key or frozenset(key) in sets:
            return []
        if self.table.adopted and any(columns and columns <= frozenset(key) for columns in sets):
            return []  # uniqueness of some of its columns implies uniqueness of all
        what = f"the key ({', '.join(key)}) is missing"
        lock = "no session reads or writes the table while the key is built"
        if self.found.primary_key:
            statement = sql.SQL("create unique index on {} ({})").format(
                self._name, key_of(self.table)
            )
            lock = "no session writes to the table while the index is built"
        else:
            statement = self._alter("add primary key ({})", key_of(self.table))
        return [self._through_all_rows(what, statement, key, lock)]

    def _refer(self, lookup: Lookup) -> Change:
        what = f"column {lookup.column} has no foreign key to {lookup.table}"
        lock = f"no session writes to the table or to {lookup.table} while the rows are checked"
        statement = self._alter("add {}", foreign_key(lookup))
        return self._through_all_rows(what, statement, (lookup.column,), lock)

    def _unique(self, names: tuple[str, ...]) -> Change:
        statement = sql.SQL("create unique index on {} ({})").format(
            self._name, sql.SQL(", ").join(map(sql.Identifier, names))
        )
        what = f"the unique key ({', '.join(names)}) is missing"
        lock = "no session writes to the table while the index is built"
        return self._through_all_rows(what, statement, names, lock)

    def _index(self) -> list[Change]:
        by = self.table.partitioning
        if (
            by is None
            or self.table.key
            or self.found.time_indexed
            or not self.found.require_partitioning
        ):
            return []
        what = f"the index by {by.column} is missing"
        lock = "no session writes to the table while the index is built"
        return [self._through_all_rows(what, time_index(self.table), (by.column,), lock)]

    def _comments(self, columns: Sequence[Column]) -> list[Change]:
        changes = []
        if (self.found.comment or "") != self.table.description:
            statement = sql.SQL("comment on table {} is {}").format(
                self._name, sql.Literal(self.table.description)
            )
            changes.append(Change("the table's comment differs", "instant", ((statement,),)))
        for column in columns:
            if (self.there[column.name].comment or "") != column.description:
                what = f"the comment of column {column.name} differs"
                statements = tuple(self._comment_on(column))
                changes.append(Change(what, "instant", (statements,), (column.name,)))
        return changes

    def _in_the_way(self, column: FoundColumn) -> bool:
        """Whether a column outside of the contract prevents a load or a move."""
        return column.needed or self.table.tiering is not None

    def _leave_alone(self, column: FoundColumn) -> Change:
        name, needed = sql.Identifier(column.name), column.needed
        means = "loads cannot fill it" if needed else "loads leave it null"
        if self.table.tiering is not None:
            means += ", and partitions do not move"
        how_to_fix = (
            self._alter("alter column {} drop not null", name)
            if needed
            else self._alter("drop column {}", name)
        )
        return Change(
            f"column {column.name} ({column.kind}) is not in the contract",
            "refused",
            ((how_to_fix,),),
            (column.name,),
            why=f"{means}: a column is never dropped by itself. Declare it in the model, or alter "
            "the table yourself",
        )

    def _through_all_rows(
        self, what: str, statement: sql.Composed, columns: tuple[str, ...], lock: str
    ) -> Change:
        """Return a change that takes as long as the table is big."""
        found = self.found
        safety: Safety = "blocking"
        if found.bytes <= SMALL_BYTES:
            safety, lock = "instant", f"the table is small; for a moment {lock}"
        return Change(what, safety, ((statement,),), columns, found.rows, found.bytes, lock)

    def _partitions(self, column: Column) -> bool:
        by = self.table.partitioning
        return self.found.require_partitioning and by is not None and by.column == column.name

    def _type(self, column: Column) -> sql.Composed:
        return sql.SQL("alter column {} type {}").format(
            sql.Identifier(column.name), sql.SQL(column.postgres)
        )

    def _comment_on(self, column: Column) -> list[sql.Composed]:
        return [
            sql.SQL("comment on column {} is {}").format(
                sql.Identifier(self.table.schema, self.table.name, column.name),
                sql.Literal(column.description) if column.description else sql.NULL,
            )
        ]

    def _alter(self, action: LiteralString, *parts: sql.Composable) -> sql.Composed:
        return sql.SQL("alter table {} {}").format(self._name, sql.SQL(action).format(*parts))

    @property
    def _name(self) -> sql.Identifier:
        return self.table.relation


def _partition_tables(
    table: SourceTable, there: frozenset[str], windows: Iterable[Window]
) -> list[Change]:
    missing = tuple(
        w for w in sorted(set(windows)) if partition_table_name(table.name, w) not in there
    )
    if not missing:
        return []
    what = f"partition tables are missing: {', '.join(window.key for window in missing)}"
    steps = tuple(tuple(partition_table_statements(table, window)) for window in missing)
    return [Change(what, "instant", steps, partition_tables=missing)]
