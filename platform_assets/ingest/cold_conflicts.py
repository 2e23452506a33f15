"""A merge against rows that have settled: an older row must not override a newer cold one.

The cursor guard of a merge sees hot rows, and so do its deletes. A staged row whose key is cold
alone would become a hot row, and so override the cold one, however old it is: staged rows that are
older than the live cold row of their key are dropped before the merge. A delete of a row that is
cold becomes a tombstone. Of a full extract, rows that are cold just as they are stay cold.

A move may make a hot row cold between that look and the merge. No lock keeps it out; it is seen:

    look      the live generations of the load's windows; drop what is stale against them
    merge     finds a key hot, and guards and locks it until the commit; or does not find it, and
              then whatever made it cold has committed: an insert waits for a delete under way
    delete    tombstones for what was cold in the look
    look      are the same generations live? If not, take the merge back and begin again

A fold that commits later had not seen the tombstones: they stay and hide the rows of its file. Each
look must see what was committed before it: the transaction must be READ COMMITTED.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql

from lakebed.ingest.writers.undo import Undo
from lakebed.ingest.writers.writer import LoadConflictError, names, same, target_of
from lakebed.pgcopy.cold_rows import as_they_are_now, copy_cold_rows
from lakebed.resources.extensions import in_memory
from lakebed.resources.lake_files import LakeFileError, LakeFiles
from lakebed.resources.postgres import Connection
from lakebed.resources.tombstones import deleted_keys
from lakebed.spec.columns import GONE
from lakebed.spec.partitions import Window
from lakebed.spec.schema import Column
from lakebed.spec.table import SourceTable

T = TypeVar("T")

TIMES_HELD = 200_000
COLD = sql.Identifier("lakebed_settled")
"""The cold rows that a load meets, with OVERRIDDEN; what tombstones hide is not among them."""
OVERRIDDEN = sql.Identifier("lakebed_overridden")
"""Whether there was a hot row of the key when the load looked."""


@dataclass(frozen=True)
class Generation:
    """A live generation of a partition, with the window and the times of its rows.

    columns: name and PostgreSQL type of its file's.
    """

    partition_key: str
    number: int
    path: str
    lower: datetime
    upper: datetime
    first: datetime
    last: datetime
    columns: Mapping[str, str]


@dataclass(frozen=True)
class _Staged:
    """What is known of the staged rows that could meet a cold one.

    oldest: the least cursor, as text.  times: all their times in microseconds, None for too many.
    """

    oldest: str | None
    first: datetime
    last: datetime
    times: list[int] | None


class Merged(NamedTuple, Generic[T]):
    """What a merge beside settled rows came to.

    stale: staged rows that were dropped.  deleted: settled rows that marked ones deleted.
    """

    result: T
    stale: int = 0
    deleted: int = 0


def live_generations(
    connection: Connection, table: SourceTable, windows: Collection[Window] | None
) -> list[Generation]:
    """Return the live generations that overlap some windows, or all of them, in order.

    They need not be of the windows' grain: a row overrides the cold one of its key all the same.
    """
    rows = connection.execute(
        "select partition_key, generation, path, lower_bound, upper_bound,"
        " coalesce(time_min, lower_bound), coalesce(time_max, upper_bound),"
        " (select jsonb_object_agg(c ->> 'name', c ->> 'type')"
        " from jsonb_array_elements(columns) c)"
        " from lakebed.cold_file where table_name = %s"
        " and (%s or tstzrange(lower_bound, upper_bound) && (select range_agg(tstzrange(l, u))"
        " from unnest(%s::timestamptz[], %s::timestamptz[]) w (l, u))) and superseded_at is null"
        " order by lower_bound",
        [
            table.name,
            windows is None,
            [window.lower for window in windows or ()],
            [window.upper for window in windows or ()],
        ],
    ).fetchall()
    return [Generation(*row) for row in rows]


def merge_with_cold(
    connection: Connection,
    table: SourceTable,
    stage: sql.Identifier,
    lake: LakeFiles,
    windows: Collection[Window],
    merge: Callable[[], T],
    *,
    first: Callable[[], None] = lambda: None,
    undo: Undo | None = None,
    attempts: int = 5,
) -> Merged[T]:
    """Merge a stage beside the cold rows of its keys; see the module.

    The connection is in the load's transaction. stage: a temporary table of the table's columns.
    lake: where the cold files are.  windows: all partitions of the staged rows.  merge: brings
    the stage into the table; it is run again, on the stage as it was, where a move came in between.
    first: is run before stale rows are dropped, each time.  undo: is told of tombstones.

    Raises LoadConflictError where moves came in between at each attempt, RuntimeError in a
    transaction that is not READ COMMITTED.
    """
    if not may_touch_cold(table):
        first()
        return Merged(merge())
    _check_isolation(connection)
    looked_at = None if table.loads_whole else windows
    for _ in range(attempts):
        with connection.transaction() as savepoint:
            before = live_generations(connection, table, looked_at)
            with _looking(connection, table, stage, lake, before) as met:
                first()
                stale = _delete_older(connection, table, stage) if met and has_guard(table) else 0
                merged = merge()
                deleted = 0
                if met and undo is not None and table.marker is not None:
                    deleted = undo.delete_cold(COLD, OVERRIDDEN, _marked(table, stage))
            if live_generations(connection, table, looked_at) == before:
                return Merged(merged, stale, deleted)
            raise psycopg.Rollback(savepoint)
    raise LoadConflictError(
        f"{table.name}: partitions that the load writes to were moved during each of {attempts} "
        "attempts; nothing was loaded. Run the load again"
    )


def may_touch_cold(table: SourceTable) -> bool:
    """Whether a merge has to look at rows that have settled: for their age, or to delete them."""
    deletes = table.deleting is not None and table.write_mode == "merge"
    return has_guard(table) or (deletes and table.partitioning is not None)


def has_guard(table: SourceTable) -> bool:
    """Whether rows of a table settle, and are told by a cursor which of a key is the newest."""
    if table.cursor is None or table.cursor in table.key or table.partitioning is None:
        return False
    staged = {column.name for column in table.wire}
    return bool(table.key) and staged.issuperset({*table.key, table.cursor})


@contextmanager
def _looking(
    connection: Connection,
    table: SourceTable,
    stage: sql.Identifier,
    lake: LakeFiles,
    generations: Sequence[Generation],
) -> Iterator[bool]:
    """Hold the cold rows in COLD that the load could meet; tell whether there are any.

    Of a full extract they are all there are, whole. Else keys and cursors of those alone that
    share a time with a staged row and, where none deletes, are newer than the oldest of them. No
    file is opened where there is no generation.
    """
    staged = None if table.loads_whole else _staged(connection, table, stage, generations)
    met: Sequence[Generation] = generations if table.loads_whole else []
    if staged is not None:
        met = [g for g in generations if g.first <= staged.last and g.last >= staged.first]
    if not met and not table.loads_whole:
        yield False
        return
    columns = table.columns
    if not table.loads_whole:
        compared = [table.cursor] if table.cursor and has_guard(table) else []
        columns = tuple(table.column(name) for name in (*table.key, *compared))
    connection.execute(
        sql.SQL(
            "create temporary table {} on commit drop as select {}, false as {} from {} limit 0"
        ).format(COLD, names([column.name for column in columns]), OVERRIDDEN, target_of(table))
    )
    try:
        rows = _copy_cold(connection, table, columns, lake, met, staged) if met else 0
        if rows:
            _compare_keys(connection, table, met)
            connection.execute(sql.SQL("analyze {}").format(COLD))
            connection.execute(sql.SQL("analyze {}").format(stage))
        yield rows > 0
    finally:
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
            connection.execute(sql.SQL("drop table {}").format(COLD))


def _compare_keys(
    connection: Connection, table: SourceTable, generations: Sequence[Generation]
) -> None:
    """Leave cold rows out that are deleted, and mark those that a hot row overrides."""
    windows = [(generation.lower, generation.upper) for generation in generations]
    connection.execute(
        sql.SQL("delete from {} as cold using ({}) as gone where {}").format(
            COLD,
            deleted_keys(target_of(table), table.name, table.key, windows),
            same(table.key, "cold", "gone"),
        )
    )
    connection.execute(
        sql.SQL("update {} as cold set {} = exists (select from {} as hot where {})").format(
            COLD, OVERRIDDEN, target_of(table), same(table.key, "cold", "hot")
        )
    )


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
    if not generations:
        return None
    time = sql.Identifier(table.require_partitioning.column)
    where = sql.SQL(" from {} where {time} >= {} and {time} < {}").format(
        stage,
        sql.Literal(min(generation.lower for generation in generations)),
        sql.Literal(max(generation.upper for generation in generations)),
        time=time,
    )
    oldest: sql.Composable = sql.SQL("null")
    if table.cursor is not None and has_guard(table):
        oldest = sql.SQL("min({})::text").format(sql.Identifier(table.cursor))
    count, cursor, first, last = connection.execute(
        sql.SQL("select count(*), {}, min({time}), max({time})").format(oldest, time=time) + where
    ).fetchall()[0]
    if count == 0:
        return None
    if count > TIMES_HELD:
        return _Staged(cursor, first, last, None)
    times = connection.execute(
        sql.SQL("select array_agg(distinct (extract(epoch from {}) * 1000000)::bigint)").format(
            time
        )
        + where,
        binary=True,
    ).fetchall()[0][0]
    return _Staged(cursor, first, last, times)


def _copy_cold(
    connection: Connection,
    table: SourceTable,
    columns: tuple[Column, ...],
    lake: LakeFiles,
    generations: Sequence[Generation],
    staged: _Staged | None,
) -> int:
    """Stream the cold rows that the load could meet into COLD; count them."""
    with in_memory(lake.extensions) as reader:
        reader.execute("set TimeZone = 'UTC'")
        lake.make_readable(reader)
        where: sql.Composable = sql.SQL("true")
        if staged is not None:
            where = _filter(reader, table, columns[-1], staged)
        rows = sql.SQL(" union all ").join(
            sql.SQL(
                "select {} from (from read_parquet([{}], hive_partitioning = false)) where {}"
            ).format(
                as_they_are_now(columns, generation.columns),
                sql.Literal(lake.address(generation.path)),
                where,
            )
            for generation in generations
        )
        try:
            return copy_cold_rows(connection, COLD, columns, reader, rows)
        except duckdb.Error as error:
            raise LakeFileError(
                f"{table.name}: a cold file cannot be read: {lake.redact(str(error))}; nothing was "
                "loaded. Run the load again when it can be"
            ) from None


def _filter(
    reader: duckdb.DuckDBPyConnection, table: SourceTable, cursor: Column, staged: _Staged
) -> sql.Composable:
    """Return DuckDB's condition on cold rows that leaves as few as it can."""
    time = sql.Identifier(table.require_partitioning.column)
    conditions = [
        sql.SQL("{time} between {}::timestamptz and {}::timestamptz").format(
            sql.Literal(staged.first.isoformat()), sql.Literal(staged.last.isoformat()), time=time
        )
    ]
    if staged.times is not None:
        reader.register("staged_times", pa.table({"moment": pa.array(staged.times, pa.int64())}))
        conditions.append(sql.SQL("epoch_us({}) in (select moment from staged_times)").format(time))
    if staged.oldest is not None and table.deleting is None:
        oldest: dict[str, Any] = {"oldest": staged.oldest}
        known = f"select try_cast($oldest as {cursor.duckdb}) is not null"
        if reader.execute(known, oldest).fetchall() == [(True,)]:  # some times have another text
            conditions.append(
                sql.SQL("{} > cast({} as {})").format(
                    sql.Identifier(cursor.name), sql.Literal(staged.oldest), sql.SQL(cursor.duckdb)
                )
            )
    return sql.SQL(" and ").join(conditions)


