"""A merge against rows that have settled: an older row must not override a newer cold one.

The cursor guard of a merge sees hot rows. A staged row whose key is cold alone would become a hot
row, and so override the cold one, however old it is. So staged rows that are older than the live
cold row of their key are dropped before the merge.

A move may make a hot row cold between that look and the merge. No lock keeps it out; it is seen:

    look      the live generations of the load's windows; drop what is stale against them
    merge     finds a key hot, and guards and locks it until the commit; or does not find it, and
              then whatever made it cold has committed: an insert waits for a delete under way
    look      are the same generations live? If not, take the merge back and begin again

Each look must see what was committed before it: the transaction must be READ COMMITTED.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql

from platform_assets.catalog import SourceTable
from platform_assets.ingest.encoding import Encoder
from platform_assets.ingest.writers.writer import LoadConflictError, names, target_of
from platform_assets.partitions import Window
from platform_assets.quality.schema import Column, arrow_schema
from resources.lake_files import LakeFileError, LakeFiles
from resources.postgres import Connection

T = TypeVar("T")

TIMES_HELD = 200_000
BATCH_ROWS = 65_536
_COLD = sql.Identifier("lakebed_settled")


@dataclass(frozen=True)
class Generation:
    """A live generation of a partition, with the window and the times of its rows."""

    partition_key: str
    number: int
    path: str
    lower: datetime
    upper: datetime
    first: datetime
    last: datetime


@dataclass(frozen=True)
class _Staged:
    """What is known of the staged rows that could meet a cold one.

    oldest: the least cursor, as text.  times: all their times in microseconds, None for too many.
    """

    oldest: str
    first: datetime
    last: datetime
    times: list[int] | None


def live_generations(
    connection: Connection, table: SourceTable, windows: Collection[Window]
) -> list[Generation]:
    """Return the live generations of some partitions, in order."""
    rows = connection.execute(
        "select partition_key, generation, path, lower_bound, upper_bound,"
        " coalesce(time_min, lower_bound), coalesce(time_max, upper_bound)"
        " from lakebed.cold_file where table_name = %s and partition_key = any(%s)"
        " and superseded_at is null order by lower_bound",
        [table.name, [window.key for window in windows]],
    ).fetchall()
    return [Generation(*row) for row in rows]


def merge_beside_settled(
    connection: Connection,
    table: SourceTable,
    stage: sql.Identifier,
    lake: LakeFiles,
    windows: Collection[Window],
    merge: Callable[[], T],
    *,
    attempts: int = 5,
) -> tuple[T, int]:
    """Merge a stage without the rows that are older than their cold ones.

    The connection is in the load's transaction. stage: a temporary table of the table's columns.
    lake: where the cold files are.  windows: all partitions of the staged rows.  merge: brings
    the stage into the table; it is run again, on the stage as it was, where a move came in between.
    Returns what merge returned, and how many staged rows were dropped.

    Raises LoadConflictError where moves came in between at each attempt, RuntimeError in a
    transaction that is not READ COMMITTED.
    """
    if not has_guard(table):
        return merge(), 0
    _check_isolation(connection)
    for _ in range(attempts):
        with connection.transaction() as savepoint:
            before = live_generations(connection, table, windows)
            stale = drop_stale(connection, table, stage, lake, before)
            merged = merge()
            if live_generations(connection, table, windows) == before:
                return merged, stale
            raise psycopg.Rollback(savepoint)
    raise LoadConflictError(
        f"{table.name}: partitions that the load writes to were moved during each of {attempts} "
        "attempts; nothing was loaded. Run the load again"
    )


def has_guard(table: SourceTable) -> bool:
    """Whether rows of a table settle, and are told by a cursor which of a key is the newest."""
    if table.cursor is None or table.cursor in table.key or table.partitioning is None:
        return False
    staged = {column.name for column in table.wire}
    return bool(table.key) and staged.issuperset({*table.key, table.cursor})


def drop_stale(
    connection: Connection,
    table: SourceTable,
    stage: sql.Identifier,
    lake: LakeFiles,
    generations: Sequence[Generation],
) -> int:
    """Delete staged rows that are older than the cold row of their key; return how many.

    A key that is hot is left to the guard of the merge: its hot row overrides the cold one.
    Reads keys and cursors of those cold rows alone that share a time with a staged row and are
    newer than the oldest of them; nothing at all where there is no generation.
    """
    if not generations:
        return 0
    staged = _staged(connection, table, stage, generations)
    if staged is None:
        return 0
    met = [g for g in generations if g.first <= staged.last and g.last >= staged.first]
    if not met:
        return 0
    assert table.cursor is not None
    columns = tuple(table.column(name) for name in (*table.key, table.cursor))
    connection.execute(
        sql.SQL("create temporary table {} on commit drop as select {} from {} limit 0").format(
            _COLD, names([column.name for column in columns]), target_of(table)
        )
    )
    try:
        files = [lake.address(generation.path) for generation in met]
        if not _copy_cold(connection, table, columns, lake, files, staged):
            return 0
        return _delete_older(connection, table, stage)
    finally:
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
            connection.execute(sql.SQL("drop table {}").format(_COLD))


def _check_isolation(connection: Connection) -> None:
    (level,) = connection.execute("show transaction_isolation").fetchall()[0]
    if level != "read committed":
        raise RuntimeError(f"a load must run in READ COMMITTED to see moves; this is {level}")


def _staged(
    connection: Connection,
    table: SourceTable,
    stage: sql.Identifier,
    generations: Sequence[Generation],
) -> _Staged | None:
    """Look at the staged rows between the first and the last cold partition; None for none."""
    assert table.cursor is not None
    time = sql.Identifier(table.partitioned.column)
    where = sql.SQL(" from {} where {time} >= {} and {time} < {}").format(
        stage,
        sql.Literal(min(generation.lower for generation in generations)),
        sql.Literal(max(generation.upper for generation in generations)),
        time=time,
    )
    count, oldest, first, last = connection.execute(
        sql.SQL("select count(*), min({})::text, min({time}), max({time})").format(
            sql.Identifier(table.cursor), time=time
        )
        + where
    ).fetchall()[0]
    if count == 0:
        return None
    if count > TIMES_HELD:
        return _Staged(oldest, first, last, None)
    times = connection.execute(
        sql.SQL("select array_agg(distinct (extract(epoch from {}) * 1000000)::bigint)").format(
            time
        )
        + where,
        binary=True,
    ).fetchall()[0][0]
    return _Staged(oldest, first, last, times)


def _copy_cold(
    connection: Connection,
    table: SourceTable,
    columns: tuple[Column, ...],
    lake: LakeFiles,
    files: list[str],
    staged: _Staged,
) -> int:
    """Stream the cold rows that could be newer than a staged one into PostgreSQL; count them."""
    schema = arrow_schema(columns)
    encoder = Encoder(columns)
    into = sql.SQL("copy {} ({}) from stdin (format binary)").format(_COLD, names(schema.names))
    rows = 0
    with duckdb.connect(":memory:") as reader, connection.cursor() as cursor:
        reader.execute("set TimeZone = 'UTC'")
        lake.make_readable(reader)
        try:
            batches = _newer(reader, table, columns, files, staged)
            with cursor.copy(into) as copy:
                copy.write(encoder.header())
                for batch in batches:
                    copy.write(encoder.rows(batch.cast(schema)))
                    rows += batch.num_rows
                copy.write(encoder.end())
        except duckdb.Error as error:
            raise LakeFileError(
                f"{table.name}: a cold file cannot be read: {lake.redact(str(error))}; nothing was "
                "loaded. Run the load again when it can be"
            ) from None
    return rows


def _newer(
    reader: duckdb.DuckDBPyConnection,
    table: SourceTable,
    columns: tuple[Column, ...],
    files: list[str],
    staged: _Staged,
) -> pa.RecordBatchReader:
    """Read keys and cursors of cold rows, as few as the filters leave."""
    time, cursor = sql.Identifier(table.partitioned.column), columns[-1]
    conditions = [
        sql.SQL("{time} between {}::timestamptz and {}::timestamptz").format(
            sql.Literal(staged.first.isoformat()), sql.Literal(staged.last.isoformat()), time=time
        )
    ]
    if staged.times is not None:
        reader.register("staged_times", pa.table({"moment": pa.array(staged.times, pa.int64())}))
        conditions.append(sql.SQL("epoch_us({}) in (select moment from staged_times)").format(time))
    oldest: dict[str, Any] = {"oldest": staged.oldest}
    known = f"select try_cast($oldest as {cursor.duckdb}) is not null"
    if reader.execute(known, oldest).fetchall() == [(True,)]:  # some times have another text
        conditions.append(
            sql.SQL("{} > cast({} as {})").format(
                sql.Identifier(cursor.name), sql.Literal(staged.oldest), sql.SQL(cursor.duckdb)
            )
        )
    query = sql.SQL("select {} from read_parquet([{}], hive_partitioning = false) where {}").format(
        sql.SQL(", ").join(
            sql.SQL("cast({0} as {1}) as {0}").format(
                sql.Identifier(column.name),
                sql.SQL("varchar" if column.types.literal else column.duckdb),
            )
            for column in columns
        ),
        sql.SQL(", ").join(sql.Literal(file) for file in files),
        sql.SQL(" and ").join(conditions),
    )
    return reader.execute(query.as_string()).to_arrow_reader(BATCH_ROWS)


def _delete_older(connection: Connection, table: SourceTable, stage: sql.Identifier) -> int:
    def same(one: str, other: str) -> sql.Composable:
        return sql.SQL(" and ").join(
            sql.SQL("{} = {}").format(sql.Identifier(one, name), sql.Identifier(other, name))
            for name in table.key
        )

    assert table.cursor is not None
    connection.execute(sql.SQL("analyze {}").format(_COLD))
    connection.execute(sql.SQL("analyze {}").format(stage))
    return connection.execute(
        sql.SQL(
            "delete from {stage} as staged using {cold} as cold where {same_key}"
            " and staged.{cursor} < cold.{cursor}"
            " and not exists (select from {table} as hot where {hot_key})"
        ).format(
            stage=stage,
            cold=_COLD,
            same_key=same("staged", "cold"),
            hot_key=same("staged", "hot"),
            cursor=sql.Identifier(table.cursor),
            table=target_of(table),
        )
    ).rowcount
