"""Surrogates and unique keys in PostgreSQL: how they are made, and which are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString

from psycopg import sql

from lakebed.resources.postgres import Connection
from lakebed.schema.changes import Change, Found, FoundColumn
from lakebed.schema.parents import has_unique_index
from lakebed.spec.schema import Column
from lakebed.spec.surrogates import made_by_postgres
from lakebed.spec.table import Lookup, SourceTable


def definition(table: SourceTable, column: Column) -> sql.Composed:
    """Return the definition of a column, with how PostgreSQL makes its values if it does."""
    made: sql.Composable = sql.SQL("")
    if table.surrogate is not None and table.surrogate.column == column.name:
        made = sql.SQL(" {}").format(made_by_postgres(table.surrogate))
    return sql.SQL("{} {}{}{}").format(
        sql.Identifier(column.name),
        sql.SQL(column.postgres),
        sql.SQL("" if column.nullable else " not null"),
        made,
    )


def needed_beside_the_contract(connection: Connection, table: SourceTable) -> list[str]:
    """Return the columns that a row must bring and that no load writes."""
    rows = connection.execute(
        "select attname::text from pg_attribute where attrelid = to_regclass(%s) and attnum > 0"
        " and not attisdropped and attnotnull and not atthasdef and attidentity = ''"
        " and attname <> all (%s) order by attnum",
        [table.relation.as_string(), list(table.column_names)],
    ).fetchall()
    return [name for (name,) in rows]


def differences_of_keys(connection: Connection, table: SourceTable) -> list[str]:
    """Describe what the surrogate needs, and which unique keys are missing."""
    wrong = [
        f"it needs a unique index on ({', '.join(names)})"
        for names in unique_keys(table)
        if not has_unique_index(connection, table.relation, names)
    ]
    if table.surrogate is not None:
        row = connection.execute(
            "select from pg_attribute where attrelid = to_regclass(%s) and attname = %s"
            " and (atthasdef or attidentity <> '')",
            [table.relation.as_string(), table.surrogate.column],
        ).fetchone()
        if row is None:
            wrong.append(f"the surrogate column {table.surrogate.column} needs a default")
    return wrong


def unique_keys(table: SourceTable) -> list[tuple[str, ...]]:
    """Return the unique keys of a table other than its primary key."""
    own = [(table.surrogate.column,)] if table.surrogate is not None else []
    return [*own, *table.unique]


def is_surrogate(table: SourceTable, column: Column) -> bool:
    """Whether a column of a table is its surrogate."""
    return table.surrogate is not None and table.surrogate.column == column.name


def missing_unique_keys(table: SourceTable, found: Found) -> list[tuple[str, ...]]:
    """Return the unique keys that are missing from a table in PostgreSQL."""
    sets = {frozenset(columns) for columns in (found.primary_key, *found.unique)}
    return [names for names in unique_keys(table) if frozenset(names) not in sets]


def missing_references(table: SourceTable, found: Found) -> list[Lookup]:
    """Return the lookups whose foreign key is missing from a table in PostgreSQL."""
    if found.references is None:
        return []
    return [one for one in table.lookups if (one.column, one.table) not in found.references]


def surrogate_changes(table: SourceTable, there: Mapping[str, FoundColumn]) -> list[Change]:
    """Return the change that lets PostgreSQL make the values of a surrogate without a default."""
    surrogate = table.surrogate
    column = there.get(surrogate.column) if surrogate is not None else None
    if surrogate is None or column is None or column.default:
        return []
    action: LiteralString = "alter table {} alter column {} set {}"
    if surrogate.kind == "identity":
        action = "alter table {} alter column {} add {}"
    name = sql.Identifier(surrogate.column)
    statement = sql.SQL(action).format(table.relation, name, made_by_postgres(surrogate))
    what = f"the surrogate column {surrogate.column} needs a default"
    return [Change(what, "instant", ((statement,),), (surrogate.column,))]
