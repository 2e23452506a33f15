"""Whether an erasure can be whole: looked at before it begins, and by both engines when it is done.

hidden rows       row level security keeps rows from the one who erases
unknown files     settled rows of which the table file does not know, or not by their windows
letters           lower() of letters that the two engines do not take alike
"""

from __future__ import annotations

from psycopg import sql

from lakebed.resources.layouts import ask
from lakebed.resources.postgres import Connection
from lakebed.resources.tiers import hot_scan
from lakebed.schema.ddl import relation_exists
from lakebed.schema.tiering_blockers import TIERING_BLOCKERS_QUERY, tiering_blockers
from lakebed.spec.table import SourceTable
from lakebed.store.grain_mismatch import describe_mismatch, grain_mismatches
from lakebed.store.platform import Platform, lake_table
from lakebed.tiering.predicate import Predicate, PredicateError

_HIDING = ("secured", "privilege")


def check_erasable(connection: Connection, table: SourceTable) -> None:
    """Raises PredicateError where rows of the table would be left, and nobody would notice."""
    settled = connection.execute(
        "select distinct partition_key, extract(epoch from lower_bound)::bigint,"
        " extract(epoch from upper_bound)::bigint from lakebed.cold_file"
        " where table_name = %s and removed_at is null order by 2, 3",
        [table.name],
    ).fetchall()
    if not relation_exists(connection, table):
        how = "`lakebed apply` makes it again; then erase" if settled else "load it first"
        raise PredicateError(f"{table.name} is not there; {how}")
    found = connection.execute(sql.SQL(TIERING_BLOCKERS_QUERY).format(table.oid)).fetchall()
    hiding = tiering_blockers(row for row in found if row[0] in _HIDING)
    if hiding:
        raise PredicateError(f"{table.name}: not all rows could be erased: {'; '.join(hiding)}")
    if settled and (table.tiering is None or table.partitioning is None):
        raise PredicateError(
            f"{table.name}: {len(settled)} partitions have settled, and its table file says no "
            "more how (partitioning, tiering); put that back, then erase"
        )
    other = grain_mismatches(table, settled) if settled else []
    if other:
        raise PredicateError(
            f"{table.name}: {describe_mismatch(table.require_partitioning.grain, other)}. "
            "Put the old grain back, then erase; where all has been restored since, "
            "`lakebed housekeep` removes the "
            "files when LAKEBED_FILE_GRACE is over"
        )


def disagreement(platform: Platform, table: SourceTable, predicate: Predicate) -> list[str]:
    """Say how many hot rows match in DuckDB alone, now that none should; one snapshot.

    PostgreSQL's lower() follows the locale of the database, DuckDB's does not.
    """
    if not predicate.lower:
        return []
    with platform.lake.attached(read_only=True) as connection:
        connection.execute("begin")
        query = sql.SQL("select count(*) as rows from {} where {}").format(
            table.relation, predicate.postgres
        )
        by_postgres = int(ask(connection, query)[0][0])
        scan = hot_scan(lake_table(table), table.column_names)
        by_duckdb = sql.SQL("select count(*) from {} where {}").format(scan, predicate.duckdb)
        ((found,),) = connection.execute(by_duckdb.as_string()).fetchall()
        connection.execute("rollback")
    if found <= by_postgres:
        return []
    return [
        f"{table.name}: {found - by_postgres:,} hot rows match in DuckDB and not in PostgreSQL, "
        "whose lower() follows the locale of the database; erase them with = or IN"
    ]
