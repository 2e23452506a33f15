"""Write modes: how the rows of a load get into the table, inside the load's transaction.

append:  copy into the table
merge:   copy into a temporary table, then insert ... on conflict do update ... where different;
         straight into the table where it has no row that the load could meet
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from platform_assets.catalog import SourceTable
from platform_assets.ingest.encoding import copy_rows
from platform_assets.partitions import Window
from platform_assets.quality.schema import Column
from resources.postgres import Connection


class LoadConflictError(RuntimeError):
    """What the load would write is there already; nothing was changed."""


@dataclass(frozen=True)
class Counts:
    """What became of the rows that were good.

    superseded: rows that a newer row of the same key in the same load replaced.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0


class Writer(ABC):
    """Writes the rows of one load: begin, copy for each file of rows, finish. In a transaction.

    windows: the partitions that the rows belong to, as far as they are known when copying begins;
    empty for a table without time.
    """

    def __init__(
        self, connection: Connection, table: SourceTable, windows: Collection[Window]
    ) -> None:
        """Write into table on connection, which is in a transaction."""
        self.connection = connection
        self.table = table
        self.windows = windows

    @property
    def wire(self) -> Sequence[Column]:
        """The columns of the rows that are copied."""
        return self.table.columns

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
        """Bring the rows into the table; return what became of them."""


def writer_of(connection: Connection, table: SourceTable, windows: Collection[Window]) -> Writer:
    """Return the writer of a table's write mode."""
    kinds: dict[str, type[Writer]] = {"append": AppendWriter, "merge": MergeWriter}
    return kinds[table.write_mode](connection, table, windows)


class AppendWriter(Writer):
    """Adds rows."""

    def begin(self) -> None:
        """Begin at nothing."""
        self.rows = 0

    def copy(self, parquet: Path) -> None:
        """Copy into the table. Raises LoadConflictError where it has one of the keys."""
        try:
            self.rows += copy_rows(self.connection, target_of(self.table), self.wire, parquet)
        except psycopg.errors.UniqueViolation as error:
            raise LoadConflictError(
                f"{self.table.name}: a key is delivered that the table has already "
                f"({error.diag.message_detail}); nothing was loaded. An appended table takes a key "
                "once: use write_mode='merge', or leave the key out"
            ) from error

    def finish(self) -> Counts:
        """Return how many rows were copied."""
        return Counts(inserted=self.rows)


class MergeWriter(Writer):
    """Lets the newest row of each key win, in the load and against the table."""

    stage = sql.Identifier("lakebed_stage")

    @property
    def needs_files(self) -> bool:
        """As long as a doubled key may make it copy them again, into the stage."""
        return self.straight

    def begin(self) -> None:
        """Copy straight into the table where nothing can be met, else into a temporary one."""
        self.rows = 0
        self.copied: list[Path] = []
        self.straight = self._is_empty()
        if self.straight:
            self.connection.execute("savepoint straight")
        else:
            self._make_stage()

    def copy(self, parquet: Path) -> None:
        """Copy at the speed of an append; from the first key that stands twice, by the stage."""
        if not self.straight:
            self.rows += copy_rows(self.connection, self.stage, self.wire, parquet)
            return
        self.copied.append(parquet)
        try:
            self.rows += copy_rows(self.connection, target_of(self.table), self.wire, parquet)
        except psycopg.errors.UniqueViolation:
            self.connection.execute("rollback to savepoint straight")
            self.straight = False
            self._make_stage()
            self.rows = sum(
                copy_rows(self.connection, self.stage, self.wire, path) for path in self.copied
            )

    def finish(self) -> Counts:
        """Merge what is in the stage.

        Rows that would not change are not written. Among equals the later in the files is newer.
        """
        if self.straight:
            return Counts(inserted=self.rows)
        self.connection.execute(sql.SQL("analyze {}").format(self.stage))
        latest, known, written = self.connection.execute(
            merge_statement(self.table, self.stage)
        ).fetchall()[0]
        inserted = latest - known
        return Counts(inserted, written - inserted, latest - written, self.rows - latest)

    def _make_stage(self) -> None:
        self.connection.execute(
            sql.SQL("create temporary table {} on commit drop as select {} from {} limit 0").format(
                self.stage, names(self.table.column_names), target_of(self.table)
            )
        )

    def _is_empty(self) -> bool:
        """Whether the table has no row that the load could meet."""
        where: sql.Composable = sql.SQL("true")
        if self.windows:
            where = sql.SQL(
                "{time} >= {lower}::timestamptz and {time} < {upper}::timestamptz"
            ).format(
                time=sql.Identifier(self.table.partitioned.column),
                lower=min(window.lower for window in self.windows).isoformat(),
                upper=max(window.upper for window in self.windows).isoformat(),
            )
        query = sql.SQL("select not exists (select from {} where {})").format(
            target_of(self.table), where
        )
        return bool(self.connection.execute(query).fetchall()[0][0])


def merge_statement(table: SourceTable, stage: sql.Composable) -> sql.Composed:
    """Return the merge of a stage; it answers how many rows are latest, known and written."""
    others = [name for name in table.column_names if name not in table.key]
    order: list[sql.Composable] = [sql.Identifier(name) for name in table.key]
    guard: sql.Composable = sql.SQL("")
    if table.cursor is not None and table.cursor not in table.key:
        cursor = sql.Identifier(table.cursor)
        order.append(sql.SQL("{} desc").format(cursor))
        guard = sql.SQL(" and excluded.{0} >= hot.{0}").format(cursor)
    order.append(sql.SQL("ctid desc"))
    action: sql.Composable = sql.SQL("nothing")
    if others:
        action = sql.SQL("update set {} where ({}) is distinct from ({}){}").format(
            sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others
            ),
            sql.SQL(", ").join(sql.Identifier("hot", name) for name in others),
            sql.SQL(", ").join(sql.Identifier("excluded", name) for name in others),
            guard,
        )
    return sql.SQL(
        "with latest as (select distinct on ({key}) {columns} from {stage} order by {order}),"
        " known as (select count(*) as rows from latest join {table} using ({key})),"
        " written as (insert into {table} as hot ({columns}) select {columns} from latest"
        " on conflict ({key}) do {action} returning 1)"
        " select (select count(*) from latest), (select rows from known), count(*) from written"
    ).format(
        key=names(table.key),
        columns=names(table.column_names),
        stage=stage,
        order=sql.SQL(", ").join(order),
        table=target_of(table),
        action=action,
    )


def target_of(table: SourceTable) -> sql.Identifier:
    """Return the table in PostgreSQL."""
    return sql.Identifier("public", table.name)


def names(columns: Sequence[str]) -> sql.Composable:
    """Return quoted column names with commas between them."""
    return sql.SQL(", ").join(sql.Identifier(name) for name in columns)
