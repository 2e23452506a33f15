"""Declare exports: frozen values that are checked when they are constructed. No I/O.

A table file may declare exports next to its table:

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
    """A wrong declaration of an export; the text names the export, the field and the fix."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True, kw_only=True)
class Csv:
    """How an export writes CSV. Lines end with a line feed; `"` quotes, doubled inside quotes."""

    delimiter: str = ","
    """One ASCII character."""
    header: bool = True
    """Whether the first line names the columns."""
    null: str = ""
    """The text of a null. An equal text is written in quotes."""

    def __post_init__(self) -> None:
        """Refuse options that would make an unreadable file."""
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in '"\r\n\0':
            raise ExportError(
                f"delimiter: it is {self.delimiter!r}. Expected one ASCII character that is "
                "neither a quote nor a line break"
            )
        if any(letter in self.null for letter in ('"', "\r", "\n", "\0", self.delimiter)):
            raise ExportError(
                f"null: {self.null!r} contains a quote, the delimiter or a line break; choose "
                "another text"
            )


@dataclass(frozen=True, kw_only=True)
class Export:
    """A file that Lakebed writes from a table or a model. In a table file it declares an asset.

    Raises:
        ExportError: The declaration contradicts itself; the text names the field and the fix.
    """

    name: str
    """Name of the asset: exports/<name>."""
    of: str | tuple[str, ...] = ()
    """The table or model, by default the one called `name`. Several go into one DuckDB file."""
    path: str
    """The file: relative to LAKEBED_EXPORTS, absolute, or a URL."""
    format: Format | None = None
    """By default the format that the path ends with."""
    columns: tuple[str, ...] = ()
    """By default all, in their order."""
    where: str | None = None
    """A condition in DuckDB's SQL."""
    order_by: tuple[str, ...] = ()
    """Columns, each with an optional `desc` or `nulls first`. The default order breaks ties: by
    time and key, or by all columns."""
    ordered: bool = True
    """False writes rows in the order in which they are stored. That is faster, but a move changes
    the bytes of the file."""
    csv: Csv = field(default_factory=Csv)
    """How the export writes CSV."""
    description: str = ""
    """The description of the asset."""
    owner: str | None = None
    """`team:...` or an e-mail address, for the UI."""

    def __post_init__(self) -> None:
        """Fill in defaults and refuse contradictions."""
        self._check_kinds()
        if not is_name(self.name):
            self.refuse(
                "name",
                "expected at most 40 lower case letters, digits and _, with a letter first",
            )
        of = (self.of,) if isinstance(self.of, str) else self.of
        object.__setattr__(self, "of", tuple(dict.fromkeys(of)) or (self.name,))
        if not self.path.strip():
            self.refuse("path", "it is empty; name a file")
        if "://" in self.path and urlsplit(self.path).password is not None:
            self.refuse("path", "the URL contains a password; put credentials into the environment")
        object.__setattr__(self, "format", self._known_format())
        if len(self.of) > 1 and self.format != "duckdb":
            self.refuse("of", "only the format duckdb takes several tables; name one table")
        if len(self.of) > 1 and (self.columns or self.where or self.order_by):
            self.refuse("of", "columns, where and order_by need a single table; name one table")
        if self.order_by and not self.ordered:
            self.refuse("ordered", "False writes rows in stored order; remove order_by")
        if self.csv != Csv() and self.kind not in _TEXT:
            self.refuse("csv", f"the format is {self.kind}; remove csv, or choose csv or csv.gz")
        for what in ("columns", "order_by"):
            names = getattr(self, what)
            if len(set(names)) < len(names):
                self.refuse(what, "it has a column twice; remove one")

    @property
    def names(self) -> tuple[str, ...]:
        """The tables and models that the export writes."""
        return cast("tuple[str, ...]", self.of)

    @property
    def kind(self) -> Format:
        """The format of the file."""
        assert self.format is not None  # the constructor sets it
        return self.format

    def refuse(self, what: str, why: str) -> NoReturn:
        """Raise ExportError for a field, with what is wrong with it and how to fix it."""
        raise ExportError(f"export {self.name!r}: {what}: {why}")

    def _check_kinds(self) -> None:
        for what in ("name", "path", "description"):
            if not isinstance(getattr(self, what), str):
                self.refuse(what, f"it is {getattr(self, what)!r}. Expected a str")
        for what in ("columns", "order_by"):
            if not _are_texts(getattr(self, what)):
                found = repr(getattr(self, what))
                self.refuse(what, f"it is {found}. Expected a tuple of names: ('a', 'b')")
        if not isinstance(self.of, str) and not _are_texts(self.of):
            self.refuse("of", f"it is {self.of!r}. Expected a name or a tuple of names")
        if not isinstance(self.where, str | None):
            self.refuse("where", f"it is {self.where!r}. Expected a str")
        if not isinstance(self.csv, Csv):
            self.refuse("csv", f"it is {self.csv!r}. Expected Csv(...)")

    def _known_format(self) -> Format:
        ending = format_of(self.path)
        if self.format is None:
            if ending is None:
                endings = ", ".join(f".{form}" for form in FORMATS)
                self.refuse(
                    "path", f"{self.path!r} ends with none of {endings}; declare format too"
                )
            return ending
        if self.format not in FORMATS:
            self.refuse("format", f"it is {self.format!r}. Expected one of {', '.join(FORMATS)}")
        if ending not in (None, self.format):
            self.refuse("format", f"{self.path!r} does not end like a file of {self.format}")
        return self.format


def format_of(path: str) -> Format | None:
    """Return the format that a path ends with, or None for an unknown ending."""
    return next((form for form in FORMATS if path.lower().endswith(f".{form}")), None)


def check_exports(exports: Sequence[Export], known: Collection[str]) -> None:
    """Check that every export names known tables and models.

    Args:
        exports: The exports to check.
        known: The names of all tables and models.

    Raises:
        ExportError: An export names something else.
    """
    for export in exports:
        for name in export.names:
            if name not in known:
                export.refuse("of", unknown(name, known, "table or model"))


def unknown(name: str, known: Collection[str], what: str) -> str:
    """Return a sentence that says that a name is unknown and offers the closest known name."""
    near = get_close_matches(name, known, n=1)
    if near:
        return f"unknown {what} {name!r}. Did you mean {near[0]!r}?"
    return f"unknown {what} {name!r}. Expected one of: {', '.join(sorted(known)) or '(none)'}"


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) for text in value)
