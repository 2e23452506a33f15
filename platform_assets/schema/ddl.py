"""The contract as PostgreSQL tables: created where missing, compared where they are there.

Nothing is altered silently: a table that differs from its contract is refused with the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from lakebed.errors import LakebedError
from lakebed.resources.postgres import Connection, change_schema
from lakebed.schema.keys import (
    definition,
    differences_of_keys,
    needed_beside_the_contract,
    unique_keys,
)
from lakebed.schema.parents import (
    differences_of_parent,
    ensure_parent,
    foreign_key,
    has_unique_index,
    missing_foreign_key,
    problem_of_file,
)
from lakebed.schema.registry import key_blocker_query, upsert_policy, upsert_tiered_table
from lakebed.spec.columns import VALID_TO
from lakebed.spec.names import partition_table_name
from lakebed.spec.partitions import Window
from lakebed.spec.schema import Column
from lakebed.spec.table import Lookup, SourceTable

PARTITION_TABLES_AHEAD = 2
"""How many future partition tables are created with those that a load needs."""


_MADE_BY_ANOTHER = (
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UniqueViolation,
)
"""What PostgreSQL raises for the later of two sessions that create the same table or type."""


class DriftError(LakebedError, RuntimeError):
    """The table in PostgreSQL is not what its contract says; nothing was changed."""


def ensure_table(connection: Connection, table: SourceTable) -> None:
    """Make the table if it is missing; raise DriftError where it is there and differs.

    The connection must be in autocommit mode.
    """
    for column in table.contract:
        if column.types.labels and not table.adopted:
            _ensure_enum(connection, table, column)
    for lookup in table.lookups:
        _ensure_parent(connection, table, lookup)
        wrong = differences_of_parent(connection, table, lookup)
        if wrong:
            raise DriftError(f"table {table.place}: {'; '.join(wrong)}")
    if relation_exists(connection, table):
        check_drift(connection, table)
    elif table.adopted:
        raise DriftError(f"{table.place} is adopted and does not exist. Its owner creates it")
    else:
        try:
            change_schema(connection, create_statements(table))
        except _MADE_BY_ANOTHER:
            check_drift(connection, table)  # a load of another window made it in between
    if table.tiering is not None:
        ((why,),) = connection.execute(key_blocker_query(table)).fetchall()
        if why is not None:
            raise DriftError(f"table {table.place}: {why}")
    for note in (upsert_tiered_table(table), upsert_policy(table)):
        if note is not None:
            connection.execute(note)


def ensure_partition_tables(
    connection: Connection, table: SourceTable, windows: Iterable[Window]
) -> int:
    """Create the missing partition tables of these windows; return how many.

    Each is built as a separate table and attached, with locks that block no reader or writer. An
    adopted table gets no partition tables. The connection must be in autocommit mode. Raises
    LockWaitError, or DriftError if another table has the name, or a partition table of another
    grain overlaps.
    """
    if table.adopted or not is_partitioned(connection, table):
        return 0
    made = 0
    there = _partition_tables(connection, table)
    for window in sorted(set(windows)):
        partition_table = partition_table_name(table.name, window)
        if partition_table in there:
            continue
        try:
            change_schema(connection, partition_table_statements(table, window))
        except _MADE_BY_ANOTHER as error:
            if partition_table not in _partition_tables(connection, table):
                raise DriftError(
                    f"public.{partition_table} exists and is not a partition of "
                    f"{table.place}, which needs the name; rename it, or ATTACH it there"
                ) from error
        except psycopg.errors.InvalidObjectDefinition as error:
            raise DriftError(
                f"cannot create the partition table of {table.place} for {window.key}: "
                f"{error.diag.message_primary}. Partition tables keep the grain that they were "
                "created with: put that grain back into the table file, or drop the overlapping "
                "one once it is empty"
            ) from error
        else:
            made += 1
    return made


def lacks_partition_table(connection: Connection, table: SourceTable, window: Window) -> bool:
    """Return whether rows of a window are refused, as a partition table of ours is missing."""
    if table.adopted or not is_partitioned(connection, table):
        return False
    name = partition_table_name(table.name, window)
    return name not in _partition_tables(connection, table)


def ensure_upcoming_partition_tables(
    connection: Connection, table: SourceTable, now: datetime
) -> int:
    """Create the partition table of now and the next few, so that clients can write without a load.

    The connection must be in autocommit mode. Raises LockWaitError.
    """
    return ensure_partition_tables(connection, table, windows_ahead(table, now))


def windows_ahead(table: SourceTable, now: datetime) -> list[Window]:
    """Return the window of now and the next few; an adopted or unpartitioned table has none."""
    by = table.partitioning
    if by is None or table.adopted:
        return []
    windows = [table.window(now)]
    for _ in range(PARTITION_TABLES_AHEAD):
        windows.append(table.window(windows[-1].upper))
    end = by.end or windows[-1].upper
    return [window for window in windows if by.start <= window.lower < end]


def partition_table_statements(table: SourceTable, window: Window) -> list[sql.Composed]:
    """Return the statements that create a partition table and attach it."""
    names = {
        "partition": sql.Identifier(table.schema, partition_table_name(table.name, window)),
        "table": table.relation,
    }
    return [
        sql.SQL("create table {partition} (like {table} including all)").format(**names),
        sql.SQL(
            "alter table {table} attach partition {partition} for values from ({lower}) to "
            "({upper})"
        ).format(
            lower=sql.Literal(window.lower.isoformat()),
            upper=sql.Literal(window.upper.isoformat()),
            **names,
        ),
    ]


def relation_exists(connection: Connection, table: SourceTable) -> bool:
    """Whether the table is there, and is one."""
    row = connection.execute(
        "select 1 from pg_class where oid = to_regclass(%s) and relkind in ('r', 'p')",
        [table.relation.as_string()],
    ).fetchone()
    return row is not None


def is_partitioned(connection: Connection, table: SourceTable) -> bool:
    """Whether the table is there, and partitioned natively."""
    row = connection.execute(
        "select relkind = 'p' from pg_class where oid = to_regclass(%s)",
        [table.relation.as_string()],
    ).fetchone()
    return row is not None and bool(row[0])


HOLDS_NO_NULL = """\
(attnotnull and not exists (select from pg_constraint n
 where n.conrelid = attrelid and n.contype = 'n' and n.conkey = array[attnum]
   and not n.convalidated))"""
"""Whether no row of a column is null. From PostgreSQL 18 on NOT NULL ... NOT VALID lets old nulls
stay, and pg_attribute says NOT NULL all the same."""

COLUMNS_QUERY = f"""\
select
  attname::text as name,
  coalesce(
    (select nspname || '.' || typname
     from pg_type t join pg_namespace n on n.oid = typnamespace
     where t.oid = atttypid and typtype = 'e'),
    format_type(atttypid, atttypmod)) as kind,
  {HOLDS_NO_NULL} as attnotnull
