"""Evolution at the start of a load: columns that a file brings are added to its table.

The column is added before the load's transaction, in one of its own together with its record: the
lock on the table is then held for milliseconds, not for as long as the rows take. Where the load
fails afterwards, the table keeps an empty column, which the record explains and the next load uses.
A load of another window that is writing holds the lock for longer: the column then waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import LiteralString, NoReturn

import polars as pl
from psycopg import sql

from lakebed.ingest.contract import unknown_columns
from lakebed.ingest.report import LoadReport
from lakebed.ingest.sources.reader import Reader, SourceError, SourceItem, quoted
from lakebed.resources.locks import evolve_lock
from lakebed.resources.postgres import Connection, change_schema
from lakebed.schema.apply import read_found
from lakebed.schema.evolved import effective, evolved_column, record_statement, utc_day
from lakebed.schema.plan import SMALL_BYTES, Found
from lakebed.schema.registry import withdraw_views
from lakebed.spec.postgres_types import cold_type, field_line, types_of, widening
from lakebed.spec.schema import Column
from lakebed.spec.table import SourceTable
from lakebed.spec.table_rules import name_problem
from lakebed.spec.types import SchemaError, type_map


@dataclass
class Columns:
    """The columns of one load as its files are looked at: evolved, widened, left out.

    table: with its evolved columns.  evolved: what was changed, in words.  discarded: source
    columns that no row is loaded from, in the order they were met.
    """

    table: SourceTable
    evolved: list[str] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)

    def meet(
        self,
        connection: Connection,
        reader: Reader,
        item: SourceItem,
        now: Callable[[], datetime],
    ) -> SourceTable:
        """Bring the table up to a file's columns; return it. Raises SourceError, LockWaitError.

        The connection must be in autocommit mode.
        """
        there = reader.columns(item)
        if there is None:
            return self.table  # what its rows bring is judged batch by batch
        if self.table.new_columns == "evolve" and (
            self.table.evolved or unknown_columns(self.table, there)
        ):
            types = reader.types(item)
            with evolve_lock(self.table.name).held(connection):
                current = effective(connection, self.table)
                self.evolved += _Evolution(connection, current, item, types, now()).run()
                self.table = effective(connection, self.table)
        if self.table.new_columns != "freeze":
            left_out = unknown_columns(self.table, there)
            self.discarded += [name for name in left_out if name not in self.discarded]
        return self.table

    def with_column_changes(self, report: LoadReport) -> LoadReport:
        """Return a report that says what became of the columns, too."""
        return replace(report, evolved=tuple(self.evolved), discarded=tuple(self.discarded))


class _Evolution:
    """What one file changes in its table."""

    def __init__(
        self,
        connection: Connection,
        table: SourceTable,
        item: SourceItem,
        types: Mapping[str, pl.DataType | None],
        now: datetime,
    ) -> None:
        self.connection = connection
        self.table = table
        self.item = item
        self.types = types
        self.now = now

    def run(self) -> list[str]:
        """Change the table in one transaction; say in words what was changed."""
        new = unknown_columns(self.table, list(self.types))
        added = [column for name in new if (column := self._new(name)) is not None]
        self._check_case(added)
        wider = [pair for column in self.table.evolved if (pair := self._wider(column)) is not None]
        if not added and not wider:
            return []
        found = read_found(self.connection, self.table)
        assert found is not None
        statements = [withdraw_views(self.table)] if wider else []
        changes = []
        for column in added:
            evolved, add = self._add(column, found)
            statements += [*add, record_statement(self.table, evolved, self.item.name, self.now)]
            changes.append(f"{evolved.name} {evolved.postgres}, from {self.item.name}")
        for old, column in wider:
            self._check_size(old, column, found)
            statements += [
                self._alter(
                    "alter column {} type {}", sql.Identifier(old.name), sql.SQL(column.postgres)
                ),
                record_statement(self.table, column, self.item.name, self.now),
            ]
            changes.append(f"{old.name} {old.postgres} -> {column.postgres}, from {self.item.name}")
        everything = effective(self.connection, self.table).evolved
        changed = {column.name: column for _, column in wider}
        whole = [changed.get(column.name, column) for column in everything] + added
        statements.append(
            sql.SQL("comment on table {} is {}").format(
                self._name, sql.Literal(self.table.extended(whole).description)
            )
        )
        change_schema(self.connection, statements)
        return changes

    def _new(self, name: str) -> Column | None:
        """Return a new column; None where the file has no value in it, and so no type."""
        problem = name_problem(name)
        if problem is not None:
            self._refuse(f"column {quoted(name)}{problem}, or add it to ignored=(...)")
        if name in self.table.column_names:
            self._refuse(f"column {name!r} is one that the load makes; add it to ignored=(...)")
        dtype = self.types[name]
        if isinstance(dtype, pl.Null):
            return None
        return evolved_column(
            name, self._postgres(name, dtype or pl.String()), self.item.name, utc_day(self.now)
        )

    def _postgres(self, name: str, dtype: pl.DataType) -> str:
        try:
            return type_map(name, cold_type(name, dtype)).postgres
        except SchemaError as error:
            self._refuse(
                f"the new {error}; add it to the model in a type that can hold it, "
                "or to ignored=(...)"
            )

    def _check_case(self, added: list[Column]) -> None:
        seen = {name.lower(): name for name in self.table.column_names}
        for column in added:
            twin = seen.setdefault(column.name.lower(), column.name)
            if twin != column.name:
                self._refuse(
                    f"columns {twin!r} and {column.name!r} differ in upper and lower case only, "
                    "which DuckDB does not tell apart; rename one, or add it to ignored=(...)"
                )

    def _wider(self, column: Column) -> tuple[Column, Column] | None:
        """Return an evolved column with the wider one that the file needs, if it needs one."""
        dtype = self.types.get(column.name)
        if dtype is None or isinstance(dtype, pl.Null):
            return None  # text is cast to the type that is there, value by value
        given = self._postgres(column.name, dtype)
        if given == column.postgres or widening(given, column.postgres) is not None:
            return None
        wider = evolved_column(column.name, given, self.item.name, utc_day(self.now))
        if widening(column.postgres, given) is None:
            name = sql.Identifier(column.name)
            command = self._alter(
                "alter column {} type {} using {}::{}",
                name,
                sql.SQL(given),
                name,
                sql.SQL(given),
            ).as_string()
            self._refuse(
                f"column {column.name!r} is {given}, the table has it as {column.postgres}, and "
                "neither holds the other's values. Deliver it as it was; or declare the type you "
                f"want in the model, `{field_line(wider)}`, and run `{command}`"
            )
        return column, wider

    def _add(self, column: Column, found: Found) -> tuple[Column, list[sql.Composed]]:
        """Return a new column as the table will have it: one of its name may be there already."""
        there = {c.name: c.kind for c in found.columns}.get(column.name)
        comment = sql.SQL("comment on column {} is {}").format(
            sql.Identifier("public", self.table.name, column.name), sql.Literal(column.description)
        )
        if there is None:
            add = self._alter(
                "add column {} {}", sql.Identifier(column.name), sql.SQL(column.postgres)
            )
            return column, [add, comment]
        untyped = self.types[column.name] is None
        holds = there == column.postgres or widening(column.postgres, there) is not None
        if types_of(there) is None or not (holds or untyped):
            self._refuse(
                f"column {column.name!r} is {column.postgres}, and {self.table.name} has a column "
                f"of that name as {there}; add it to the model, or to ignored=(...)"
            )
        evolved = evolved_column(column.name, there, self.item.name, utc_day(self.now))
        return evolved, [comment]

    def _check_size(self, old: Column, wider: Column, found: Found) -> None:
        rewrites = widening(old.postgres, wider.postgres) == "rewrite"
        if rewrites and found.bytes > SMALL_BYTES:
            self._refuse(
                f"column {old.name!r} is {wider.postgres}, the table has it as {old.postgres}, and "
                f"widening would rewrite {found.rows:,} rows ({found.bytes:,} bytes) and block "
                f"readers. Add `{field_line(wider)}` to the model and run "
                f"`lakebed apply {self.table.name} --blocking` when readers can wait"
            )

    def _alter(self, action: LiteralString, *parts: sql.Composable) -> sql.Composed:
        return sql.SQL("alter table {} {}").format(self._name, sql.SQL(action).format(*parts))

    @property
    def _name(self) -> sql.Identifier:
        return sql.Identifier("public", self.table.name)

    def _refuse(self, problem: str) -> NoReturn:
        raise SourceError(self.item.path, problem)
