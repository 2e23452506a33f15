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
    on_copied: Callable[[], None] = lambda: None,
) -> Iterator[Written]:
    """Write rows as a new generation of a partition and yield the verified file.

    If the block raises, the file is removed; so the block must not commit.
    Steps: copied, verified, renamed.

    Args:
        partition: The locked partition.
        rows: DuckDB's query of the rows, with the table's columns.
        counted: Returns the fingerprint that the file must have; called once the rows are copied.
        after: The last generation number in use; the new one is higher.
        on_step: Receives each step.
        on_copied: Work in the transaction that can run while the file is verified.

    Raises:
        VerificationError: The file does not hold the counted rows.
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
        if file.copied:  # over a network, before the delete locks the rows
            expected = write_verified(partition, file, rows, counted, form, on_step)
        else:
            expected = write_verified(partition, file, rows, counted, form, on_step, on_copied)
        first, last = _times(partition, str(file.writing))
        size, digest = publish(partition, file, expected, on_step)
        if file.copied:
            on_copied()
        yield Written(file, file.generation, expected, size, digest, first, last)


def _times(partition: Partition, file: str) -> tuple[datetime, datetime]:
    query = sql.SQL("select min({0}), max({0}) from {1}").format(
        sql.Identifier(partition.table.require_partitioning.column), relation_of(file)
    )
    first, last = partition.connection.execute(query.as_string()).fetchall()[0]
    return first, last
