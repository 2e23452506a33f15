"""The catalogue: what a source table is, and what is to be done with it.

Everything here is frozen and checked when it is constructed: a table file that makes no sense
cannot be imported, and the error names the table, the field and the way out. No dagster, no I/O.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from math import ceil
from typing import Any, Literal, get_args

from pandera.polars import DataFrameModel

from platform_assets import write_modes
from platform_assets.columns import VALID_FROM, columns_in_table, columns_on_the_wire
from platform_assets.keys import is_name
from platform_assets.partitions import Grain as Grain
from platform_assets.partitions import Window, window_of, windows_between
from platform_assets.policies import (
    ChangedFiles,
    Compression,
    LoadBy,
    MissingColumns,
    NewColumns,
    WriteMode,
)
from platform_assets.policies import Deletes as Deletes
from platform_assets.policies import Lookup as Lookup
from platform_assets.policies import Partitioning as Partitioning
from platform_assets.policies import Tiering as Tiering
from platform_assets.quality.schema import Column, SchemaError, columns_of
from platform_assets.queried_sources import DltResource as DltResource
from platform_assets.queried_sources import DuckdbTable as DuckdbTable
from platform_assets.queried_sources import RestApi as RestApi
from platform_assets.queried_sources import Secret as Secret
from platform_assets.queried_sources import SqliteTable as SqliteTable
from platform_assets.queried_sources import SqlTable as SqlTable
from platform_assets.shape import From as From
from platform_assets.shape import shape_problem, source_columns
from platform_assets.sources import ArrowFiles as ArrowFiles
from platform_assets.sources import CsvFiles as CsvFiles
from platform_assets.sources import JsonFiles as JsonFiles
from platform_assets.sources import ParquetFiles as ParquetFiles
from platform_assets.sources import RejectedRows, Source

MAX_IDENTIFIER_BYTES = 63
MAX_UNDO_LOADS = 100
DAY = timedelta(days=1)
SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


class TableError(ValueError):
    """A table that makes no sense; the text names the table, the field and the way out."""


def name_problem(name: str) -> str | None:
    """Say why a column cannot have this name, to be read after the name, or None."""
    if not name or len(name.encode()) > MAX_IDENTIFIER_BYTES or "\0" in name:
        return ": PostgreSQL takes 1 to 63 bytes"
    if name in SYSTEM_COLUMNS:
        return " is PostgreSQL's own in every table; rename it"
    return None


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
    remembers nothing.  deletes: how the source says that a row is gone; "snapshot" where each load
    reads a full extract.  lookups: natural keys that become the surrogate keys of other tables.
    reject_share: the share of bad rows above which a file is refused as a whole.  new_columns: what
    to do with columns the contract does not know: freeze refuses the file, discard leaves them out
    and reports them, evolve adds them to the table.  missing_columns: what to do where a nullable
    column is missing: refuse the file, or take null.  ignored: source columns that are left out on
    purpose.  shape: how columns come out of the source where they do not have its name and its
    values.  changed_files: what to do with a file that was loaded and has changed since: reload all
    of it (merge, history), read what was added where it has only grown, or refuse it.
    parallel_files: how many files of an append are loaded at once, each in its own transaction;
    with 1, all files of a load are one transaction.  undo_loads: of how many last loads the rows
    that they updated or deleted are kept, so that `lakebed rollback` can put them back; 0 for none.
    freshness: how old the newest row may be.  Raises TableError.
    """

    name: str
    model: type[DataFrameModel]
    source: Source | None = None
    cursor: str | None = None
    lag: timedelta | int | float | None = None
    key: tuple[str, ...] = ()
    write_mode: WriteMode = "append"
    load_by: LoadBy = "cursor"
    deletes: Deletes | Literal["snapshot"] | None = None
    lookups: tuple[Lookup, ...] = ()
    partitioning: Partitioning | None = None
    tiering: Tiering | None = None
    reject_share: float = 0.01
    new_columns: NewColumns = "freeze"
    missing_columns: MissingColumns = "refuse"
    ignored: tuple[str, ...] = ()
    shape: Mapping[str, From] = field(default_factory=dict, hash=False)
    changed_files: ChangedFiles | None = None
    parallel_files: int = 1
    undo_loads: int = 3
    owner: str | None = None
    freshness: timedelta | None = None
    columns: tuple[Column, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derive the columns and refuse nonsense."""
        if not is_name(self.name):
            self._refuse("name", "use lower case letters, digits and _, at most 40, a letter first")
        if self.deletes == "snapshot":
            object.__setattr__(self, "deletes", Deletes(snapshot=True))
        try:
            columns = columns_in_table(
                self.contract, self.lookups, history=self.write_mode == "history"
            )
        except SchemaError as error:
            self._refuse("model", str(error))
        object.__setattr__(self, "columns", columns)
        if self.changed_files is None:
            object.__setattr__(self, "changed_files", self._default_for_changed_files())
        object.__setattr__(self, "shape", dict(self.shape))
        self._check_columns()
        self._check_shape()
        self._check_source()
        self._check_writing()
        self._check_lag()
        self._check_time()

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
    def column_names(self) -> tuple[str, ...]:
        """The names of the table's columns, in order."""
        return tuple(column.name for column in self.columns)

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
        assert self.deletes != "snapshot"  # it was turned into Deletes when this was made
        return self.deletes

    @property
    def marker(self) -> str | None:
        """The source column that says whether a row is gone."""
        return self.deleting.marker if self.deleting else None

    @property
    def loads_whole(self) -> bool:
        """Whether a load reads all of the source when any of it has changed."""
        return self.write_mode == "replace" or bool(self.deleting and self.deleting.snapshot)

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
        found = source_columns(self.shape, self.contract_names)
        marker = self.marker
        return found if marker is None or marker in found else (*found, marker)

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
    def sourced(self) -> Source:
        """The source, of a table that has one. Raises TableError."""
        if self.source is None:
            raise TableError(f"table {self.name}: it has no source; others write it")
        return self.source

    @property
    def partitioned(self) -> Partitioning:
        """The partitioning, of a table that has one. Raises TableError."""
        if self.partitioning is None:
            raise TableError(f"table {self.name}: it has no partitioning, so it has no partitions")
        return self.partitioning

    @property
    def settles(self) -> Tiering:
        """The tiering, of a table that has one. Raises TableError."""
        if self.tiering is None:
            raise TableError(f"table {self.name}: it has no tiering; give it one to move it")
        return self.tiering

    def windows(self, now: datetime) -> Iterator[Window]:
        """Yield the windows from the start to the one that holds now, or to the end."""
        by = self.partitioned
        return windows_between(by.grain, by.start, by.end or by.grain.step(by.grain.floor(now)))

    def window(self, moment: datetime) -> Window:
        """Return the window that holds the moment."""
        return window_of(self.partitioned.grain, moment)

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
            self._refuse(
                "cursor",
                "an append from a source that changes takes what lies beyond a cursor: declare "
                "one, use merge with a key, or say changed_files='refuse' to load it once",
            )
        return "grown" if resumes == "bytes" else "refuse"

    def _refuse(self, what: str, why: str) -> None:
        raise TableError(f"table {self.name!r}: {what}: {why}")

    def _known(self, what: str, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.column_names:
                self._refuse(
                    what, f"{name!r} is no column of the model ({', '.join(self.column_names)})"
                )

    def _check_columns(self) -> None:
        if not self.columns:
            self._refuse("model", "it has no field; declare at least one column")
        for name in self.column_names:
            problem = name_problem(name)
            if problem is not None:
                self._refuse("model", f"column {name!r}{problem}")
        folded: dict[str, str] = {}
        for name in self.column_names:
            twin = folded.setdefault(name.lower(), name)
            if twin != name:
                self._refuse(
                    "model",
                    f"columns {twin!r} and {name!r} differ in upper and lower case only, which "
                    "DuckDB does not tell apart; rename one",
                )

    def _check_shape(self) -> None:
        problem = shape_problem(self.shape, self.contract)
        if problem is not None:
            self._refuse(f"shape[{problem[0]!r}]", problem[1])
        if self.shape and self.source is None:
            self._refuse("shape", "there is no source to take columns from; others write the table")
        both = set(self.ignored) & set(self.source_columns)
        if both:
            self._refuse(
                "ignored",
                f"{sorted(both)[0]!r} is a column of the model, or shape takes one from it; take "
                "it out of one",
            )

    def _check_source(self) -> None:
        problem = self.source.problem() if self.source is not None else None
        if problem is not None:
            self._refuse("source", problem)
        if self.new_columns == "evolve" and isinstance(self.source, RestApi | DltResource):
            self._refuse(
                "new_columns", "only the rows of an API tell its columns; use freeze or discard"
            )

    def _check_lag(self) -> None:
        if self.lag is None or isinstance(self.source, RejectedRows):
            return
        if self.cursor is None or self.source is None or self.source.resumes != "query":
            self._refuse("lag", "it is for a database or an API that is read by a cursor")
            return
        column = self.column(self.cursor)
        by_time = column.polars.is_temporal() and column.postgres != "time without time zone"
        if not by_time and not column.polars.is_numeric():
            self._refuse("lag", f"{self.cursor!r} is {column.postgres}; use a time or a number")
        if isinstance(self.lag, timedelta) != by_time:
            what = "a timedelta" if by_time else "a number"
            self._refuse("lag", f"{self.cursor!r} is {column.postgres}: lag must be {what}")
        if (self.lag / DAY if isinstance(self.lag, timedelta) else self.lag) < 0:
            self._refuse("lag", "it is negative")

    def _one_of(self, what: str, value: object, known: object) -> None:
        if value not in get_args(known):
            self._refuse(what, f"{value!r} is none of {', '.join(map(repr, get_args(known)))}")

    def _check_writing(self) -> None:
        self._one_of("write_mode", self.write_mode, WriteMode)
        self._one_of("new_columns", self.new_columns, NewColumns)
        self._one_of("missing_columns", self.missing_columns, MissingColumns)
        self._one_of("changed_files", self.changed_files, ChangedFiles)
        self._one_of("load_by", self.load_by, LoadBy)
        if self.load_by == "window" and (self.source is None or self.partitioning is None):
            self._refuse("load_by", "a window is loaded from a source into a partitioned table")
        if self.load_by == "window" and self.parallel_files > 1:
            self._refuse("load_by", "windows load side by side anyway; take parallel_files out")
        self._known("key", self.key)
        if len(set(self.key)) != len(self.key):
            self._refuse("key", "a column stands in it twice")
        for name in self.key:
            if self.column(name).nullable:
                self._refuse("key", f"{name!r} may be null; a key column may not (nullable=False)")
            if not self.column(name).types.keyable:
                self._refuse(
                    "key",
                    f"{name!r} is {self.column(name).postgres}, whose values are not equal in "
                    "PostgreSQL and DuckDB alike; take another column",
                )
        if self.cursor is not None:
            self._known("cursor", (self.cursor,))
            if not self.column(self.cursor).orderable:
                self._refuse("cursor", f"{self.cursor!r} has a type without a useful order")
            if self.column(self.cursor).nullable:
                self._refuse("cursor", f"{self.cursor!r} may be null; a cursor may not")
        problem = write_modes.problem(self)
        if problem is not None:
            self._refuse(*problem)
        if self.changed_files == "reload" and self.write_mode == "append":
            self._refuse(
                "changed_files", "reload of an append table doubles rows; use merge or grown"
            )
        by_bytes = self.source is None or self.source.resumes == "bytes"
        if self.changed_files == "grown" and not by_bytes and self.cursor is None:
            self._refuse("changed_files", "'grown' needs a cursor; declare one, or use 'refuse'")
        if not 1 <= self.parallel_files <= 64:
            self._refuse("parallel_files", f"{self.parallel_files} is no number from 1 to 64")
        if not 0 <= self.undo_loads <= MAX_UNDO_LOADS:
            self._refuse("undo_loads", f"{self.undo_loads} is no number from 0 to {MAX_UNDO_LOADS}")
        if self.parallel_files > 1 and self.write_mode != "append":
            self._refuse("parallel_files", "only the files of an append are loaded apart")
        if not 0 <= self.reject_share <= 1:
            self._refuse("reject_share", f"{self.reject_share} is no share between 0 and 1")

    def _check_time(self) -> None:
        by = self.partitioning
        if by is None:
            if self.tiering is not None:
                self._refuse("tiering", "it needs a partitioning; a table without time stays hot")
            return
        self._known("partitioning.column", (by.column,))
        column = self.column(by.column)
        if column.postgres != "timestamp with time zone":
            self._refuse(
                "partitioning.column",
                f"{by.column!r} is {column.postgres}; declare pl.Datetime('us', 'UTC')",
            )
        if column.nullable:
            self._refuse("partitioning.column", f"{by.column!r} may be null; a row needs its time")
        if self.key and by.column not in self.key:
            self._refuse(
                "key", f"a partitioned table's key holds its time column: add {by.column!r}"
            )
        for what, moment in (("start", by.start), ("end", by.end)):
            if moment is not None and moment.tzinfo is None:
                self._refuse(f"partitioning.{what}", "it names no time zone; add tzinfo=UTC")
        if by.grain.floor(by.start) != by.start.astimezone(UTC):
            self._refuse("partitioning.start", f"it must be the start of a {by.grain}")
        if by.end is not None and (by.end <= by.start or by.grain.floor(by.end) != by.end):
            self._refuse(
                "partitioning.end", f"it must be the start of a {by.grain} after the start"
            )
        if self.tiering is not None:
            for held in self.columns:
                if held.types.stays_hot:
                    self._refuse(
                        "tiering",
                        f"column {held.name!r} is {held.postgres}: {held.types.stays_hot}",
                    )
            self._known("tiering.sort", self.tiering.sort)
            self._one_of("tiering.compression", self.tiering.compression, Compression)
            if self.tiering.hot_for < timedelta(0):
                self._refuse("tiering.hot_for", "it is negative")
            if self.tiering.row_group_rows < 2048:
                self._refuse(
                    "tiering.row_group_rows", "DuckDB's row groups hold at least 2048 rows"
                )