def _marked(table: SourceTable, stage: sql.Identifier) -> sql.Composable:
    """Return the condition that a row of COLD is deleted, once the merge has run.

    A key whose newest word is a row is hot by then; one whose hot row is newer still is.
    """
    return sql.SQL(
        "exists (select from {} as staged where staged.{} and {})"
        " and not exists (select from {} as hot where {})"
    ).format(
        stage,
        sql.Identifier(GONE),
        same(table.key, "staged", "cold"),
        target_of(table),
        same(table.key, "hot", "cold"),
    )


def _delete_older(connection: Connection, table: SourceTable, stage: sql.Identifier) -> int:
    """Delete staged rows that are older than the cold row of their key; return how many.

    A key that is hot is left to the guard of the merge: its hot row overrides the cold one.
    """
    assert table.cursor is not None
    return connection.execute(
        sql.SQL(
            "delete from {stage} as staged using {cold} as cold where {same_key}"
            " and staged.{cursor} < cold.{cursor}"
            " and not exists (select from {table} as hot where {hot_key})"
        ).format(
            stage=stage,
            cold=COLD,
            same_key=same(table.key, "staged", "cold"),
            hot_key=same(table.key, "staged", "hot"),
            cursor=sql.Identifier(table.cursor),
            table=target_of(table),
        )
    ).rowcount
