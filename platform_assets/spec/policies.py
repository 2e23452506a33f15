"""Declare the policies of a table: partitioning, tiering, deletes, surrogates, lookups. No I/O."""

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
    """How time divides a table into partitions."""

    column: str
    """The timestamp with time zone that decides to which partition a row belongs."""
    grain: Grain
    """The length of a partition: `hour`, `day`, `week`, `month` or `year`."""
    start: datetime
    """The start of the first partition. Rows before it are rejects."""
    end: datetime | None = None
    """The end of the last partition, for a table that is complete. None where time goes on."""

    def __post_init__(self) -> None:
        """Accept the grain by its name too, such as "month"."""
        object.__setattr__(self, "grain", Grain(self.grain))


@dataclass(frozen=True, kw_only=True)
class Tiering:
    """When partitions move to the lake, and how their files are written."""

    hot_for: timedelta
    """A partition is due for its move when its end is older than this."""
    late_for: timedelta | None = None
    """For how long after the end of a partition late rows are expected. Later ones are visible and
    compacted too, and `lakebed doctor` reports them."""
    drop_emptied_after: timedelta | None = None
    """`lakebed housekeep` drops the partition table of a cold partition whose end is older than
    this, once no open transaction sees a row in it. Must exceed `hot_for`. None keeps it.
    PostgreSQL then refuses later rows of that time, except from `lakebed load`, which creates the
    partition table again."""
    keep_cold_for: timedelta | None = None
    """`lakebed housekeep` drops a cold partition whose end is older than this, late rows included.
    Must exceed `hot_for`. None keeps it."""
    sort: tuple[str, ...] = ()
    """The columns by which the rows of a file are sorted; by default the time column."""
    compression: Compression = "zstd"
    """The compression of Parquet files: `zstd`, `snappy` or `lz4`."""
    row_group_rows: int = 122_880
    """Rows of a row group of Parquet, at least 2048."""


@dataclass(frozen=True, kw_only=True)
class Deletes:
    """How the source says that a row is deleted: by a marker, or by absence from a full extract."""

    marker: str | None = None
    """The column of the source that marks deleted rows. The model may or may not have it."""
    values: tuple[str, ...] = ("true", "t", "yes", "y", "1")
    """The marker's values in a deleted row, as text, in any case."""
    full_extract: bool = False
    """Whether each load reads a full extract and deletes the rows that are missing from it."""
    at_most: float = 0.5
    """The share of the table's rows that one full extract may delete. A load refuses an extract
    that would delete more."""


@dataclass(frozen=True)
class Surrogate:
    """A key that PostgreSQL makes for each row of a table, and to which other tables refer."""

    column: str = "id"
    """Name of the column. The model has no field of that name."""
    kind: SurrogateKind = "uuid"
    """`uuid`, or `identity` for a bigint that counts up."""


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """A natural key in the source that a load turns into the surrogate key of another table."""

    column: str
    """The column of this table that holds the surrogate key, with a foreign key to the parent."""
    natural: tuple[str, ...]
    """The columns of the contract that hold the natural key. A null in one gives a null
    surrogate."""
    table: str
    """The parent table."""
    key: str = "id"
    """The surrogate column of the parent."""
    natural_key: tuple[str, ...] = ()
    """The parent's columns for `natural`; by default those of the same names."""
    key_kind: SurrogateKind = "uuid"
    """The kind of the parent's surrogate: `uuid` or `identity`."""
    insert_missing: bool = True
    """Whether a load inserts missing parents. Otherwise rows without a parent are rejects."""
    keep: bool = False
    """Whether this table keeps the natural columns as well."""

    def __post_init__(self) -> None:
        """Use the names of `natural` for the parent's columns by default."""
        if not self.natural_key:
            object.__setattr__(self, "natural_key", self.natural)
