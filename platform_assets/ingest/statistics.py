"""Planner statistics after a load: of what it changed much, and of nothing else.

ANALYZE of a partitioned table samples every leaf again, and autovacuum never looks at the parent.
So a load analyzes the leaves it wrote to and the parent alone, when it wrote a share of them that
autovacuum would call much.
"""

from __future__ import annotations

from collections.abc import Collection

from psycopg import sql

from platform_assets.catalog import SourceTable
from platform_assets.keys import leaf_name
from platform_assets.partitions import Window
from resources.postgres import Connection

MUCH = 0.1
ANALYZE_ONLY_VERSION = 180_000


def analyze(
    connection: Connection, table: SourceTable, windows: Collection[Window], written: int
) -> None:
    """Refresh the statistics of a table after so many rows were written in some windows.

    The connection must be in autocommit mode.
    """
    leaves = [leaf_name(table.name, window) for window in windows]
    for name in sorted(_of_which_much_is_new(connection, [*leaves, table.name], written)):
        only = connection.info.server_version >= ANALYZE_ONLY_VERSION and name == table.name
        statement = "analyze only {}" if only and leaves else "analyze {}"
        connection.execute(sql.SQL(statement).format(sql.Identifier("public", name)))


def _of_which_much_is_new(connection: Connection, names: list[str], written: int) -> list[str]:
    """Return those of the tables of which so many rows are a large share, or that are unknown."""
    rows = connection.execute(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace"
        " and relname = any (%s) and %s > %s * reltuples",
        [names, written, MUCH],
    ).fetchall()
    return [row[0] for row in rows]
