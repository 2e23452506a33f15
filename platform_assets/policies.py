"""Policies: what a table file says beside the contract, as plain declarations. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from platform_assets.partitions import Grain

WriteMode = Literal["append", "merge"]
LoadBy = Literal["cursor", "window"]
NewColumns = Literal["freeze", "discard"]
ChangedFiles = Literal["reload", "grown", "refuse"]
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
    in the file; the time column where empty.
    """

    hot_for: timedelta
    sort: tuple[str, ...] = ()
    compression: Compression = "zstd"
    row_group_rows: int = 122_880
