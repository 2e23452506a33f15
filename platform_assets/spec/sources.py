"""Sources: where the rows of a table come from, declared and checked. No I/O.

Each says how its items are told apart and how one that has changed is read on (`resumes`):
bytes    the item must begin with the very bytes that were loaded; its rows go on after theirs
cursor   it is read again from the cursor on; as many rows as were loaded must come before
query    the source itself is asked for rows from the cursor on; nothing is known of the rest
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from lakebed.spec.queried_sources import QueriedSource

Resumes = Literal["bytes", "cursor", "query"]


@dataclass(frozen=True, kw_only=True)
class Files:
    """What all files have in common.

    glob: a file, a folder (all files of the kind below it) or a pattern, relative to LAKEBED_DATA
    unless absolute; or an fsspec URL such as s3://bucket/prefix/*.csv.  hive: columns that are
    taken from the path, year and month of .../year=2024/month=01/...
    """

    kind: ClassVar[str]
    resumes: ClassVar[Resumes]

    glob: str
    hive: tuple[str, ...] = ()

    def problem(self) -> str | None:
        """Say why the source makes no sense, with the way out, or None."""
        if not self.glob:
            return "the glob is empty; write one such as events/*.parquet"
        if len(set(self.hive)) != len(self.hive) or not all(self.hive):
            return "hive names a column twice, or none; write hive=('year', 'month')"
        return _secret_in(self.glob)

    @property
    def title(self) -> str:
        """The source in a few words."""
        return f"files `{self.glob}`"


@dataclass(frozen=True, kw_only=True)
class ParquetFiles(Files):
    """Parquet files."""

    kind: ClassVar[str] = "parquet"
    resumes: ClassVar[Resumes] = "cursor"


@dataclass(frozen=True, kw_only=True)
class ArrowFiles(Files):
    """Arrow IPC files and streams (Feather version 2); streams also .gz and .zst."""

    kind: ClassVar[str] = "arrow"
    resumes: ClassVar[Resumes] = "cursor"


@dataclass(frozen=True, kw_only=True)
class JsonFiles(Files):
    """JSON lines, one object a line in UTF-8; also .gz, .zst and the members of a .zip.

    A key that a line lacks is null there. Objects and arrays land as their JSON text.
    """

    kind: ClassVar[str] = "json"
    resumes: ClassVar[Resumes] = "bytes"


@dataclass(frozen=True, kw_only=True)
class CsvFiles(Files):
    """CSV files; also .gz, .zst and the members of a .zip.

    columns: the names, of files without a header line.  quote: None where quotes mean nothing.
    doubled_quotes: whether "" in a quoted value is one quote.  escape: takes its meaning from the
    character that follows.  null_strings: what stands for null; quoted_nulls: in quotes as well.
    multiline: whether a quoted value may hold line breaks; where none does, say so, and a stray
    quote spoils its own line only.  encoding: any that Python knows.  skip_rows: lines before the
    header.  comment: lines that begin with it are left out.
    """

    kind: ClassVar[str] = "csv"
    resumes: ClassVar[Resumes] = "bytes"

    delimiter: str = ","
    quote: str | None = '"'
    null_strings: tuple[str, ...] = ("",)
    columns: tuple[str, ...] = ()
    escape: str | None = None
    doubled_quotes: bool = True
    quoted_nulls: bool = True
    multiline: bool = True
    encoding: str = "utf-8"
    skip_rows: int = 0
    comment: str | None = None

    def problem(self) -> str | None:
        """Say why the source makes no sense, with the way out, or None."""
        marks = {
            "delimiter": self.delimiter,
            "quote": self.quote,
            "escape": self.escape,
            "comment": self.comment,
        }
        given = {name: mark for name, mark in marks.items() if mark is not None}
        if any(len(mark) != 1 for mark in given.values()):
            return f"{' and '.join(given)} are one character each"
        for name, mark in given.items():
            if not mark.isascii() or mark in "\r\n\0":
                return f"{name} {mark!r} cannot be told apart; it must be one ASCII character"
        if len(set(given.values())) != len(given):
            return f"{' and '.join(given)} must differ"
        if len(set(self.columns)) != len(self.columns) or not all(self.columns):
            return "columns holds a name twice, or an empty one"
        if self.skip_rows < 0:
            return "skip_rows is negative"
        try:
            codecs.lookup(self.encoding)
            "".encode(self.encoding)
        except LookupError:
            return f"there is no encoding {self.encoding!r}; write one such as latin-1 or utf-16"
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class RejectedRows:
    """Rows of a table that wait in the quarantine; what a retry reads, not for table files.

    columns: those the table reads of its source.  load_id, column, reject_kind: only rows that this
    load rejected, only rows that are bad in this column, only those that broke this kind of rule.
    """

    kind: ClassVar[str] = "quarantine"
    resumes: ClassVar[Resumes] = "cursor"

    table: str
    columns: tuple[str, ...]
    load_id: str | None = None
    column: str | None = None
    reject_kind: str | None = None

    def problem(self) -> str | None:
        """Say why the source makes no sense, with the way out, or None."""
        return None

    @property
    def title(self) -> str:
        """The source in a few words."""
        return f"the quarantine of `{self.table}`"


Source = ParquetFiles | ArrowFiles | JsonFiles | CsvFiles | RejectedRows | QueriedSource


def _secret_in(glob: str) -> str | None:
    if "://" not in glob:
        return None
    parts = urlsplit(glob)
    if parts.password is not None or re.search(r"(?i)sig|token|secret|key=", parts.query):
        return (
            "the URL holds a password or a signature; take it out and give it in the environment, "
            "such as AWS_SECRET_ACCESS_KEY or FSSPEC_..."
        )
    return None
