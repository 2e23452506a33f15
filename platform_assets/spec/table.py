"""The catalogue: what a source table is, and what is to be done with it.

Everything here is frozen and checked when it is constructed: a table file that makes no sense
cannot be imported, and the error names the table, the field and the way out. No dagster, no I/O.
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
    """A table that makes no sense; the text names the table, the field and the way out."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """One table: its contract, its source, its policies.

    name: of the table in Postgres, in the lake and in SQL.  model: the contract, and the single
    source of types.  cursor: the column that grows with time.  lag: how far before the cursor a
    database or an API is read again, for rows that come late.  key: the columns that tell one row
    from another; needed for merge and history.  write_mode: append adds rows, merge lets the newest
    row of a key win, replace makes the table what the source holds whenever that changed, history
    keeps every version of a row with the time for which it held.  load_by: cursor takes what is new
    in the source; window replaces one partition at a time by what the source has of it, and
    remembers nothing.  deletes: how the source says that a row is gone; "full_extract" where
    each load reads one.  surrogate: a key that PostgreSQL makes for each row, for other tables to
    refer to.  unique: further sets of columns whose values are unique in the table.  lookups:
    natural keys that become the surrogate keys of other tables.
    reject_share: the share of bad rows above which a file is refused as a whole.  new_columns: what
    to do with columns the contract does not know: freeze refuses the file, discard leaves them out
    and reports them, evolve adds them to the table.  missing_columns: what to do where a nullable
    column is missing: refuse the file, or take null.  ignored: source columns that are left out on
    purpose.  transforms: how columns come out of the source where they do not have its name and its
    values.  changed_files: what to do with a file that was loaded and has changed since: reload all
    of it (merge, history), read what was added where it has only grown, or refuse it.
    parallel_files: how many files of an append are loaded at once, each in its own transaction;
    with 1, all files of a load are one transaction.  undo_loads: of how many last loads the rows
    that they updated or deleted are kept, so that `lakebed rollback` can put them back; 0 for none.
    lake_copies: how many of the last copies of a table without partitioning the lake keeps, one a
    load that changed it; 3 where nothing is said, 0 for none.
    freshness: how old the newest row may be.  redact: columns whose values the checks in the UI do
    not show.  optional: whether there may be nothing at the source yet; a load of a source in which
    nothing is and nothing ever was fails otherwise.  schema: PostgreSQL's, in which an adopted
    table is.  adopted: others made the table: nothing of it is made, altered or dropped but by
    `lakebed apply`, and no leaf ever.  Raises TableError.
    """

    name: str
    model: type[DataFrameModel]
    source: Source | None = None
    cursor: str | None = None
    lag: timedelta | int | float | None = None
    key: tuple[str, ...] = ()
    write_mode: WriteMode = "append"
    load_by: LoadBy = "cursor"
    deletes: Deletes | Literal["full_extract"] | None = None
    surrogate: Surrogate | None = None
    unique: tuple[tuple[str, ...], ...] = ()
    lookups: tuple[Lookup, ...] = ()
    partitioning: Partitioning | None = None
    tiering: Tiering | None = None
    reject_share: float = 0.01
    new_columns: NewColumns = "freeze"
    missing_columns: MissingColumns = "refuse"
    ignored: tuple[str, ...] = ()
    transforms: Mapping[str, Mapped] = field(default_factory=dict, hash=False)
    changed_files: ChangedFiles | None = None
    parallel_files: int = 1
    undo_loads: int = 3
    lake_copies: int | None = None
    owner: str | None = None
    freshness: timedelta | None = None
    redact: tuple[str, ...] = ()
    optional: bool = False
    schema: str = "public"
    adopted: bool = False
    columns: tuple[Column, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derive the columns and refuse nonsense."""
        lookups: Any = self.lookups  # one alone, and a list of them, are taken too
        if isinstance(lookups, Lookup | list):
            lookups = (lookups,) if isinstance(lookups, Lookup) else tuple(lookups)
            object.__setattr__(self, "lookups", lookups)
        table_rules.check_kinds(self)
        if not is_name(self.name):
            self.refuse("name", "use lower case letters, digits and _, at most 40, a letter first")
        if self.deletes == "full_extract":
            object.__setattr__(self, "deletes", Deletes(full_extract=True))
        if not isinstance(self.deletes, Deletes | None):
            self.refuse("deletes", f"{self.deletes!r} is neither Deletes(...) nor 'full_extract'")
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
        """The docstring of the model, with its indentation taken out, and what has evolved."""
        lines = (self.model.__doc__ or "").strip().splitlines()
        text = "\n".join(line.strip() for line in lines)
        if self.evolved:
            more = ", ".join(f"{column.name} ({column.postgres})" for column in self.evolved)
            text += f"\nColumns that the source brought: {more}."
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
        """The table for people, with its schema."""
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
        """The tables that the lookups refer to and that have a file of their own, by name."""
        found: Mapping[str, SourceTable] = self.__dict__.get("_parents", {})
        return found

    def with_parents(self, tables: Sequence[SourceTable]) -> SourceTable:
        """Return the table with those of the tables that its lookups refer to."""
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
        """The columns of the model and the evolved ones: what a row of the source holds."""
        evolved = [column for column in self.__dict__.get("columns", ()) if column.evolved]
        return (*columns_of(self.model, self.name), *evolved)

    @cached_property
    def wire(self) -> tuple[Column, ...]:
        """The columns of the rows that go to PostgreSQL: the contract's, and what is said of rows.

        Where the source marks rows that are gone, they may lack whatever a delete does not need.
        """
        needed = {*self.key, *([self.cursor] if self.cursor else [])}
        for lookup in self.lookups:
            if lookup.column in needed:
                needed |= set(lookup.natural)
        return columns_on_the_wire(self.contract, sorted(needed), self.deleting, self.lookups)

    @property
    def deleting(self) -> Deletes | None:
        """How the source says that a row is gone; None where it never does."""
        assert self.deletes != "full_extract"  # it was turned into Deletes when this was made
        return self.deletes

    @property
    def marker(self) -> str | None:
        """The source column that says whether a row is gone."""
        return self.deleting.marker if self.deleting else None

    @property
    def loads_whole(self) -> bool:
        """Whether a load reads all of the source when any of it has changed."""
        return self.write_mode == "replace" or bool(self.deleting and self.deleting.full_extract)

    @property
    def rejects_missing_parents(self) -> bool:
        """Whether a row is a reject where a parent that it names is missing."""
        return any(not lookup.insert_missing for lookup in self.lookups)

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the primary key in PostgreSQL; empty for none."""
        return (*self.key, VALID_FROM) if self.write_mode == "history" else self.key

    @property
    def contract_names(self) -> tuple[str, ...]:
        """The names of the columns of the model."""
        return tuple(column.name for column in self.contract)

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns that are read of the source, by its own names."""
        found = source_columns(self.transforms, self.contract_names)
        marker = self.marker
        return found if marker is None or marker in found else (*found, marker)

    @property
    def json_columns(self) -> frozenset[str]:
        """The source's columns whose values a JSON source gives as JSON, strings in quotes."""
        return json_columns(self.transforms, self.contract) - {self.marker}

    def column(self, name: str) -> Column:
        """Return a column of the table."""
        return next(column for column in self.columns if column.name == name)

    @property
    def evolved(self) -> tuple[Column, ...]:
        """The columns that the source brought and the model does not have; see `extended`."""
        return tuple(column for column in self.columns if column.evolved)

    def extended(self, columns: Sequence[Column]) -> SourceTable:
        """Return the table with these evolved columns after those of its model, and no others."""
        table = copy.copy(self)
        mine = tuple(column for column in self.columns if not column.evolved)
        object.__setattr__(table, "columns", (*mine, *columns))
        for derived in ("contract", "wire"):
            table.__dict__.pop(derived, None)
        return table

    @property
    def require_source(self) -> Source:
        """The source, of a table that has one. Raises TableError."""
        if self.source is None:
            raise TableError(f"table {self.name}: it has no source; others write it")
        return self.source

    @property
    def require_partitioning(self) -> Partitioning:
        """The partitioning, of a table that has one. Raises TableError."""
        if self.partitioning is None:
            raise TableError(f"table {self.name}: it has no partitioning, so it has no partitions")
        return self.partitioning

    @property
    def require_tiering(self) -> Tiering:
        """The tiering, of a table that has one. Raises TableError."""
        if self.tiering is None:
            raise TableError(f"table {self.name}: it has no tiering; give it one to move it")
        return self.tiering

    @property
    def kept_lake_copies(self) -> int:
        """How many snapshots the lake keeps; 0 for a table that settles by its partitions."""
        if self.lake_copies is None:
            return 0 if self.partitioning else DEFAULT_LAKE_COPIES
        return self.lake_copies

    def windows(self, now: datetime) -> Iterator[Window]:
        """Yield the windows from the start to the one that holds now, or to the end."""
        by = self.require_partitioning
        return windows_between(by.grain, by.start, by.end or by.grain.step(by.grain.floor(now)))

    def window(self, moment: datetime) -> Window:
        """Return the window that holds the moment."""
        return window_of(self.require_partitioning.grain, moment)

    def floor_of(self, cursor: Any) -> Any:
        """Return the cursor from which on a queried source is asked: the given one less the lag.

        Where there is nothing so early, it is the given one.
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
                "an append from a source that changes takes what lies beyond a cursor: declare "
                "one, use merge with a key, or say changed_files='refuse' to load it once",
            )
        return "grown" if resumes == "bytes" else "refuse"

    def refuse(self, what: str, why: str) -> NoReturn:
        """Say what field of the table makes no sense, and the way out. Raises TableError."""
        raise TableError(f"table {self.name!r}: {what}: {why}")
