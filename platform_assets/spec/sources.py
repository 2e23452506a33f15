"""Declare and check where the rows of a table come from. No I/O.

Each kind of source says how a load continues an item that has grown (`resumes`):
bytes    the item must begin with the bytes that were loaded; the load reads the bytes after them
cursor   the load reads the item from the cursor on; the number of earlier rows must be unchanged
query    the load queries the source for rows from the cursor on and does not see earlier rows
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from lakebed.spec.queried_sources import QueriedSource

Resumes = Literal["bytes", "cursor", "query"]


@dataclass(frozen=True, kw_only=True)
class Files:
    """What all kinds of files have in common."""

    kind: ClassVar[str]
    resumes: ClassVar[Resumes]

    glob: str = field(kw_only=False)
    """A file, a folder (all files of the kind below it) or a pattern, relative to LAKEBED_DATA or
    absolute; or an fsspec URL such as `s3://bucket/prefix/*.csv`. A path behind a .zip names its
    members: `feeds/*.zip/stops.txt`."""
    hive: tuple[str, ...] = ()
    """Columns whose values come from the path: year and month of `.../year=2024/month=01/...`."""

    def problem(self) -> str | None:
        """Describe what is wrong with the source and how to fix it, or return None."""
        if not self.glob:
            return "glob is empty; write one such as events/*.parquet"
        if len(set(self.hive)) != len(self.hive) or not all(self.hive):
            return "hive has a column twice or an empty name; write it like hive=('year', 'month')"
        return _secret_in(self.glob)

    @property
    def title(self) -> str:
        """A short description of the source."""
        return f"files `{self.glob}`"


@dataclass(frozen=True, kw_only=True)
class ParquetFiles(Files):
    """Parquet files."""

    kind: ClassVar[str] = "parquet"
    resumes: ClassVar[Resumes] = "cursor"


@dataclass(frozen=True, kw_only=True)
class ArrowFiles(Files):
    """Arrow IPC files and streams (Feather version 2); streams also .gz, .bz2, .xz and .zst."""

    kind: ClassVar[str] = "arrow"
    resumes: ClassVar[Resumes] = "cursor"


@dataclass(frozen=True, kw_only=True)
class JsonFiles(Files):
    """JSON lines, one object a line in UTF-8; also .gz, .bz2, .xz, .zst and the members of a .zip.

    A key that is missing from a line is null there. Objects and arrays become JSON text.
    """

    kind: ClassVar[str] = "json"
    resumes: ClassVar[Resumes] = "bytes"


@dataclass(frozen=True, kw_only=True)
class CsvFiles(Files):
    """CSV files; also .gz, .bz2, .xz, .zst and the members of a .zip."""

    kind: ClassVar[str] = "csv"
    resumes: ClassVar[Resumes] = "bytes"

    delimiter: str = ","
    """The ASCII character between values."""
    quote: str | None = '"'
    """The ASCII character around values. None where quotes have no meaning."""
    null_strings: tuple[str, ...] = ("",)
    """Texts that mean null."""
    columns: tuple[str, ...] = ()
    """The names of the columns, for files without a header line."""
    escape: str | None = None
    """A character that makes the next character literal."""
    doubled_quotes: bool = True
    """Whether `""` in a quoted value is one quote."""
    quoted_nulls: bool = True
    """Whether `null_strings` mean null in quotes too."""
    multiline: bool = True
    """Whether a quoted value may contain line breaks. With False, a stray quote spoils its own line
    only."""
    encoding: str = "utf-8"
    """Any encoding that Python knows. A byte order mark is skipped."""
    skip_rows: int = 0
    """The number of lines before the header."""
    comment: str | None = None
    """Lines that begin with this character are skipped."""
    skip_initial_space: bool = False
    """Whether spaces before a value are skipped, as in `1, "a, b"`."""
    short_lines: Literal["reject", "null"] = "reject"
    """What a line with too few values is: a `reject`, or a row with `null` for the missing values
    at its end."""
    line_breaks: Literal["first", "any"] = "first"
    """What ends a line. `first`: the line break that ends the first line; any other is part of a
    quoted value or spoils its line. `any`: CR, LF or CR LF."""

    def problem(self) -> str | None:
        """Describe what is wrong with the source and how to fix it, or return None."""
        marks = {
            "delimiter": self.delimiter,
            "quote": self.quote,
            "escape": self.escape,
            "comment": self.comment,
        }
        given = {name: mark for name, mark in marks.items() if mark is not None}
        if any(len(mark) != 1 for mark in given.values()):
            return f"{' and '.join(given)} must be one character each"
        for name, mark in given.items():
            if not mark.isascii() or mark in "\r\n\0":
                return f"{name} is {mark!r}. Expected one ASCII character, not a line break"
        if len(set(given.values())) != len(given):
            return f"{' and '.join(given)} must be different characters"
        if len(set(self.columns)) != len(self.columns) or not all(self.columns):
            return "columns has a name twice or an empty name; give each column its own name"
        if self.skip_rows < 0:
            return f"skip_rows is {self.skip_rows}. Expected 0 or more"
        if self.skip_initial_space and " " in given.values():
            return (
                "skip_initial_space skips spaces, but the delimiter, quote, escape or comment is a "
                "space; choose another character, or remove skip_initial_space"
            )
        if self.short_lines not in ("reject", "null"):
            return f"short_lines is {self.short_lines!r}. Expected 'reject' or 'null'"
        if self.line_breaks not in ("first", "any"):
            return f"line_breaks is {self.line_breaks!r}. Expected 'first' or 'any'"
        try:
            codecs.lookup(self.encoding)
            "".encode(self.encoding)
        except LookupError:
            return f"encoding {self.encoding!r} is unknown; write one such as latin-1 or utf-16"
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class CopyFiles(CsvFiles):
    r"""Text files of PostgreSQL's COPY, psql and pg_dump, and of MySQL's INTO OUTFILE.

    Tabs separate values, which are never quoted. Null is \N; \b, \f, \n, \r, \t, \v, \ooo and \xhh
    mean characters. A line \. ends the data. Such files rarely have a header line: declare
    columns=(...).
    """

    delimiter: str = "\t"
    """The ASCII character between values."""
    quote: str | None = None
    """Always None: COPY's text has no quotes."""
    null_strings: tuple[str, ...] = ("\\N",)
    """Texts that mean null."""
    escape: str | None = "\\"
    r"""Always `\`."""

    def problem(self) -> str | None:
        """Describe what is wrong with the source and how to fix it, or return None."""
        if self.escape != "\\" or self.quote is not None:
            return (
                "COPY's text uses a backslash as escape and has no quotes; use CsvFiles for other "
                "files"
            )
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class RejectedRows:
    """The rows of a table in the quarantine: the source of a retry, not for table files."""

    kind: ClassVar[str] = "quarantine"
    resumes: ClassVar[Resumes] = "cursor"

    table: str
    columns: tuple[str, ...]
    """The columns that the table reads from its source."""
    load_id: str | None = None
    """Only the rejects of this load."""
    column: str | None = None
    """Only rejects whose fault is in this column."""
    reject_kind: str | None = None
    """Only rejects of this kind."""

    def problem(self) -> str | None:
        """Describe what is wrong with the source and how to fix it, or return None."""
        return None

    @property
    def title(self) -> str:
        """A short description of the source."""
        return f"the quarantine of `{self.table}`"


Source = ParquetFiles | ArrowFiles | JsonFiles | CsvFiles | CopyFiles | RejectedRows | QueriedSource


def _secret_in(glob: str) -> str | None:
    if "://" not in glob:
        return None
    parts = urlsplit(glob)
    if parts.password is not None or re.search(r"(?i)sig|token|secret|key=", parts.query):
        return (
            "the URL contains a password or a signature; remove it and set an environment "
            "variable such as AWS_SECRET_ACCESS_KEY or FSSPEC_..."
        )
    return None
