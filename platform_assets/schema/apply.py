"""Applying a plan: read PostgreSQL's definition of a table, and make the changes, in short locks.

All changes of a table are one transaction, except for two that cannot be: the check of all rows
before a SET NOT NULL, and partition tables. Every statement waits briefly for its lock, and
retries; if it does not get the lock in the end, its transaction has changed nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import psycopg
from psycopg import sql

from lakebed.errors import LakebedError
from lakebed.resources.postgres import Connection, LockWaitError, change_schema
from lakebed.schema.ddl import COLUMNS_QUERY, ensure_partition_tables, windows_ahead
from lakebed.schema.evolved import effective
from lakebed.schema.plan import Change, Found, FoundColumn, Plan, plan_table
from lakebed.schema.registry import withdraw_views
from lakebed.schema.tiering_blockers import read_tiering_blockers
from lakebed.spec.table import SourceTable
from lakebed.store.grain_mismatch import (
    describe_mismatch,
    find_grain_mismatches,
    how_to_fix,
    query_on,
)
from lakebed.store.locks import loading
from lakebed.store.orphaned_partitions import (
    DECLARE_OR_RESTORE,
    describe_orphaned_partitions,
    find_orphaned_partitions,
)

_CHANGES_TYPE = re.compile("alter column .* type ")


class ApplyError(LakebedError, RuntimeError):
    """A change that PostgreSQL refused, or that could not begin; the text says what was done."""


def read_plan(connection: Connection, table: SourceTable, now: datetime) -> Plan:
    """Return what `apply_plan` would change in a table. The connection is in autocommit mode."""
    whole = effective(connection, table)
    found, windows = read_found(connection, table), windows_ahead(table, now)
    problems = [*read_tiering_blockers(connection, table), *_settled_otherwise(connection, table)]
    return plan_table(whole, found, windows, problems)


def _settled_otherwise(connection: Connection, table: SourceTable) -> list[str]:
    """Return the problem if the table file no longer declares the grain of cold rows."""
    ask = query_on(connection)
    if keys := find_orphaned_partitions(ask, table):
        return [f"{describe_orphaned_partitions(keys)}. {DECLARE_OR_RESTORE}"]
    if table.tiering is None:
        return []
    found = find_grain_mismatches(ask, table)
    mismatch = describe_mismatch(table.require_partitioning.grain, found)
    return [f"{mismatch}. {how_to_fix(table.name, found)}"] if found else []


def apply_plan(
    connection: Connection,
    table: SourceTable,
    plan: Plan,
    now: datetime,
    *,
    blocking: bool = False,
    attempts: int = 40,
    on_change: Callable[[Change], None] = lambda change: None,
) -> list[Change]:
    """Make the allowed changes of the plan; return the changes that were made.

    plan: as it was shown; changes that another session has made since are skipped. blocking: make
    changes that lock the table for long, too. The connection must be in autocommit mode. Raises
    ApplyError, LockWaitError, LoadBusyError; their texts list the changes made before.
    """
    with loading(connection, table):
        current = read_plan(connection, table, now)
        changes = current.doable(blocking=blocking)
        shown = {(change.what, *change.sql) for change in plan.changes}
        if any((change.what, *change.sql) not in shown for change in changes):
            raise ApplyError(
                f"{table.name}: the table was changed since the plan was made; nothing was "
                f"changed. Run `lakebed plan {table.name}` again"
            )
        done: list[Change] = []
        try:
            for change in _run(connection, table, changes, attempts):
                done.append(change)
                on_change(change)
        except LockWaitError as error:
            raise LockWaitError(f"{table.name}: {_done(done)}. {error}") from error
        except psycopg.Error as error:
            reason = str(error).strip().splitlines()[0]
            raise ApplyError(
                f"{table.name}: {_done(done)}. PostgreSQL refuses: {reason}"
            ) from error
    return done


def _run(
    connection: Connection, table: SourceTable, changes: Sequence[Change], attempts: int
) -> Iterator[Change]:
    """Yield each change once all of it is committed."""
    ours = [change for change in changes if not change.partition_tables]
    first = [statement for change in ours for statement in change.steps[0]]
    if any(_CHANGES_TYPE.search(statement.as_string()) for statement in first):
        first = [withdraw_views(table), *first]
    if first:
        change_schema(connection, first, attempts=attempts)
    yield from (change for change in ours if len(change.steps) == 1)
    for change in ours:
        if len(change.steps) > 1:
            _require(connection, table, change, attempts)
            yield change
    if any(change.bytes and change.safety != "checked" for change in ours):
        # The statistics of a column go with its old type.
        connection.execute(sql.SQL("analyze {}").format(table.relation))
    for change in changes:
        if change.partition_tables:
            ensure_partition_tables(connection, table, change.partition_tables)
            yield change


def _require(connection: Connection, table: SourceTable, change: Change, attempts: int) -> None:
    """Look through the rows, then set NOT NULL; take the constraint away where one is null."""
    undo, _ = change.steps[0]
    for step in change.steps[1:]:
        try:
            change_schema(connection, step, attempts=attempts)
        except psycopg.errors.CheckViolation as error:
            change_schema(connection, [undo], attempts=attempts)
            name, column = table.relation, change.columns[0]
            query = sql.SQL("select count(*) from {} where {} is null").format(
                name, sql.Identifier(column)
            )
            rows = connection.execute(query).fetchall()[0][0]
            raise ApplyError(
                f"{table.name}: column {column} is null in {rows} rows, so it stays nullable. Fill "
                "them, or declare the column nullable=True. All other changes are done"
            ) from error
        except LockWaitError as error:
            raise ApplyError(
                f"{table.name}: other sessions locked the table, so column {change.columns[0]} is "
                f"not yet NOT NULL. Run `lakebed apply {table.name}` again; it continues from "
                f"there. {error}"
            ) from error


def read_found(connection: Connection, table: SourceTable) -> Found | None:
    """Read a table from PostgreSQL's catalog; None if it does not exist."""
    top = connection.execute(
        "select c.oid, c.relkind = 'p', obj_description(c.oid, 'pg_class') from pg_class c"
        " where c.oid = to_regclass(%s) and c.relkind in ('r', 'p')",
        [table.relation.as_string()],
    ).fetchone()
    if top is None:
        return None
    oid, require_partitioning, comment = top
    primary, unique, first = unique_indexes(connection, oid)
    partition_tables, rows, size = connection.execute(
        "select coalesce(array_agg(c.relname::text) filter (where c.oid <> %(oid)s), '{}'),"
        " coalesce(sum(greatest(c.reltuples, 0)) filter (where c.relkind = 'r'), 0)::bigint,"
        " coalesce(sum(pg_table_size(c.oid)), 0)::bigint"
        " from pg_class c where c.oid = %(oid)s"
        " or c.oid in (select inhrelid from pg_inherits where inhparent = %(oid)s)",
        {"oid": oid},
    ).fetchall()[0]
    by = table.partitioning
    return Found(
        columns=_columns(connection, table),
        comment=comment,
        primary_key=primary,
        unique=unique,
        references=_references(connection, table),
        require_partitioning=require_partitioning,
        time_indexed=by is not None and by.column in first,
        partition_tables=frozenset(partition_tables),
        filled=_filled(connection, table),
        rows=rows,
        bytes=size,
    )


