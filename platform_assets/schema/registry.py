"""Register tiered tables in PostgreSQL: the key and the time of their rows, and the policy.

`lakebed.delete_row`, `lakebed.request_move` and `lakebed.tier_status` need them, for clients
without the table file.
"""

from __future__ import annotations

from psycopg import sql

from lakebed.spec.table import SourceTable


def upsert_tiered_table(table: SourceTable) -> sql.Composed | None:
    """Return the statement that registers a table; it writes only if something changed.

    None for a table without tiering or without a key.
    """
    if table.tiering is None or not table.key:
        return None
    noted = sql.SQL("{}, {}::text[], {}, {}").format(
        table.name, sql.Literal(list(table.key)), table.require_partitioning.column, table.schema
    )
    return sql.SQL(
        "insert into lakebed.tiered_table (table_name, key_columns, time_column, schema_name)"
        " select {noted} where not exists (select from lakebed.tiered_table"
        " where (table_name, key_columns, time_column, schema_name) = ({noted}))"
        " on conflict (table_name) do update set key_columns = excluded.key_columns,"
        " time_column = excluded.time_column, schema_name = excluded.schema_name,"
        " noted_at = clock_timestamp()"
    ).format(noted=noted)


def withdraw_views(table: SourceTable) -> sql.Composed:
    """Return the statement that takes the views of DuckLake clients off a table.

    PostgreSQL alters no column that a view shows. The catalog is written again afterwards.
    """
    return sql.SQL("select lakebed.withdraw_client_views({})").format(sql.Literal(table.name))


def key_blocker_query(table: SourceTable) -> sql.Composed:
    """Return the query of why a table cannot have its key yet: one row, null where it can."""
    return sql.SQL("select lakebed.key_blocker({}, {}::text[]) as why").format(
        sql.Literal(table.name), sql.Literal(list(table.key))
    )


def upsert_policy(table: SourceTable) -> sql.Composed | None:
    """Return the statement that records when rows of a table are moved; it writes only changes.

    None for a table without tiering.
    """
    if table.tiering is None:
        return None
    noted = sql.SQL("{}, {}, {}, {}::interval, {}").format(
        table.name,
        table.require_partitioning.column,
        str(table.require_partitioning.grain),
        sql.Literal(table.tiering.hot_for),
        table.schema,
    )
    return sql.SQL(
        "insert into lakebed.tier_policy (table_name, time_column, grain, hot_for, schema_name)"
        " select {noted} where not exists (select from lakebed.tier_policy"
        " where (table_name, time_column, grain, hot_for, schema_name) = ({noted}))"
        " on conflict (table_name) do update set time_column = excluded.time_column,"
        " grain = excluded.grain, hot_for = excluded.hot_for,"
        " schema_name = excluded.schema_name"
    ).format(noted=noted)
