"""What an export is: frozen values that refuse nonsense when they are made.

No file is opened and no query is asked here. A table file may hold exports beside its table:

    Export(name="flights_csv", of="flights", path="flights.csv.gz")
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal, NoReturn, cast, get_args
from urllib.parse import urlsplit

from lakebed.errors import WRONG_USAGE, LakebedError
from lakebed.spec.names import is_name

Format = Literal["csv", "csv.gz", "parquet", "duckdb"]
FORMATS: tuple[Format, ...] = get_args(Format)
_TEXT = ("csv", "csv.gz")


class ExportError(LakebedError, ValueError):
    """An export that makes no sense; the text names the export, what is wrong and the way out."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True, kw_only=True)
class Csv:
    """How CSV is written. Lines end with a line feed, quotes are `"`, doubled inside of quotes.

    delimiter: one ASCII character.  header: whether the first line names the columns.  null: what
    stands for null; a text that is the same is quoted, so that the two are told apart.
    """

    delimiter: str = ","
    header: bool = True
    null: str = ""

    def __post_init__(self) -> None:
        """Refuse what would make a file that nobody can read."""
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in '"\r\n\0':
            raise ExportError(
                f"delimiter: {self.delimiter!r} is not one ASCII character other than a quote or "
                "the end of a line"
            )
        if any(letter in self.null for letter in ('"', "\r", "\n", "\0", self.delimiter)):
            raise ExportError(
                f"null: {self.null!r} holds a quote, the delimiter or the end of a line"
            )


@dataclass(frozen=True, kw_only=True)
class Export:
    """A file that a table or a model is written to; declared in a table file, it is an asset.

    name: of the asset exports/<name>.  of: the table or model, by default the one of that name;
    several go into one DuckDB file.  path: the file; relative to LAKEBED_EXPORTS, or a URL.
    format: by default what the path ends with.  columns: by default all, in their order.  where: a
    condition in DuckDB's SQL.  order_by: columns, with `desc` or `nulls first` behind them; what
    is equal in them is ordered as by default: by time and key, or else by all columns.  ordered:
    False writes the rows as they lie, which is quicker, and the same bytes only until something
    moves.  csv: how CSV is written.  Raises ExportError.
    """

    name: str
    of: str | tuple[str, ...] = ()
    path: str
    format: Format | None = None
    columns: tuple[str, ...] = ()
    where: str | None = None
    order_by: tuple[str, ...] = ()
    ordered: bool = True
    csv: Csv = field(default_factory=Csv)
    description: str = ""
    owner: str | None = None

    def __post_init__(self) -> None:
        """Fill in what is left out and refuse nonsense."""
        self._check_kinds()
        if not is_name(self.name):
            self.refuse("name", "use lower case letters, digits and _, at most 40, a letter first")
        of = (self.of,) if isinstance(self.of, str) else self.of
        object.__setattr__(self, "of", tuple(dict.fromkeys(of)) or (self.name,))
        if not self.path.strip():
            self.refuse("path", "it is empty; name a file")
        if "://" in self.path and urlsplit(self.path).password is not None:
            self.refuse("path", "the URL holds a password; put credentials into the environment")
        object.__setattr__(self, "format", self._known_format())
        if len(self.of) > 1 and self.format != "duckdb":
            self.refuse("of", "several tables go into one file of the format duckdb alone")
        if len(self.of) > 1 and (self.columns or self.where or self.order_by):
            self.refuse("of", "columns, where and order_by are for one table")
        if self.order_by and not self.ordered:
            self.refuse("ordered", "False leaves the rows as they lie; leave order_by out")
        if self.csv != Csv() and self.kind not in _TEXT:
            self.refuse("csv", f"these options are for CSV, the format is {self.kind}")
        for what in ("columns", "order_by"):
            names = getattr(self, what)
            if len(set(names)) < len(names):
                self.refuse(what, "a column is named twice")

    @property
    def names(self) -> tuple[str, ...]:
        """The tables and models that are written."""
        return cast("tuple[str, ...]", self.of)

    @property
    def kind(self) -> Format:
        """The format of the file."""
        assert self.format is not None  # it was filled in when this was made
        return self.format

    def refuse(self, what: str, why: str) -> NoReturn:
        """Say what field of the export makes no sense, and the way out. Raises ExportError."""
        raise ExportError(f"export {self.name!r}: {what}: {why}")

    def _check_kinds(self) -> None:
        for what in ("name", "path", "description"):
            if not isinstance(getattr(self, what), str):
                self.refuse(what, f"{getattr(self, what)!r} is no text")
        for what in ("columns", "order_by"):
            if not _are_texts(getattr(self, what)):
                self.refuse(what, f"{getattr(self, what)!r} is no tuple of names; write ('a', 'b')")
        if not isinstance(self.of, str) and not _are_texts(self.of):
            self.refuse("of", f"{self.of!r} is neither a name nor a tuple of names")
        if not isinstance(self.where, str | None):
            self.refuse("where", f"{self.where!r} is no text")
        if not isinstance(self.csv, Csv):
            self.refuse("csv", f"{self.csv!r} is no Csv(...)")

    def _known_format(self) -> Format:
        ending = format_of(self.path)
        if self.format is None:
            if ending is None:
                endings = ", ".join(f".{form}" for form in FORMATS)
                self.refuse("path", f"{self.path!r} ends with none of {endings}; say the format")
            return ending
        if self.format not in FORMATS:
            self.refuse("format", f"{self.format!r} is none of {', '.join(FORMATS)}")
        if ending not in (None, self.format):
            self.refuse("format", f"{self.path!r} does not end like a file of {self.format}")
        return self.format


def format_of(path: str) -> Format | None:
    """Return the format that a path ends with, None where it is none of ours."""
    return next((form for form in FORMATS if path.lower().endswith(f".{form}")), None)


def check_exports(exports: Sequence[Export], known: Collection[str]) -> None:
    """Raise ExportError for an export of what is no table and no model; known are those there."""
    for export in exports:
        for name in export.names:
            if name not in known:
                export.refuse("of", unknown(name, known, "table or model"))


def unknown(name: str, known: Collection[str], what: str) -> str:
    """Return a sentence that says that there is no such thing, and offers what is near."""
    near = get_close_matches(name, known, n=1)
    if near:
        return f"there is no {what} {name!r}; did you mean {near[0]!r}?"
    return f"there is no {what} {name!r}; there are: {', '.join(sorted(known)) or 'none'}"


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) for text in value)
