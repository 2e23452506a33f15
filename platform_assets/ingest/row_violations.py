"""Rows that only PostgreSQL can tell to be bad, found before they are loaded.

A constraint that somebody added to a table (CHECK, a foreign key, an exclusion, a trigger) fails a
whole COPY and names one row at best. So a load that failed by one is read again, and each batch is
tried on the table in a transaction that is rolled back: the rows that fail become rejects.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl
import psycopg
import pyarrow.parquet as pq

from lakebed.ingest.constraints import TooManyViolationsError, find_violations
from lakebed.ingest.contract import Checked, rejects_at, to_arrow
from lakebed.ingest.sources.reader import Batch, SourceError, SourceItem
from lakebed.ingest.writers import target_of
from lakebed.resources.postgres import Postgres
from lakebed.resources.private import make_private_folder
from lakebed.schema.ddl import ensure_partition_tables
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable
from lakebed.store.rejects import RejectKind


def can_check_constraints(table: SourceTable) -> bool:
    """Whether rows go into the table as they are on the wire, so that they can be tried on it."""
    wire = tuple(column.name for column in table.wire)
    return wire == table.written_names and table.write_mode != "history"


def check_constraints(
    postgres: Postgres,
    table: SourceTable,
    file: SourceItem,
    batch: Batch,
    checked: Checked,
    windows: Collection[Window],
    folder: Path,
) -> Checked:
    """Return a checked batch without the rows that PostgreSQL refuses, which become rejects.

    windows: those of the rows.  folder: where a file may be written. The load's own transaction
    must not have begun: rows that it holds would be waited for. Raises SourceError where too many
    rows are refused.
    """
    if checked.good.height == 0:
        return checked
    make_private_folder(folder)
    parquet = folder / "sifted.parquet"
    pq.write_table(to_arrow(table, checked.good), parquet)
    key = () if table.write_mode == "append" else table.key
    with postgres.connect(autocommit=True) as connection:
        ensure_partition_tables(connection, table, windows)
        try:
            with connection.transaction():
                found = find_violations(connection, target_of(table), table.wire, parquet, key=key)
        except psycopg.errors.UniqueViolation:
            return checked  # a key that is there is a conflict of the load, not of a row
        except TooManyViolationsError as error:
            raise SourceError(
                file.path,
                f"{error}. Correct the file, or the constraint",
                waits=error.some[0].fault.kind is RejectKind.MISSING_PARENT,
            ) from error
        finally:
            parquet.unlink()
    if not found:
        return checked
    places = [violation.row for violation in found]
    bad = {
        number: violation.fault
        for number, violation in zip(checked.numbers[places], found, strict=True)
    }
    keep = pl.Series([True]).new_from_index(0, checked.good.height).scatter(places, False)
    return Checked(
        checked.good.filter(keep),
        [*checked.rejects, *rejects_at(file, batch, bad)],
        checked.numbers.filter(keep),
    )
