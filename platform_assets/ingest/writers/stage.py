"""The stage: a temporary table that holds a load's rows as they came over the wire.

Out of it the writers take the rows as the table wants them: with the surrogate keys of other tables
instead of natural ones, and with the position of each row, which orders two equal ones.
"""

from __future__ import annotations

from pathlib import Path

from psycopg import sql

from lakebed.ingest.writers import lookups
from lakebed.ingest.writers.writer import LoadStamp
from lakebed.pgcopy.encoding import copy_rows
from lakebed.resources.postgres import Connection
from lakebed.spec.columns import GONE
from lakebed.spec.table import SourceTable

PLACE = "lakebed_place"
MEMORY = "64MB"


class Stage:
    """The rows of one load, before they are in the table."""

    name = sql.Identifier("lakebed_stage")

    def __init__(self, connection: Connection, table: SourceTable, load: LoadStamp) -> None:
        """Make the stage; it goes with the transaction."""
        self.connection = connection
        self.table = table
        self.load = load
        self.rows = 0
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.postgres))
            for column in table.wire
        )
        connection.execute(
            sql.SQL("create temporary table {} ({}) on commit drop").format(self.name, columns)
        )

    def copy(self, parquet: Path) -> None:
        """Copy the rows of one file."""
        self.rows += copy_rows(self.connection, self.name, self.table.wire, parquet)

    def settle(self, *, joined: bool = True) -> int:
        """Make the stage ready to be read, its parents included; return how many rows it rejected.

        joined: whether it will be joined to something, for which the planner has to know it.
        Raises LoadConflictError where more rows lack their parent than the table allows.
        """
        # What follows sorts and joins all of it once; the default would do that on disk.
        self.connection.execute(sql.SQL("set local work_mem = {}").format(sql.Literal(MEMORY)))
        if joined:
            self.connection.execute(
                sql.SQL("analyze {} ({})").format(self.name, self._columns_that_matter())
            )
        lookups.insert_missing(self.connection, self.table, self.name)
        return lookups.reject_missing(self.connection, self.table, self.name, self.load, self.rows)

    @property
    def source(self) -> sql.Composable:
        """The stage's rows as a query: the table's columns, whether it is gone, and its place."""
        found, joins = lookups.joined(self.table)
        wire = {column.name for column in self.table.wire}
        columns = [
            found.get(name, sql.Identifier("stage", name))
            for name in self.table.written_names
            if name in found or name in wire
        ]
        gone = sql.Identifier("stage", GONE) if GONE in wire else sql.SQL("false")
        return sql.SQL("select {}, {} as {}, stage.ctid as {} from {} as stage{}").format(
            sql.SQL(", ").join(columns),
            gone,
            sql.Identifier(GONE),
            sql.Identifier(PLACE),
            self.name,
            joins,
        )

    def _columns_that_matter(self) -> sql.Composable:
        """The columns by which the stage is joined and sorted; more statistics would cost time."""
        wire = [column.name for column in self.table.wire]
        joined = {*self.table.key, *(n for lookup in self.table.lookups for n in lookup.natural)}
        return sql.SQL(", ").join(
            sql.Identifier(name) for name in wire if name in joined or not joined
        )
