"""What PostgreSQL is told of tables that settle: the key and the time column of their rows.

`lakebed.delete_row` needs them, which people call who have no table file at hand.
"""

from __future__ import annotations

from psycopg import sql

from platform_assets.catalog import SourceTable


def note_statement(table: SourceTable) -> sql.Composed | None:
    """Return the statement that notes a table, and writes only where that is new.

    None for a table whose rows do not settle or have no key.
    """
    if table.tiering is None or not table.key:
        return None
    noted = sql.SQL("{}, {}::text[], {}").format(
        table.name, sql.Literal(list(table.key)), table.partitioned.column
    )
    return sql.SQL(
        "insert into lakebed.tiered_table (table_name, key_columns, time_column) select {noted}"
        " where not exists (select from lakebed.tiered_table"
        " where (table_name, key_columns, time_column) = ({noted}))"
        " on conflict (table_name) do update set key_columns = excluded.key_columns,"
        " time_column = excluded.time_column, noted_at = clock_timestamp()"
    ).format(noted=noted)
