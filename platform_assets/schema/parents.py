"""Parents: the tables whose surrogate keys lookups give; made where missing, else compared.

A parent is any table with a uuid and a unique natural key; it need not be one of the catalogue's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import psycopg
from psycopg import sql

from lakebed.resources.postgres import Connection, change_schema
from lakebed.spec.policies import Surrogate
from lakebed.spec.schema import Column
from lakebed.spec.surrogates import made_by_postgres
from lakebed.spec.table import Lookup, SourceTable

SORTABLE_UUIDS = 180_000
"""The first server version that makes uuids which grow with time."""


def ensure_parent(connection: Connection, table: SourceTable, lookup: Lookup) -> None:
    """Make a parent of nothing but its keys, if it is missing. Raises LockWaitError."""
    there = connection.execute(
        "select to_regclass('public.' || quote_ident(%s)) is not null", [lookup.table]
    ).fetchall()[0][0]
    if there:
        return
    made = made_by_postgres(Surrogate(lookup.key, lookup.key_kind))
    if lookup.key_kind == "uuid" and connection.info.server_version >= SORTABLE_UUIDS:
        made = sql.SQL("default uuidv7()")
    contract = {column.name: column for column in table.contract}
    naturals = sql.SQL(", ").join(
        sql.SQL("{} {} not null").format(sql.Identifier(there), sql.SQL(contract[here].postgres))
        for here, there in zip(lookup.natural, lookup.natural_key, strict=True)
    )
    create = sql.SQL(
        "create table if not exists {} ({} {} primary key {}, {}, unique ({}))"
    ).format(
        sql.Identifier("public", lookup.table),
        sql.Identifier(lookup.key),
        sql.SQL(key_type(lookup)),
        made,
        naturals,
        _names(lookup.natural_key),
    )
    # A load of another table that looks up the same parent may be making it at this moment.
    with suppress(psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation):
        change_schema(connection, [create])


def key_type(lookup: Lookup) -> str:
    """Return the PostgreSQL type of the parent's surrogate."""
    return "uuid" if lookup.key_kind == "uuid" else "bigint"


def problem_of_file(parent: SourceTable, lookup: Lookup) -> str | None:
    """Say why a lookup and the table file of its parent do not fit, with the line to write."""
    surrogate = parent.surrogate
    if lookup.key not in parent.column_names:
        known = f", which is {surrogate.column!r}" if surrogate is not None else ""
        way = (
            f"write key={surrogate.column!r} in the lookup"
            if surrogate is not None
            else f"write surrogate=Surrogate({lookup.key!r}) in it"
        )
        return (
            f"the lookup of {lookup.column} needs the surrogate {lookup.key!r} of {lookup.table}, "
            f"and the table file of {lookup.table} declares no such one{known}: {way}"
        )
    if parent.column(lookup.key).postgres != key_type(lookup):
        kind = "uuid" if lookup.key_kind == "identity" else "identity"
        return (
            f"{lookup.table}.{lookup.key} is {parent.column(lookup.key).postgres}: write "
            f"key_kind={kind!r} in the lookup of {lookup.column}"
        )
    given = {lookup.key, *lookup.natural_key}
    needed = [c.name for c in parent.columns if not c.nullable and c.name not in given]
    if surrogate is not None and surrogate.column in needed:
        needed.remove(surrogate.column)
    if lookup.insert_missing and needed:
        return (
            f"a row of {lookup.table} cannot be made of {', '.join(lookup.natural_key)} alone, as "
            f"{needed[0]} may not be null: write insert_missing=False in the lookup of "
            f"{lookup.column}, and its rows wait until {lookup.table} is loaded"
        )
    return None


def foreign_key(lookup: Lookup) -> sql.Composed:
    """Return the constraint of the child."""
    return sql.SQL("foreign key ({}) references {} ({})").format(
        sql.Identifier(lookup.column),
        sql.Identifier("public", lookup.table),
        sql.Identifier(lookup.key),
    )


def differences_of_parent(connection: Connection, table: SourceTable, lookup: Lookup) -> list[str]:
    """Describe what the lookup needs and its parent does not have."""
    there: dict[str, tuple[str, bool]] = {
        name: (kind, has_default)
        for name, kind, has_default in connection.execute(
            "select attname::text, coalesce((select nspname || '.' || typname from pg_type t"
            " join pg_namespace n on n.oid = typnamespace"
            " where t.oid = atttypid and typtype = 'e'), format_type(atttypid, atttypmod)),"
            " atthasdef or attidentity <> '' from pg_attribute"
            " where attrelid = to_regclass('public.' || quote_ident(%s))"
            " and attnum > 0 and not attisdropped",
            [lookup.table],
        ).fetchall()
    }
    contract: dict[str, Column] = {column.name: column for column in table.contract}
    expected = {lookup.key: key_type(lookup)} | {
        other: contract[name].postgres
        for name, other in zip(lookup.natural, lookup.natural_key, strict=True)
    }
    wrong = []
    for name, kind in expected.items():
        found = there.get(name, ("missing", False))[0]
        if found != kind:
            wrong.append(f"column {name} of {lookup.table} is {found}, its lookup needs {kind}")
    for columns in ((lookup.key,), lookup.natural_key):
        if not wrong and not has_unique_index(
            connection, sql.Identifier("public", lookup.table), columns
        ):
            wrong.append(f"{lookup.table} needs a unique index on ({', '.join(columns)})")
    if lookup.insert_missing and not wrong and not there[lookup.key][1]:
        wrong.append(
            f"{lookup.table}.{lookup.key} has no default, so that no row can be inserted: "
            f"alter table {lookup.table} alter {lookup.key} set default gen_random_uuid()"
        )
    return wrong


def missing_foreign_key(connection: Connection, table: SourceTable, lookup: Lookup) -> list[str]:
    """Describe a child's missing foreign key to its parent; empty if it has one."""
    row = connection.execute(
        "select 1 from pg_constraint c join pg_attribute a"
        " on a.attrelid = c.conrelid and c.conkey = array[a.attnum]"
        " where c.contype = 'f' and c.conrelid = to_regclass('public.' || quote_ident(%s))"
        " and c.confrelid = to_regclass('public.' || quote_ident(%s)) and a.attname = %s",
        [table.name, lookup.table, lookup.column],
    ).fetchone()
    if row is not None:
        return []
    return [
        f"column {lookup.column} has no foreign key: alter table {table.name} add "
        f"{foreign_key(lookup).as_string(connection)}"
    ]


def has_unique_index(
    connection: Connection, table: sql.Identifier, columns: Sequence[str], *, or_fewer: bool = False
) -> bool:
    """Whether a table has a unique index on exactly these columns, in any order.

    or_fewer: an index on some of them is enough.
    """
    row = connection.execute(
        "select 1 from pg_index i where i.indrelid = to_regclass(%s)"
        " and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null"
        " and (select (case when %s then %s::text[] @> found else %s::text[] = found end) from"
        " (select array_agg(a.attname::text order by a.attname::text collate"
        ' "C") from pg_attribute a where a.attrelid = i.indrelid'
        " and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])) f (found))",
        [table.as_string(), or_fewer, sorted(columns), sorted(columns)],
    ).fetchone()
    return row is not None


def _names(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(name) for name in columns)
