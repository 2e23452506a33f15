"""Erasing outside of cold partitions, and finding partitions that are due: in one snapshot.

    due        partitions with a generation that has not been erased yet: then nothing else is done
    hot        rows that match and have no file; a hot row that overrides a cold row belongs to its
               partition's transaction
    undo       rows that loads keep for a rollback
    rejected   the quarantine
    tombstones of keys that match, once all partitions are done: they hide nothing any more
    left       partitions that received new hot rows that match: due once more

The transaction is REPEATABLE READ. If a move, a restore or a load takes a row elsewhere at the same
time, its delete or this one fails, and the erasure retries. So if it commits and nothing is due,
its snapshot showed all rows that matched, in every place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import psycopg
from psycopg import sql

from lakebed.errors import TieringError
from lakebed.resources.postgres import LOCK_TIMEOUT, Connection
from lakebed.resources.retries import retrying
from lakebed.spec.partitions import Window, window_for_key
from lakebed.spec.table import SourceTable
from lakebed.store.rejects import line_key
from lakebed.store.undo_tables import undo_name
from lakebed.tiering.predicate import Predicate

ATTEMPTS = 3
"""The least number of attempts, however little time there is."""

TOMBSTONES = ("cold_delete", "load_cold_delete", "backup_cold_delete")
"""Where keys of deleted rows are: open, set aside by a load, and as a backup found them."""

_REJECTED = sql.Identifier("lakebed", "rejected_row")
_CONTENDED = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UndefinedTable,  # what a load kept, and a rollback put back
)


def erase_rest(
    connection: Connection,
    table: SourceTable,
    predicate: Predicate,
    number: int,
    done: Mapping[str, int],
    failed: Collection[str],
    *,
    seconds: float,
) -> list[Window]:
    """Erase outside of cold partitions; return the partitions that are due, none if all is done.

    done: by partition, the generation up to which was erased. failed: partitions that are left
    alone. It waits only briefly for a row, so that no session queues behind it, and retries for
    some seconds. Raises TieringError if other sessions kept changing or locking the rows, or a
    trigger keeps them.
    """

    def attempt() -> list[Window]:
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            connection.execute(
                sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
            )
            return _in_snapshot(connection, table, predicate, number, done, failed)

    retries = retrying(ATTEMPTS, _CONTENDED, first=0.2, longest=1.0, seconds=seconds)
    try:
        return retries(attempt)
    except _CONTENDED as error:
        raise TieringError(
            f"{table.name}: rows that match were changed or held during each of "
            f"{retries.statistics['attempt_number']} attempts; those outside of cold partitions "
            "were not erased. Run it again when the writers have ended"
        ) from error


def _in_snapshot(
    connection: Connection,
    table: SourceTable,
    predicate: Predicate,
    number: int,
    done: Mapping[str, int],
    failed: Collection[str],
) -> list[Window]:
    settles = table.tiering is not None and table.partitioning is not None
    due = _not_done(connection, table, done, failed) if settles else []
    if due:
        return _windows(table, due)
    hot = _delete(connection, table.relation, _of_no_file(table, predicate, settles=settles))
    undo = sum(
        _delete(connection, name, predicate.postgres)
        for name in undo_tables(connection, table, predicate)
    )
    rejected = _delete(connection, _REJECTED, _rejected(table, predicate))
    connection.execute(
        "update lakebed.erasure set hot_rows = hot_rows + %s, undo_rows = undo_rows + %s,"
        " rejected_rows = rejected_rows + %s where erasure_id = %s",
        [hot, undo, rejected, number],
    )
    left = _left(connection, table, predicate, failed, settles=settles)
    if not left and not failed and searches_tombstones(table, predicate):
        for name in TOMBSTONES:
            _delete(connection, _tombstones(name), _of_keys(table, predicate))
    return _windows(table, left)


def count_rest(connection: Connection, table: SourceTable, predicate: Predicate) -> tuple[int, int]:
    """Return how many rows match of what loads keep, and of the quarantine."""
    undo = sum(
        count(connection, name, predicate.postgres)
        for name in undo_tables(connection, table, predicate)
    )
    return undo, count(connection, _REJECTED, _rejected(table, predicate))


def count_unsearched_lines(connection: Connection, table: SourceTable, predicate: Predicate) -> int:
    """Return how many quarantined lines are not rows, so that the predicate cannot be evaluated."""
    if predicate.line is not None:
        return 0
    where = sql.SQL("table_name = {} and {}").format(sql.Literal(table.name), _is_line(table))
    return count(connection, _REJECTED, where)


def count(connection: Connection, relation: sql.Identifier, where: sql.Composable) -> int:
    """Return how many rows of a relation match."""
    query = sql.SQL("select count(*) from {} where {}").format(relation, where)
    return int(connection.execute(query).fetchall()[0][0])


def undo_tables(
    connection: Connection, table: SourceTable, predicate: Predicate
) -> list[sql.Identifier]:
    """Return what loads of the table keep for a rollback, where the predicate can be asked."""
    return [
        undo_name(load_id)
        for load_id, columns in kept_by_loads(connection, table)
        if predicate.columns <= set(columns)
    ]


def kept_by_loads(connection: Connection, table: SourceTable) -> list[tuple[str, list[str]]]:
    """Return the loads of the table that keep rows for a rollback, and the columns of those."""
    return connection.execute(
        "select l.load_id, array_agg(a.attname::text) from lakebed.load l"
        " join pg_class c on c.relname = l.load_id"
        " and c.relnamespace = 'lakebed_undo'::regnamespace"
        " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " where l.table_name = %s group by 1 order by 1",
        [table.name],
    ).fetchall()


def searches_tombstones(table: SourceTable, predicate: Predicate) -> bool:
    """Whether the predicate can be asked of the keys of deleted rows."""
    return predicate.columns <= set(table.key)


def count_tombstones(connection: Connection, table: SourceTable) -> int:
    """Return how many keys of deleted rows of the table are kept, in all places."""
    of_table = sql.SQL("table_name = {}").format(sql.Literal(table.name))
    return sum(count(connection, _tombstones(name), of_table) for name in TOMBSTONES)


def _not_done(
    connection: Connection, table: SourceTable, done: Mapping[str, int], failed: Collection[str]
) -> list[str]:
    """Return the partitions with a file, live or older, that was made since they were done."""
    rows = connection.execute(
        "select partition_key, max(generation) from lakebed.cold_file"
        " where table_name = %s and removed_at is null group by 1 order by 1",
        [table.name],
    ).fetchall()
    return [key for key, last in rows if key not in failed and last > done.get(key, 0)]


def _of_no_file(table: SourceTable, predicate: Predicate, *, settles: bool) -> sql.Composable:
    if not settles:
        return predicate.postgres
    return sql.SQL(
        "({predicate}) and not ({time} <@ coalesce((select range_agg(tstzrange("
        "lower_bound, upper_bound)) from lakebed.cold_file where table_name = {name}"
        " and removed_at is null), '{{}}'))"
    ).format(
        predicate=predicate.postgres,
        time=sql.Identifier(table.require_partitioning.column),
        name=sql.Literal(table.name),
    )


def _left(
    connection: Connection,
    table: SourceTable,
    predicate: Predicate,
    failed: Collection[str],
    *,
    settles: bool,
) -> list[str]:
    """Return the partitions with a file that have hot rows which match.

    Raises TieringError if such a row is in no partition with a file: a trigger kept it.
    """
    query = sql.SQL("select null from {} where {} limit 1").format(
        table.relation, predicate.postgres
    )
    if settles:
        query = sql.SQL(
            "with file as (select distinct partition_key, lower_bound, upper_bound"
            " from lakebed.cold_file where table_name = {name} and removed_at is null)"
            " select distinct partition_key from (select {time} as moment from {hot}"
            " where ({predicate}) and not ({time} <@ coalesce((select range_agg("
            "tstzrange(lower_bound, upper_bound)) from file where partition_key = any({failed})),"
            " '{{}}'))) h left join file on moment >= lower_bound and moment < upper_bound"
            " order by 1"
        ).format(
            name=sql.Literal(table.name),
            time=sql.Identifier(table.require_partitioning.column),
            hot=table.relation,
            predicate=predicate.postgres,
            failed=sql.Literal(sorted(failed)),
        )
    left = [key for (key,) in connection.execute(query).fetchall()]
    if None in left:
        raise TieringError(
            f"{table.name}: rows were not deleted, by a trigger or a policy of the table; what is "
            "outside of cold partitions was not erased"
        )
    return left


def _windows(table: SourceTable, keys: Collection[str]) -> list[Window]:
    return [window_for_key(table.require_partitioning.grain, key) for key in keys]


def _rejected(table: SourceTable, predicate: Predicate) -> sql.Composable:
    """Return the condition of matching rejects: a line has no columns, so each would be null."""
    no = sql.SQL("false")
    return sql.SQL("table_name = {} and case when {} then {} else {} end").format(
        sql.Literal(table.name), _is_line(table), predicate.line or no, predicate.quarantine or no
    )


def _is_line(table: SourceTable) -> sql.Composable:
    return sql.SQL(
        "(column_name is null and source_row ? {}"
        " and (select count(*) = 1 from jsonb_object_keys(source_row)))"
    ).format(sql.Literal(line_key(table.source_columns)))


def _tombstones(name: str) -> sql.Identifier:
    return sql.Identifier("lakebed", name)


def _of_keys(table: SourceTable, predicate: Predicate) -> sql.Composable:
    return sql.SQL(
        "table_name = {} and exists (select from jsonb_populate_record(null::{}, key) k where {})"
    ).format(sql.Literal(table.name), table.relation, predicate.postgres)


def _delete(connection: Connection, relation: sql.Identifier, where: sql.Composable) -> int:
    return connection.execute(sql.SQL("delete from {} where {}").format(relation, where)).rowcount