from pg_attribute
where attrelid = to_regclass({{}})
  and attnum > 0 and not attisdropped
order by attnum"""  # noqa: S608
"""Name, type and NOT NULL of each column of a table; `SourceTable.oid` goes into the braces.

An enum's type is named with its schema, whatever the search path.
"""


def check_drift(connection: Connection, table: SourceTable) -> None:
    """Compare the table in PostgreSQL with its contract. Raises DriftError."""
    query = sql.SQL(COLUMNS_QUERY).format(table.oid)
    rows = connection.execute(query).fetchall()
    wrong = differences(table, rows)
    wrong += [
        f"column {name} is NOT NULL without a default, and not in the contract"
        for name in needed_beside_the_contract(connection, table)
    ]
    wrong += differences_of_keys(connection, table)
    key = table.primary_key
    if (
        table.write_mode != "append"
        and key
        and not has_unique_index(connection, table.relation, key)
    ):
        wrong.append(
            f"it needs a primary key or unique index on ({', '.join(key)}), which a "
            f"{table.write_mode} needs"
        )
    for lookup in table.lookups:
        wrong += missing_foreign_key(connection, table, lookup)
    if wrong:
        raise DriftError(
            f"table {table.place} differs from its contract: {'; '.join(wrong)}. "
            f"`lakebed plan {table.name}` shows the SQL that fixes it, `lakebed apply "
            f"{table.name}` runs it; or change the table file."
        )


def _ensure_parent(connection: Connection, table: SourceTable, lookup: Lookup) -> None:
    """Make a parent by its own table file, where it has one, else of nothing but its keys."""
    parent = table.parents.get(lookup.table)
    if parent is None:
        ensure_parent(connection, table, lookup)
        return
    problem = problem_of_file(parent, lookup)
    if problem is not None:
        raise DriftError(f"table {table.place}: {problem}")
    if any(other.table == table.name for other in parent.lookups):
        ensure_parent(connection, table, lookup)  # they look each other up: one begins with keys
    else:
        ensure_table(connection, parent)


def differences(table: SourceTable, rows: Sequence[Sequence[Any]]) -> list[str]:
    """Describe how the contract's columns differ from the rows of COLUMNS_QUERY."""
    there = {name: (kind, not_null) for name, kind, not_null in rows}
    wrong = []
    for column in table.columns:
        if column.name not in there:
            wrong.append(f"column {column.name} is missing ({column.postgres})")
            continue
        kind, not_null = there[column.name]
        if kind != column.postgres:
            wrong.append(f"column {column.name} is {kind}, the contract says {column.postgres}")
        elif not_null and column.nullable:
            wrong.append(f"column {column.name} is NOT NULL, the contract lets it be null")
    return wrong


