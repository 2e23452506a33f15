"""Append: rows are added; a key that is there already is a conflict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
from psycopg import sql

from lakebed.ingest.writers.stage import Stage
from lakebed.ingest.writers.writer import Counts, RepeatedKeyError, Writer, names, target_of
from lakebed.pgcopy.encoding import copy_rows
from lakebed.spec.table import SourceTable


class AppendWriter(Writer):
    """Adds rows: straight into the table, by the stage where keys are to be looked up."""

    def begin(self) -> None:
        """Begin at nothing."""
        self.sent = self.arrived = 0
        self.stage = Stage(self.connection, self.table, self.load) if self.table.lookups else None

    def copy(self, parquet: Path) -> None:
        """Copy into the table or the stage. Raises RepeatedKeyError where a key is there."""
        if self.stage is not None:
            self.stage.copy(parquet)
            return
        with _one_row_a_key(self.table):
            target = target_of(self.table)
            self.arrived += copy_rows(self.connection, target, self.wire, parquet)
        self.sent += pq.read_metadata(parquet).num_rows

    def finish(self) -> Counts:
        """Return how many rows were added. Raises RepeatedKeyError where a key is there.

        Those that a trigger of the table left out changed nothing.
        """
        if self.stage is None:
            self.undo.wrote(self.arrived)
            return Counts(inserted=self.arrived, unchanged=self.sent - self.arrived)
        rejected = self.stage.settle()
        columns = names(self.table.written_names)
        statement = sql.SQL("insert into {} ({}) select {} from ({}) as rows").format(
            target_of(self.table), columns, columns, self.stage.source
        )
        with _one_row_a_key(self.table):
            inserted = self.connection.execute(statement).rowcount
        self.undo.wrote(inserted)
        left_out = self.stage.rows - rejected - inserted
        return Counts(inserted=inserted, unchanged=left_out, rejected=rejected)


@contextmanager
def _one_row_a_key(table: SourceTable) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        twice = (
            "a key is delivered that the table has already"
            if table.write_mode == "append"
            else "a key is delivered twice"
        )
        raise RepeatedKeyError(
            f"{table.name}: {twice} ({error.diag.message_detail}); nothing was loaded. An appended "
            "or replaced table takes a key once: use write_mode='merge', or leave the key out",
            error.diag.schema_name,
            error.diag.constraint_name,
        ) from error
