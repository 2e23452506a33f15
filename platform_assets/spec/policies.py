"""Policies: what a table file says beside the contract, as plain declarations. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from lakebed.spec.partitions import Grain

WriteMode = Literal["append", "merge", "replace", "history"]
LoadBy = Literal["cursor", "window"]
NewColumns = Literal["freeze", "discard", "evolve"]
MissingColumns = Literal["refuse", "null"]
ChangedFiles = Literal["reload", "grown", "refuse"]
SurrogateKind = Literal["uuid", "identity"]
Compression = Literal["zstd", "snappy", "lz4"]


@dataclass(frozen=True, kw_only=True)
class Partitioning:
    """How the table is cut by time.

    column: a timestamp with time zone.  start: the first moment that can be partitioned; rows
    before it are rejected.  end: the first moment after the last, for tables that are complete;
    None where time goes on.
    """

    column: str
    grain: Grain
    start: datetime
    end: datetime | None = None

    def __post_init__(self) -> None:
        """Take the grain by its name, such as "month", too."""
        object.__setattr__(self, "grain", Grain(self.grain))


@dataclass(frozen=True, kw_only=True)
class Tiering:
    """When partitions settle, and how their files are written.

    hot_for: a partition is due when its end is older than this.  sort: column order of the rows
    in the file; the time column where empty.  late_for: how long after a partition's end rows of it
    may still come; later ones are folded all the same, and `lakebed doctor` tells of them.
    drop_emptied_after: a leaf whose partition is cold is dropped when its end is older than this;
    None keeps it.  keep_cold_for: a cold partition whose end is older than this is dropped, with
    every row of it; None keeps it for ever.
    """

    hot_for: timedelta
    late_for: timedelta | None = None
    drop_emptied_after: timedelta | None = None
    keep_cold_for: timedelta | None = None
    sort: tuple[str, ...] = ()
    compression: Compression = "zstd"
    row_group_rows: int = 122_880


@dataclass(frozen=True, kw_only=True)
class Deletes:
    """How the source says that a row is gone: by a marker, or by leaving it out of a full extract.

    marker: a source column, of the contract or not.  values: what it holds in a row that is gone,
    as text, whatever the case.  full_extract: each load reads a full extract, and rows that
    are missing from it are deleted.  at_most: the share of the table's rows that one extract may
    delete.
    """

    marker: str | None = None
    values: tuple[str, ...] = ("true", "t", "yes", "y", "1")
    full_extract: bool = False
    at_most: float = 0.5


@dataclass(frozen=True)
class Surrogate:
    """A key that PostgreSQL makes for each row of a table, and to which other tables refer.

    column: its name; no field of the model.  kind: a uuid, or an identity, which is a bigint that
    counts up.
    """

    column: str = "id"
    kind: SurrogateKind = "uuid"


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """A natural key in the source that becomes the surrogate key of another table.

    column: the surrogate in this table, with a foreign key.  natural: columns of the contract, left
    out of this table unless kept.  table, key, natural_key: the parent, its surrogate, and its
    columns that natural stands for (of the same names where empty).  key_kind: of the parent's
    surrogate, a uuid or an identity.  insert_missing: parents that are
    missing are inserted; else their rows are rejected.  A null in natural gives a null surrogate.
    """

    column: str
    natural: tuple[str, ...]
    table: str
    key: str = "id"
    natural_key: tuple[str, ...] = ()
    key_kind: SurrogateKind = "uuid"
    insert_missing: bool = True
    keep: bool = False

    def __post_init__(self) -> None:
        """Call the parent's columns like this table's where nothing else is said."""
        if not self.natural_key:
            object.__setattr__(self, "natural_key", self.natural)
