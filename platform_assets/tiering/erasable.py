"""Whether an erasure can be complete: checked before it begins, and by both engines at its end.

hidden rows       row level security hides rows from the role that erases
unknown files     cold rows whose table file no longer declares their columns or partitions
letters           lower() of letters that the two engines map differently
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
from lakebed.tiering.literals import PredicateError
from lakebed.tiering.predicate import Predicate

_HIDING = ("secured", "privilege")


def check_erasable(connection: Connection, table: SourceTable) -> None:
    """Raise PredicateError if rows of the table would survive the erasure unnoticed."""
    cold = connection.execute(
        "select distinct partition_key, extract(epoch from lower_bound)::bigint,"
        " extract(epoch from upper_bound)::bigint from lakebed.cold_file"
        " where table_name = %s and removed_at is null order by 2, 3",
        [table.name],
    ).fetchall()
    if not relation_exists(connection, table):
        how = "run `lakebed apply`, then erase" if cold else "load it first"
        raise PredicateError(f"{table.name} does not exist in PostgreSQL; {how}")
    found = connection.execute(sql.SQL(TIERING_BLOCKERS_QUERY).format(table.oid)).fetchall()
    hiding = tiering_blockers(row for row in found if row[0] in _HIDING)
    if hiding:
        raise PredicateError(f"{table.name}: not all rows could be erased: {'; '.join(hiding)}")
    if cold and (table.tiering is None or table.partitioning is None):
        raise PredicateError(
            f"{table.name}: {len(cold)} partitions are cold, but its table file no longer "
            "declares partitioning and tiering; put that back, then erase"
        )
    other = grain_mismatches(table, cold) if cold else []
    if other:
        raise PredicateError(
            f"{table.name}: {describe_mismatch(table.require_partitioning.grain, other)}. "
            "Put the old grain back, then erase; where all has been restored since, "
            "`lakebed housekeep` removes the "
            "files when LAKEBED_FILE_GRACE is over"
        )


def disagreement(platform: Platform, table: SourceTable, predicate: Predicate) -> list[str]:
    """Report how many hot rows still match in DuckDB alone, in one snapshot.

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
