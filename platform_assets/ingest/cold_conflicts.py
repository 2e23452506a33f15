"""Merge against cold rows: an older row must not override a newer cold one.

The cursor guard of a merge sees hot rows, and so do its deletes. A staged row whose key is cold
alone would become a hot row, and so override the cold one, however old it is: staged rows that are
older than the live cold row of their key are dropped before the merge. A delete of a row that is
cold becomes a tombstone. Of a full extract, rows that are cold just as they are stay cold.

A move may make a hot row cold between that look and the merge. No lock prevents it; the load
detects it:

    look      the live generations of the load's windows; drop what is stale against them
    merge     finds a key hot, and guards and locks it until the commit; or does not find it, and
              then whatever made it cold has committed: an insert waits for a delete under way
    delete    tombstones for what was cold in the look
    look      are the same generations live? If not, take the merge back and begin again

A compaction that commits later has not seen the tombstones: they stay and hide the rows of its
file. Each look must see all earlier commits, so the transaction must be READ COMMITTED.
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
"""The cold rows whose keys a load writes, with OVERRIDDEN, without those that tombstones hide."""
OVERRIDDEN = sql.Identifier("lakebed_overridden")
"""Whether the key had a hot row when the load looked."""


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
    columns: Mapping[str, str]
    """The PostgreSQL types of the file's columns, by name."""


@dataclass(frozen=True)
class _Staged:
    """A summary of the staged rows that could have the key of a cold row."""

    oldest: str | None
    """The least cursor, as text."""
    first: datetime
    last: datetime
    times: list[int] | None
    """All times in microseconds; None for too many."""


class Merged(NamedTuple, Generic[T]):
    """The result of a merge into a table with cold rows."""

    result: T
    stale: int = 0
    """Staged rows that were dropped because a cold row of their key is newer."""
    deleted: int = 0
    """Cold rows that staged markers deleted."""


def live_generations(
    connection: Connection, table: SourceTable, windows: Collection[Window] | None
) -> list[Generation]:
    """Return the live generations that overlap some windows, or all of them, in order.

    They may have another grain than the windows: a row overrides the cold row of its key anyway.
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
    """Merge a stage into a table, taking the cold rows of its keys into account; see the module.

    Args:
        connection: In the load's transaction.
        table: The table.
        stage: A temporary table with the table's columns.
        lake: Where the cold files are.
        windows: All partitions of the staged rows.
        merge: Brings the stage into the table. A move in between makes it run again, on the
            unchanged stage.
        first: Runs before each deletion of stale rows.
        undo: Records tombstones.
        attempts: How often to try.

    Raises:
        LoadConflictError: A move came in between at each attempt.
        RuntimeError: The transaction is not READ COMMITTED.
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
        f"{table.name}: moves of its partitions interrupted each of {attempts} attempts to load; "
        "nothing was loaded. Run the load again"
    )


def may_touch_cold(table: SourceTable) -> bool:
    """Whether a merge has to read cold rows: to compare their cursors, or to delete them."""
    deletes = table.deleting is not None and table.write_mode == "merge"
    return has_guard(table) or (deletes and table.partitioning is not None)


def has_guard(table: SourceTable) -> bool:
    """Whether a table can have cold rows and a cursor decides which row of a key is newest."""
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
    """Keep the cold rows that the load could conflict with in COLD; yield whether there are any.

    For a full extract these are all cold rows, with all columns. Otherwise they are the keys and
    cursors of rows that share a time with a staged row and, without deletes, are newer than the
    oldest staged row. Without a live generation no file is opened.
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
    """Remove deleted cold rows, and mark those that a hot row overrides."""
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
    """Summarize the staged rows between the first and the last cold partition, or return None."""
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
    """Stream the cold rows that the load could conflict with into COLD; return their number."""
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
                "loaded. Make the file readable, then run the load again"
            ) from None


def _filter(
    reader: duckdb.DuckDBPyConnection, table: SourceTable, cursor: Column, staged: _Staged
) -> sql.Composable:
    """Return DuckDB's condition on cold rows that selects as few as possible."""
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
    """Return the condition that a staged marker deletes a row of COLD, after the merge.

    A key is hot by then if its newest staged entry is a row, or if its hot row is newer still.
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

    The guard of the merge handles a hot key, whose hot row overrides the cold one.
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
