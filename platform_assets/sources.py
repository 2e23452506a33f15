"""Sources: where the rows of a table come from, declared and checked. No I/O.

Each says how its items are told apart and how one that has changed is read on (`resumes`):
bytes    the item must begin with the very bytes that were loaded; its rows go on after theirs
cursor   it is read again from the cursor on; as many rows as were loaded must come before
query    the source itself is asked for rows from the cursor on; nothing is known of the rest
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from platform_assets.queried_sources import QueriedSource

Resumes = Literal["bytes", "cursor", "query"]


@dataclass(frozen=True, kw_only=True)
class ParquetFiles:
    """Parquet files that match a glob, relative to LAKEBED_DATA unless absolute."""

    kind: ClassVar[str] = "parquet"
    resumes: ClassVar[Resumes] = "cursor"

    glob: str

    def problem(self) -> str | None:
        """Say why the source makes no sense, with the way out, or None."""
        return _problem_of(self.glob)

    @property
    def title(self) -> str:
        """The source in a few words."""
        return f"files `{self.glob}`"


@dataclass(frozen=True, kw_only=True)
class CsvFiles:
    """CSV files that match a glob, relative to LAKEBED_DATA unless absolute; also .gz and .zst.

    null_strings: what stands for null, quoted or not.  A header line is expected.
    """

    kind: ClassVar[str] = "csv"
    resumes: ClassVar[Resumes] = "bytes"

    glob: str
    delimiter: str = ","
    quote: str = '"'
    null_strings: tuple[str, ...] = ("",)

    def problem(self) -> str | None:
        """Say why the source makes no sense, with the way out, or None."""
        if len(self.delimiter) != 1 or len(self.quote) != 1:
            return "delimiter and quote are one character each"
        if self.delimiter == self.quote:
            return "delimiter and quote must differ"
        return _problem_of(self.glob)

    @property
    def title(self) -> str:
        """The source in a few words."""
        return f"files `{self.glob}`"


@dataclass(frozen=True, kw_only=True)
class RejectedRows:
    """Rows of a table that wait in the quarantine; what a retry reads, not for table files.

    columns: those the table reads of its source.  load_id, column: only rows that this load
    rejected, only rows that are bad in this column.
    """

    kind: ClassVar[str] = "quarantine"
    resumes: ClassVar[Resumes] = "cursor"

    table: str
    columns: tuple[str, ...]
    load_id: str | None = None
    column: str | None = None

    def problem(self) -> str | None:
        """Say why the source makes no sense, with the way out, or None."""
        return None

    @property
    def title(self) -> str:
        """The source in a few words."""
        return f"the quarantine of `{self.table}`"


Source = ParquetFiles | CsvFiles | RejectedRows | QueriedSource


def _problem_of(glob: str) -> str | None:
    return None if glob else "the glob is empty; write one such as events/*.parquet"
