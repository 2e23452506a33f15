"""Refresh planner statistics after a load, only for tables that changed enough.

ANALYZE of a partitioned table samples every partition table again, and autovacuum never analyzes
the parent. So a load analyzes the partition tables that it wrote to, and the parent alone, when the
changed share of their rows exceeds autovacuum's default threshold.
"""

from __future__ import annotations

from collections.abc import Collection

from psycopg import sql

from lakebed.resources.postgres import Connection
from lakebed.spec.names import partition_table_name
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable

ANALYZE_CHANGE_FRACTION = 0.1
ANALYZE_ONLY_VERSION = 180_000


def analyze(
    connection: Connection, table: SourceTable, windows: Collection[Window], written: int
) -> None:
    """Refresh the statistics of a table after a load has written rows in some windows.

    The connection must be in autocommit mode.
    """
    partition_tables = [partition_table_name(table.name, window) for window in windows]
    for name in sorted(_changed_enough(connection, [*partition_tables, table.name], written)):
        only = connection.info.server_version >= ANALYZE_ONLY_VERSION and name == table.name
        statement = "analyze only {}" if only and partition_tables else "analyze {}"
        connection.execute(sql.SQL(statement).format(sql.Identifier("public", name)))


def _changed_enough(connection: Connection, names: list[str], written: int) -> list[str]:
    """Return the tables that have no statistics or of which a large share has changed.

    PostgreSQL does not count changes of a partitioned table: use the rows written now instead.
    """
    # A connection reports its changes on this call, or up to a minute later.
    connection.execute("select pg_stat_force_next_flush()")
    rows = connection.execute(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace"
        " and relname = any (%s) and (reltuples < 0 or %s * reltuples <"
        " case relkind when 'p' then %s else pg_stat_get_mod_since_analyze(oid) end)",
        [names, ANALYZE_CHANGE_FRACTION, written],
    ).fetchall()
    return [row[0] for row in rows]
