"""Find the item and the row of a repeated key, after a load that failed because of it.

PostgreSQL's error names the key but neither the file nor the row. So the keys of the load are read
again, into a temporary table with the place of each row, and compared there with each other and
with the table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from psycopg import sql

from lakebed.ingest.incremental import Pending
from lakebed.ingest.sources.reader import SourceError
from lakebed.ingest.stream import Stream
from lakebed.ingest.writers import RepeatedKeyError, target_of
from lakebed.pgcopy.encoding import copy_rows
from lakebed.resources.postgres import Connection
from lakebed.spec.schema import Column, arrow_schema
from lakebed.spec.types import type_map

_KEYS = sql.Identifier("lakebed_keys")
_ITEM, _ROW = (
    Column(name, pl.Int64(), type_map(name, pl.Int64()), False, False, "", ())
    for name in ("lakebed_item", "lakebed_row")
)


def find_repeated_key(
    connection: Connection, stream: Stream, pending: Sequence[Pending], error: RepeatedKeyError
) -> SourceError | None:
    """Return the error that refuses the first item with a repeated key and names its row.

    Args:
        connection: In autocommit mode; all writes on it are rolled back.
        stream: A load of the items that has not run.
        pending: The items.
        error: The error of the failed load, which names the unique index.

    Returns:
        None where the rows themselves do not have the columns of the index.
    """
    wire = {column.name: column for column in stream.table.wire}
    # The index of a table that was to replace another one no longer exists: then use the key.
    names = _index_columns(connection, error) or list(stream.table.key)
    if not names or not set(names) <= wire.keys():
        return None
    columns = [wire[name] for name in names]
    with connection.transaction(force_rollback=True), tempfile.TemporaryDirectory() as folder:
        connection.execute(
            sql.SQL(
                "create temporary table {} on commit drop as select {}, null::bigint as {},"
                " null::bigint as {} from {} limit 0"
            ).format(
                _KEYS,
                _listed(names),
                sql.Identifier(_ITEM.name),
                sql.Identifier(_ROW.name),
                target_of(stream.table),
            )
        )
        _stage(connection, stream, pending, columns, Path(folder) / "keys.parquet")
        return _first(connection, stream, pending, names)


def _index_columns(connection: Connection, error: RepeatedKeyError) -> list[str]:
    """Return the columns of the unique index that refused a row; none for expressions."""
    rows = connection.execute(
        "select a.attname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " join pg_index i on i.indexrelid = c.oid and i.indexprs is null and i.indpred is null"
        " cross join lateral unnest(i.indkey::int2[]) with ordinality k (number, place)"
        " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number"
        " where n.nspname = %s and c.relname = %s and k.place <= i.indnkeyatts order by k.place",
        [error.schema, error.index],
    ).fetchall()
    return [name for (name,) in rows]


def _stage(
    connection: Connection,
    stream: Stream,
    pending: Sequence[Pending],
    columns: Sequence[Column],
    parquet: Path,
) -> None:
    """Copy the keys of all good rows, each with its item and its number in it."""
    every = [*columns, _ITEM, _ROW]
    places = {item.file: place for place, item in enumerate(pending)}
    for file, good, numbers in stream.good_rows(pending):
        frame = good.select(column.name for column in columns).with_columns(
            numbers.cast(pl.Int64).alias(_ROW.name), pl.lit(places[file]).alias(_ITEM.name)
        )
        frame = frame.select(column.name for column in every)
        arrow = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(
            arrow_schema(tuple(every))
        )
        pq.write_table(arrow, parquet)
        copy_rows(connection, _KEYS, every, parquet)


def _first(
    connection: Connection, stream: Stream, pending: Sequence[Pending], names: Sequence[str]
) -> SourceError | None:
    table = stream.table
    within = connection.execute(
        sql.SQL(
            "select lakebed_item, lakebed_row, first_item, first_row,"
            " count(*) over (partition by lakebed_item) from (select *,"
            " row_number() over w as place, first_value(lakebed_item) over w as first_item,"
            " first_value(lakebed_row) over w as first_row from {} where num_nulls({}) = 0"
            " window w as (partition by {} order by lakebed_item, lakebed_row)) k"
            " where place > 1 order by 1, 2 limit 1"
        ).format(_KEYS, _listed(names), _listed(names))
    ).fetchone()
    there = None
    if table.write_mode == "append":
        there = connection.execute(
            sql.SQL(
                "select lakebed_item, lakebed_row, count(*) over (partition by lakebed_item)"
                " from {} k where exists (select from {} t where {}{}) order by 1, 2 limit 1"
            ).format(_KEYS, target_of(table), _same(names), _outside(stream))
        ).fetchone()
    if within is None and there is None:
        return None
    if there is not None and (within is None or there[:2] <= within[:2]):
        item, row, count = there
        owner = f"of a row that {table.name} has already"
    else:
        assert within is not None
        item, row, first_item, first_row, count = within
        owner = f"of row {first_row} of {pending[first_item].file.path}"
    return SourceError(
        pending[item].file.path,
        f"row {row} has the {', '.join(names)} {owner}{_more(count)}. An appended or replaced "
        "table takes each key once: remove such rows, use write_mode='merge', or remove the key",
    )


def _more(count: int) -> str:
    return "" if count == 1 else f" ({count:,} rows of the file repeat a key)"


def _same(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(" and ").join(
        sql.SQL("t.{0} = k.{0}").format(sql.Identifier(name)) for name in names
    )


def _outside(stream: Stream) -> sql.Composable:
    """Exclude the rows of a window that its load replaces."""
    window = stream.package.window
    if window is None:
        return sql.SQL("")
    time = sql.Identifier(stream.table.require_partitioning.column)
    return sql.SQL(" and not (t.{0} >= {1} and t.{0} < {2})").format(
        time, sql.Literal(window.lower), sql.Literal(window.upper)
    )


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