def _columns(connection: Connection, table: SourceTable) -> tuple[FoundColumn, ...]:
    query = sql.SQL(
        "select name, kind, c.attnotnull, col_description(a.attrelid, a.attnum),"
        " a.atthasdef or a.attidentity <> ''"
        " from ({}) c join pg_attribute a on a.attname = c.name"
        " and a.attrelid = to_regclass({}) order by a.attnum"
    ).format(sql.SQL(COLUMNS_QUERY).format(table.oid), table.oid)
    return tuple(FoundColumn(*row) for row in connection.execute(query).fetchall())


def _references(connection: Connection, table: SourceTable) -> frozenset[tuple[str, str]]:
    rows = connection.execute(
        "select a.attname::text, p.relname::text from pg_constraint c"
        " join pg_attribute a on a.attrelid = c.conrelid and c.conkey = array[a.attnum]"
        " join pg_class p on p.oid = c.confrelid"
        " where c.contype = 'f' and c.conrelid = to_regclass(%s)",
        [table.relation.as_string()],
    ).fetchall()
    return frozenset((column, parent) for column, parent in rows)


def unique_indexes(
    connection: Connection, oid: int
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], set[str]]:
    """Return the primary key, the columns of each unique index, the first column of any index."""
    rows = connection.execute(
        "select i.indisprimary, i.indisunique and i.indpred is null and i.indexprs is null,"
        " array_agg(a.attname::text order by k.position)"
        " from pg_index i, unnest((i.indkey::int2[])[0:i.indnkeyatts - 1])"
        " with ordinality k (number, position)"
        " join pg_attribute a on a.attnum = k.number"
        " where i.indrelid = %(oid)s and i.indisvalid and a.attrelid = %(oid)s"
        " group by i.indexrelid, i.indisprimary, 2",
        {"oid": oid},
    ).fetchall()
    primary = next((tuple(columns) for is_primary, _, columns in rows if is_primary), ())
    unique = tuple(tuple(columns) for _, is_unique, columns in rows if is_unique)
    return primary, unique, {columns[0] for _, _, columns in rows}


def _filled(connection: Connection, table: SourceTable) -> bool:
    query = sql.SQL(
        "select exists (select from {}) or exists (select from lakebed.cold_file"
        " where table_name = {} and superseded_at is null)"
    ).format(table.relation, sql.Literal(table.name))
    return bool(connection.execute(query).fetchall()[0][0])


def _done(done: Sequence[Change]) -> str:
    if not done:
        return "nothing was changed"
    return f"{len(done)} changes were made (the last: {done[-1].what}), the rest were not"
