"""What every writer does: begin, copy for each file of rows, finish; inside the transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

from lakebed.errors import LakebedError
from lakebed.ingest.as_read import AsRead
from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.postgres import Connection
from lakebed.spec.partitions import Window
from lakebed.spec.schema import Column
from lakebed.spec.table import SourceTable
from lakebed.store.rejects import Reject

if TYPE_CHECKING:
    from lakebed.ingest.writers.undo import Undo


class LoadConflictError(LakebedError, RuntimeError):
    """What the load would write is there already, or would undo too much; nothing was changed."""


class RepeatedKeyError(LoadConflictError):
    """A row has a key that another row has; nothing was loaded.

    Attributes:
        schema: The schema of the unique index that refused the row.
        index: The index.
    """

    def __init__(self, text: str, schema: str | None, index: str | None) -> None:
        """Keep the index, by which the row can be found."""
        super().__init__(text)
        self.schema = schema
        self.index = index


class RelatedRowsError(LoadConflictError):
    """Rows of another table are missing, or are in the way; nothing was changed.

    The load can succeed once that table has been loaded.
    """


@dataclass(frozen=True)
class LoadStamp:
    """Which load it is, as the ledger has it, when it was started (UTC), and where the lake is.

    as_read: its rows as the source has them, of a table that rejects rows without a parent.
    quarantine: takes rejects in.
    """

    load_id: str
    started_at: datetime
    lake: LakeFiles
    as_read: AsRead
    quarantine: Callable[[Sequence[Reject]], None]


@dataclass(frozen=True)
class Counts:
    """What became of the rows that were good.

    unchanged: rows that changed nothing: they were there, or a trigger of the table left them out.
    superseded: rows that a newer row of the same key in the same load replaced.  marked: rows that
    mark a row as deleted, whether it existed or not.  rejected: rows that the database refused;
    they are in the quarantine.  deleted: rows that left the table, or versions of a history that
    ended, for any reason; they are not rows of the source.  held: rows that are missing from a full
    extract and stay, as rows of other tables refer to them.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    marked: int = 0
    rejected: int = 0
    deleted: int = 0
    held: int = 0


class Writer(ABC):
    """Writes the rows of one load: begin, copy for each file of rows, finish. In a transaction.

    windows: the partitions that the rows belong to, as far as they are known when copying begins;
    empty for a table without time.  load: the load, as recorded in the ledger.
    undo: records every write to the table.
    """

    def __init__(
        self,
        connection: Connection,
        table: SourceTable,
        windows: Collection[Window],
        load: LoadStamp,
        undo: Undo,
    ) -> None:
        """Write into table on connection, which is in a transaction."""
        self.connection = connection
        self.table = table
        self.windows = windows
        self.load = load
        self.undo = undo

    @property
    def wire(self) -> Sequence[Column]:
        """The columns of the rows that are copied."""
        return self.table.wire

    @property
    def needs_files(self) -> bool:
        """Whether files that were copied must stay until the load has ended."""
        return False

    @abstractmethod
    def begin(self) -> None:
        """Make what the rows are copied into."""

    @abstractmethod
    def copy(self, parquet: Path) -> None:
        """Copy the rows of one file."""

    @abstractmethod
    def finish(self) -> Counts:
        """Bring the rows into the table; return what became of them.

        The load's rejects are in the quarantine by now. Raises LoadConflictError.
        """


def target_of(table: SourceTable) -> sql.Identifier:
    """Return the table in PostgreSQL."""
    return table.relation


def names(columns: Sequence[str]) -> sql.Composable:
    """Return quoted column names with commas between them."""
    return sql.SQL(", ").join(sql.Identifier(name) for name in columns)


def same(columns: Sequence[str], one: str, other: str) -> sql.Composable:
    """Return the condition that two relations agree in some columns, none of which is null."""
    return sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(sql.Identifier(one, name), sql.Identifier(other, name))
        for name in columns
    )
