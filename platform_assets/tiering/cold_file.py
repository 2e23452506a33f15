"""A new generation of a partition: its file, verified, that no transaction names yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from lakebed.resources.lake_files import NewFile
from lakebed.spec.names import ColdFileName, cold_path
from lakebed.spec.steps import OnFileStep
from lakebed.store.fingerprint import Fingerprint
from lakebed.tiering.partition import Partition
from lakebed.tiering.verified_file import Form, new_file, publish, relation_of, write_verified


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
    on_step: OnFileStep,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[Written]:
    """Write the rows as the generation after `after`, or a later one; yield the verified file.

    rows: a query of DuckDB, of the table's columns.  counted: gives what they must come to, and is
    asked when they are copied.  meanwhile: further work in the transaction, which may be done while
    the file is verified. What raises in the block takes the file away again: the transaction must
    not have been committed in it.
    Steps: copied, verified, renamed. Raises VerificationError, and what meanwhile raises.
    """
    table, tiering = partition.table, partition.table.require_tiering
    form = Form(
        sort=tiering.sort or (table.require_partitioning.column,),
        compression=tiering.compression,
        row_group_rows=tiering.row_group_rows,
        notes={"lakebed_partition": partition.window.key},
    )
    with new_file(
        partition.files,
        lambda number: cold_path(
            ColdFileName(table.name, partition.window, number), table.column_names
        ),
        after + 1,
    ) as file:
        if file.copied:  # over a network, while nobody should wait for the rows
            expected = write_verified(partition, file, rows, counted, form, on_step)
        else:
            expected = write_verified(partition, file, rows, counted, form, on_step, meanwhile)
        first, last = _times(partition, str(file.writing))
        size, digest = publish(partition, file, expected, on_step)
        if file.copied:
            meanwhile()
        yield Written(file, file.generation, expected, size, digest, first, last)


def _times(partition: Partition, file: str) -> tuple[datetime, datetime]:
    query = sql.SQL("select min({0}), max({0}) from {1}").format(
        sql.Identifier(partition.table.require_partitioning.column), relation_of(file)
    )
    first, last = partition.connection.execute(query.as_string()).fetchall()[0]
    return first, last