def _ensure_enum(connection: Connection, table: SourceTable, column: Column) -> None:
    """Make the enum type of a column; raise DriftError where it is there with other labels.

    Several tables may share one. Labels are never added silently.
    """
    name = column.postgres.removeprefix("public.")
    labels = _labels(connection, name)
    if labels is None:
        create = sql.SQL("create type {} as enum ({})").format(
            sql.Identifier("public", name),
            sql.SQL(", ").join(sql.Literal(label) for label in column.types.labels),
        )
        try:
            change_schema(connection, [create])
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            # Another load made it in between, or it is another sort of type.
            labels = _labels(connection, name) or ()
        else:
            return
    if labels == column.types.labels:
        return
    missing = [label for label in column.types.labels if label not in labels]
    how_to_fix = (
        f"ALTER TYPE {column.postgres} ADD VALUE {sql.Literal(missing[0]).as_string(connection)}"
        if labels and missing and tuple(v for v in column.types.labels if v in labels) == labels
        else 'name another type with pa.Field(metadata={"postgres": "..."})'
    )
    raise DriftError(
        f"the type {column.postgres} of {table.name}.{column.name} has the labels "
        f"{', '.join(labels) or '(none: it is not an enum)'}, the contract says "
        f"{', '.join(column.types.labels)}, in this order. Change the table file, or: {how_to_fix}"
    )


def _labels(connection: Connection, name: str) -> tuple[str, ...] | None:
    """Return the labels of the enum public.<name> in their order, None if it does not exist."""
    rows = connection.execute(
        "select enumlabel::text from pg_enum join pg_type t on t.oid = enumtypid"
        " where typnamespace = 'public'::regnamespace and typname = %s order by enumsortorder",
        [name],
    ).fetchall()
    return tuple(row[0] for row in rows) or None


def _partition_tables(connection: Connection, table: SourceTable) -> set[str]:
    rows = connection.execute(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = to_regclass(%s)",
        [table.relation.as_string()],
    ).fetchall()
    return {row[0] for row in rows}


def create_statements(table: SourceTable) -> list[sql.Composed]:
    """Return the statements that make a table with its comments and what finds its rows."""
    name = table.relation
    parts: list[sql.Composable] = [definition(table, column) for column in table.columns]
    if table.primary_key:
        parts.append(sql.SQL("primary key ({})").format(key_of(table)))
    parts += [
        sql.SQL("unique ({})").format(sql.SQL(", ").join(map(sql.Identifier, names)))
        for names in unique_keys(table)
    ]
    parts += [foreign_key(lookup) for lookup in table.lookups]
    by: sql.Composable = sql.SQL("")
    if table.partitioning:
        by = sql.SQL(" partition by range ({})").format(sql.Identifier(table.partitioning.column))
    statements: list[sql.Composed] = [
        sql.SQL("create table if not exists {} ({}){}").format(name, sql.SQL(", ").join(parts), by),
        sql.SQL("comment on table {} is {}").format(name, sql.Literal(table.description)),
    ]
    statements += [
        sql.SQL("comment on column {} is {}").format(
            sql.Identifier(table.schema, table.name, column.name), sql.Literal(column.description)
        )
        for column in table.columns
        if column.description
    ]
    if table.write_mode == "history":
        # One version of a row is valid at a time; a load looks for that one.
        statements.append(
            sql.SQL("create unique index if not exists {} on {} ({}) where {} is null").format(
                sql.Identifier(f"{table.name}_holds"),
                name,
                sql.SQL(", ").join(sql.Identifier(column) for column in table.key),
                sql.Identifier(VALID_TO),
            )
        )
    if table.partitioning and not table.key:
        statements.append(time_index(table))
    return statements


def key_of(table: SourceTable) -> sql.Composed:
    """Return the names of the primary key's columns with commas between them."""
    return sql.SQL(", ").join(sql.Identifier(column) for column in table.primary_key)


def time_index(table: SourceTable) -> sql.Composed:
    """Return the statement that makes what a move and a reader of one window look for."""
    return sql.SQL("create index if not exists {} on {} using brin ({})").format(
        sql.Identifier(f"{table.name}_by_time"),
        table.relation,
        sql.Identifier(table.require_partitioning.column),
    )
