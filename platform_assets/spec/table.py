"""Declare a source table: its contract, its source and its policies. No I/O.

A declaration is frozen and checked when it is constructed. A contradiction raises an error that
names the table, the field and how to fix it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from math import ceil
from typing import Any, Literal, NoReturn

from pandera.polars import DataFrameModel
from psycopg import sql

from lakebed.errors import WRONG_USAGE, LakebedError
from lakebed.spec import table_rules
from lakebed.spec.columns import VALID_FROM, columns_in_table, columns_on_the_wire
from lakebed.spec.export import Csv as Csv
from lakebed.spec.export import Export as Export
from lakebed.spec.names import is_name
from lakebed.spec.partitions import Grain as Grain
from lakebed.spec.partitions import Window, window_of, windows_between
from lakebed.spec.policies import ChangedFiles, LoadBy, MissingColumns, NewColumns, WriteMode
from lakebed.spec.policies import Deletes as Deletes
from lakebed.spec.policies import Lookup as Lookup
from lakebed.spec.policies import Partitioning as Partitioning
from lakebed.spec.policies import Surrogate as Surrogate
from lakebed.spec.policies import Tiering as Tiering
from lakebed.spec.queried_sources import DltResource as DltResource
from lakebed.spec.queried_sources import DuckdbTable as DuckdbTable
from lakebed.spec.queried_sources import RestApi as RestApi
from lakebed.spec.queried_sources import Secret as Secret
from lakebed.spec.queried_sources import SqliteTable as SqliteTable
from lakebed.spec.queried_sources import SqlTable as SqlTable
from lakebed.spec.schema import Column, columns_of
from lakebed.spec.sources import ArrowFiles as ArrowFiles
from lakebed.spec.sources import CsvFiles as CsvFiles
from lakebed.spec.sources import JsonFiles as JsonFiles
from lakebed.spec.sources import ParquetFiles as ParquetFiles
from lakebed.spec.sources import Source
from lakebed.spec.transforms import Mapped as Mapped
from lakebed.spec.transforms import json_columns, source_columns
from lakebed.spec.types import SchemaError

DAY = timedelta(days=1)
DEFAULT_LAKE_COPIES = 3


class TableError(LakebedError, ValueError):
    """A wrong declaration of a table; the text names the table, the field and the fix."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """One table: its contract, its source and its policies.

    Raises:
        TableError: The declaration contradicts itself; the text names the field and the fix.
    """

    name: str
    """Name of the table in PostgreSQL, in the lake and in SQL."""
    model: type[DataFrameModel]
    """The contract, a pandera `DataFrameModel`: the columns, their types and their rules."""
    source: Source | None = None
    """Where the rows come from: files, a database, an API or a dlt resource. None for a table that
    an application writes."""
    cursor: str | None = None
    """The column that grows with time. A load reads rows beyond its last value."""
    lag: timedelta | int | float | None = None
    """How far before the last cursor a load reads a database or an API again, to find late rows: a
    timedelta or a number."""
    key: tuple[str, ...] = ()
    """The columns that identify a row: the primary key. Merge and history need one. The key of a
    partitioned table includes its time column."""
    write_mode: WriteMode = "append"
    """`append` adds rows. `merge` keeps the newest row of each key and does not rewrite equal rows.
    `replace` makes the table equal to its source. `history` keeps every version of a row with the
    time for which it was valid."""
    load_by: LoadBy = "cursor"
    """`cursor` loads what is new in the source. `window` replaces one partition at a time with the
    rows that the source has now."""
    deletes: Deletes | Literal["full_extract"] | None = None
    """How the source says that a row is deleted: `Deletes(...)`. `"full_extract"` is short for
    `Deletes(full_extract=True)`."""
    surrogate: Surrogate | None = None
    """A key that PostgreSQL makes for each row, to which other tables refer: `Surrogate("id")`. The
    model has no field for it."""
    unique: tuple[tuple[str, ...], ...] = ()
    """Further sets of columns whose values are unique in the table, such as `(("isbn",), ("author",
    "title"))`."""
    lookups: tuple[Lookup, ...] = ()
    """Natural keys that a load turns into surrogate keys of other tables: one `Lookup(...)`, a
    tuple or a list."""
    partitioning: Partitioning | None = None
    """How time divides the table into partitions: `Partitioning(...)`."""
    tiering: Tiering | None = None
    """When partitions move to the lake: `Tiering(...)`."""
    reject_share: float = 0.01
    """The share of bad rows above which a load refuses a file as a whole. A batch of which every
    row is bad refuses its file too."""
    new_columns: NewColumns = "freeze"
    """What a load does with a column that the contract does not have. `freeze` refuses the file,
    `discard` skips and reports the column, `evolve` adds it to the table."""
    missing_columns: MissingColumns = "refuse"
    """What a load does where a file does not have a nullable column. `refuse` refuses the file,
    `null` reads nulls."""
    ignored: tuple[str, ...] = ()
    """Columns of the source that loads skip and do not report."""
    transforms: Mapping[str, Mapped] = field(default_factory=dict, hash=False)
    """How to make columns from the source, by column: `{"price": Mapped(...)}`. A column without an
    entry takes the source's column of its name."""
    changed_files: ChangedFiles | None = None
    """What a load does with an item that has changed since it was loaded. `reload` reads all of it:
    the default of merge from files, of replace, history and full extracts. `grown` reads the rows
    that were added: the default of databases with a cursor and of appends from CSV and JSON lines.
    `refuse` reports it: the default of appends from Parquet and Arrow."""
    parallel_files: int = 1
    """How many files of an append load at once, each in its own transaction. With 1, all files of a
    load are one transaction."""
    undo_loads: int = 3
    """For how many of the last loads the platform keeps the rows that they updated or deleted, so
    that `lakebed rollback` can restore them. Appends need none."""
    lake_copies: int | None = None
    """How many copies of a table without partitioning the lake keeps, one for each load that
    changed it. By default 3 without partitioning and 0 with it."""
    owner: str | None = None
    """`team:...` or an e-mail address, for the UI."""
    freshness: timedelta | None = None
    """How old the newest row may be. An asset check reports an older one."""
    redact: tuple[str, ...] = ()
    """Columns whose values the UI does not show in examples of failed checks."""
    optional: bool = False
    """Whether the source may be empty. Otherwise a load fails where the source is empty and has
    never had an item."""
    schema: str = "public"
    """PostgreSQL's schema of an adopted table. The lake and SQL over both tiers use the name
    alone."""
    adopted: bool = False
    """Whether an application owns the table. Lakebed then creates, alters and drops nothing, except
    by `lakebed apply`, and never creates a partition table."""
    columns: tuple[Column, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derive the columns and refuse contradictions."""
        lookups: Any = self.lookups  # a single one and a list are accepted too
        if isinstance(lookups, Lookup | list):
            lookups = (lookups,) if isinstance(lookups, Lookup) else tuple(lookups)
            object.__setattr__(self, "lookups", lookups)
        table_rules.check_kinds(self)
        if not is_name(self.name):
            self.refuse(
                "name",
                "expected at most 40 lower case letters, digits and _, with a letter first",
            )
        if self.deletes == "full_extract":
            object.__setattr__(self, "deletes", Deletes(full_extract=True))
        if not isinstance(self.deletes, Deletes | None):
            self.refuse(
                "deletes", f"it is {self.deletes!r}. Expected Deletes(...) or 'full_extract'"
            )
        try:
            columns = columns_in_table(
                self.contract,
                self.lookups,
                self.surrogate,
                history=self.write_mode == "history",
            )
        except SchemaError as error:
            self.refuse("model", str(error))
        object.__setattr__(self, "columns", columns)
        if self.changed_files is None:
            object.__setattr__(self, "changed_files", self._default_for_changed_files())
        object.__setattr__(self, "transforms", dict(self.transforms))
        table_rules.check(self)

    @property
    def description(self) -> str:
        """The docstring of the model without indentation, and the evolved columns."""
        lines = (self.model.__doc__ or "").strip().splitlines()
        text = "\n".join(line.strip() for line in lines)
        if self.evolved:
            more = ", ".join(f"{column.name} ({column.postgres})" for column in self.evolved)
            text += f"\nColumns added from the source: {more}."
        return text

    @property
    def relation(self) -> sql.Identifier:
        """The table in PostgreSQL's SQL."""
        return sql.Identifier(self.schema, self.name)

    @property
    def oid(self) -> sql.Literal:
        """The table for to_regclass()."""
        return sql.Literal(self.relation.as_string())

    @property
    def place(self) -> str:
        """The table with its schema, for people."""
        return f"{self.schema}.{self.name}"

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the table's columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def written_names(self) -> tuple[str, ...]:
        """The names of the columns that loads write: all but the surrogate."""
        made = self.surrogate.column if self.surrogate is not None else None
        return tuple(name for name in self.column_names if name != made)

    @property
    def parents(self) -> Mapping[str, SourceTable]:
        """The tables that the lookups refer to and that table files declare, by name."""
        found: Mapping[str, SourceTable] = self.__dict__.get("_parents", {})
        return found

    def with_parents(self, tables: Sequence[SourceTable]) -> SourceTable:
        """Return the table, linked to the tables that its lookups refer to."""
        names = {lookup.table for lookup in self.lookups} - {self.name}
        parents = {table.name: table for table in tables if table.name in names}
        if not parents:
            return self
        linked = copy.copy(self)
        linked.__dict__["_parents"] = {
            name: parent.with_parents([one for one in tables if one.name != self.name])
            for name, parent in parents.items()
        }
        return linked

    @cached_property
    def contract(self) -> tuple[Column, ...]:
        """The columns of a source row: those of the model and the evolved ones."""
        evolved = [column for column in self.__dict__.get("columns", ()) if column.evolved]
        return (*columns_of(self.model, self.name), *evolved)

    @cached_property
    def wire(self) -> tuple[Column, ...]:
        """The columns of the rows that a load sends: the contract's and those about the row.

        A row that the source marks as deleted needs only the columns that find the row.
        """
        needed = {*self.key, *([self.cursor] if self.cursor else [])}
        for lookup in self.lookups:
            if lookup.column in needed:
                needed |= set(lookup.natural)
        return columns_on_the_wire(self.contract, sorted(needed), self.deleting, self.lookups)

    @property
    def deleting(self) -> Deletes | None:
        """How the source says that a row is deleted, or None."""
        assert self.deletes != "full_extract"  # the constructor turns it into Deletes
        return self.deletes

    @property
    def marker(self) -> str | None:
        """The source column that marks deleted rows."""
        return self.deleting.marker if self.deleting else None

    @property
    def loads_whole(self) -> bool:
        """Whether a load reads the whole source when any part of it has changed."""
        return self.write_mode == "replace" or bool(self.deleting and self.deleting.full_extract)

    @property
    def rejects_missing_parents(self) -> bool:
        """Whether a row without its parent is a reject."""
        return any(not lookup.insert_missing for lookup in self.lookups)

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the primary key in PostgreSQL; empty without one."""
        return (*self.key, VALID_FROM) if self.write_mode == "history" else self.key

    @property
    def contract_names(self) -> tuple[str, ...]:
        """The names of the columns of the model."""
        return tuple(column.name for column in self.contract)

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns that a load reads from the source, by the source's names."""
        found = source_columns(self.transforms, self.contract_names)
        marker = self.marker
        return found if marker is None or marker in found else (*found, marker)

    @property
    def json_columns(self) -> frozenset[str]:
        """The source's columns whose values a JSON source yields as JSON, strings in quotes."""
        return json_columns(self.transforms, self.contract) - {self.marker}

    def column(self, name: str) -> Column:
        """Return a column of the table."""
        return next(column for column in self.columns if column.name == name)

    @property
    def evolved(self) -> tuple[Column, ...]:
        """The columns that loads added and the model does not have; see `extended`."""
        return tuple(column for column in self.columns if column.evolved)

    def extended(self, columns: Sequence[Column]) -> SourceTable:
        """Return the table with exactly these evolved columns after those of its model."""
        table = copy.copy(self)
        declared = tuple(column for column in self.columns if not column.evolved)
        object.__setattr__(table, "columns", (*declared, *columns))
        for derived in ("contract", "wire"):
            table.__dict__.pop(derived, None)
        return table

    @property
    def require_source(self) -> Source:
        """The source of the table. Raises TableError for a table without one."""
        if self.source is None:
            raise TableError(f"table {self.name} has no source, so nothing can be loaded into it")
        return self.source

    @property
    def require_partitioning(self) -> Partitioning:
        """The partitioning of the table. Raises TableError for a table without one."""
        if self.partitioning is None:
            raise TableError(
                f"table {self.name} has no partitions; declare partitioning=Partitioning(...)"
            )
        return self.partitioning

    @property
    def require_tiering(self) -> Tiering:
        """The tiering of the table. Raises TableError for a table without one."""
        if self.tiering is None:
            raise TableError(f"table {self.name} has no tiering; declare tiering=Tiering(...)")
        return self.tiering

    @property
    def kept_lake_copies(self) -> int:
        """How many lake copies to keep; 0 by default for a partitioned table."""
        if self.lake_copies is None:
            return 0 if self.partitioning else DEFAULT_LAKE_COPIES
        return self.lake_copies

    def windows(self, now: datetime) -> Iterator[Window]:
        """Yield the windows from the start to the one that contains now, or to the end."""
        by = self.require_partitioning
        return windows_between(by.grain, by.start, by.end or by.grain.step(by.grain.floor(now)))

    def window(self, moment: datetime) -> Window:
        """Return the window that contains the moment."""
        return window_of(self.require_partitioning.grain, moment)

    def floor_of(self, cursor: Any) -> Any:
        """Return the cursor from which a load queries the source: the given one less the lag.

        Return the cursor unchanged where subtracting the lag would overflow.
        """
        if not self.lag:
            return cursor
        try:
            if isinstance(self.lag, timedelta):
                whole_days = isinstance(cursor, date) and not isinstance(cursor, datetime)
                return cursor - (ceil(self.lag / DAY) * DAY if whole_days else self.lag)
            if isinstance(cursor, int):
                return cursor - ceil(self.lag)
            return cursor - type(cursor)(str(self.lag))
        except OverflowError:
            return cursor

    def _default_for_changed_files(self) -> ChangedFiles:
        resumes = self.source.resumes if self.source is not None else None
        if self.loads_whole or self.write_mode == "history":
            return "reload"
        if resumes == "query" and self.cursor is not None:
            return "grown"
        if self.write_mode != "append":
            return "reload"
        if resumes == "query":
            self.refuse(
                "cursor",
                "an append from a queried source needs a cursor to find new rows; declare one, use "
                "merge with a key, or set changed_files='refuse' to load it once",
            )
        return "grown" if resumes == "bytes" else "refuse"

    def refuse(self, what: str, why: str) -> NoReturn:
        """Raise TableError for a field, with what is wrong with it and how to fix it."""
        raise TableError(f"table {self.name!r}: {what}: {why}")
