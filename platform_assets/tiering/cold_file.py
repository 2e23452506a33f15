"""Writing a cold file: copied by DuckDB, read again, verified, and only then given its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import polars as pl
from psycopg import sql

from platform_assets.keys import ColdFileName, cold_path
from platform_assets.tiering.fingerprint import Fingerprint
from platform_assets.tiering.partition import Partition, Step, VerificationError
from resources.lake_files import NewFile


@dataclass(frozen=True)
class Written:
    """A verified file under its final name, which no transaction names yet.

    first, last: the times of its rows (UTC).
    """

    file: NewFile
    generation: int
    fingerprint: Fingerprint
    bytes: int
    sha256: str
    first: datetime
    last: datetime


@contextmanager
def cold_file(
    partition: Partition,
    rows: sql.Composable,
    counted: Callable[[], Fingerprint],
    after: int,
    on_step: Step,
) -> Iterator[Written]:
    """Write the rows as the generation after `after`, or a later one; yield the verified file.

    rows: a query of DuckDB, of the table's columns.  counted: gives what they must come to, and is
    asked when they are copied. What raises in the block takes the file away again: the transaction
    must not have been committed in it.
    Steps: copied, verified, renamed. Raises VerificationError.
    """
    table = partition.table
    file = partition.files.reserve(
        lambda number: cold_path(
            ColdFileName(table.name, partition.window, number), table.column_names
        ),
        after + 1,
    )
    try:
        expected = _write(partition, rows, counted, str(file.writing), on_step)
        on_step("verified")
        first, last = _times(partition, str(file.writing))
        size, digest = file.bytes, file.sha256()
        file.publish()
        if file.copied:
            _verify(partition, partition.files.address(file.path), expected)
        on_step("renamed")
        yield Written(file, file.generation, expected, size, digest, first, last)
    except BaseException:
        file.discard()
        raise


def stored_columns(partition: Partition) -> sql.Composable:
    """Return the columns of the hot table as the file holds them, for DuckDB."""
    return sql.SQL(", ").join(
        sql.SQL("{} as {}").format(
            sql.SQL(column.types.stored).format(
                sql.SQL("cast({} as {})").format(
                    sql.Identifier(column.name), sql.SQL(column.duckdb)
                )
            ),
            sql.Identifier(column.name),
        )
        for column in partition.table.columns
    )


def _write(
    partition: Partition,
    rows: sql.Composable,
    counted: Callable[[], Fingerprint],
    file: str,
    on_step: Step,
) -> Fingerprint:
    """Copy and verify; return what was counted.

    A table with floats that fails is written once more, without dictionaries.

    The dictionaries of DuckDB's Parquet take -0.0 for the 0.0 before it.
    """
    _copy(partition, rows, file)
    on_step("copied")
    expected = counted()
    try:
        _verify(partition, file, expected)
    except VerificationError:
        if not any(_holds_floats(column.polars) for column in partition.table.columns):
            raise
        _copy(partition, rows, file, dictionaries=False)
        _verify(partition, file, expected)
    return expected


def _copy(
    partition: Partition, rows: sql.Composable, file: str, *, dictionaries: bool = True
) -> None:
    table = partition.table
    tiering = table.settles
    sort = tiering.sort or (table.partitioned.column,)
    described = {c.name: c.description for c in table.columns if c.description}
    copy = sql.SQL(
        "copy (select * from ({rows}) order by {sort}) to {file} (format parquet,"
        " use_tmp_file false, compression {compression}, row_group_size {group}{encoding},"
        " kv_metadata {{ lakebed_table: {table}, lakebed_partition: {key},"
        " lakebed_columns: {columns}}})"
    ).format(
        rows=rows,
        sort=sql.SQL(", ").join(sql.Identifier(name) for name in sort),
        file=sql.Literal(file),
        compression=sql.Literal(tiering.compression),
        group=sql.Literal(tiering.row_group_rows),
        encoding=sql.SQL("" if dictionaries else ", dictionary_size_limit 0"),
        table=sql.Literal(table.name),
        key=sql.Literal(partition.window.key),
        columns=sql.Literal(json.dumps(described, ensure_ascii=False)),
    )
    partition.connection.execute(copy.as_string())


def _verify(partition: Partition, file: str, expected: Fingerprint) -> None:
    """Re-read the file and hold it against what the snapshot held."""
    wrong = partition.fingerprint(_relation(file)).differences(expected)
    if wrong:
        raise VerificationError(
            f"{partition}: the file does not hold what PostgreSQL held ({'; '.join(wrong)}); "
            "nothing was moved. Run `lakebed move` again; if it fails alike, the rows hold values "
            "that Parquet cannot carry."
        )


def _times(partition: Partition, file: str) -> tuple[datetime, datetime]:
    query = sql.SQL("select min({0}), max({0}) from {1}").format(
        sql.Identifier(partition.table.partitioned.column), _relation(file)
    )
    first, last = partition.connection.execute(query.as_string()).fetchall()[0]
    return first, last


def _relation(file: str) -> sql.Composable:
    return sql.SQL("read_parquet([{}], hive_partitioning = false)").format(sql.Literal(file))


def _holds_floats(dtype: pl.DataType) -> bool:
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    return inner.is_float()
