"""What every reader does: find the items of a source, tell their versions, give their rows.

An item is a file, an object or a table of a database, at one version. A batch is a polars DataFrame
with the columns as the item has them (CSV: all bytes), with the number of each row. Nothing is cast
or judged here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from lakebed.errors import LakebedError
from lakebed.ingest.sources.native import for_polars
from lakebed.resources.postgres import Connection
from lakebed.store.rejects import Malformed, Reject

BATCH_ROWS = 65_536
LONGEST_NAME = 60
LISTED_NAMES = 30
LONGEST_PROBLEM = 2_000
"""In characters; of a longer one, such as what a library quotes, the middle is left out."""
MOMENT = "at "
"""How the version of an item begins that is new whenever it is read: the moment of reading."""


class SourceError(LakebedError, RuntimeError):
    """An item that cannot be loaded; the text names the item, the fault and how to fix it."""

    def __init__(self, path: str, problem: str, *, waits: bool = False) -> None:
        """Keep the path, so that a load can skip this item and load the remaining ones.

        waits: whether it can be loaded once other tables have been.
        """
        if len(problem) > LONGEST_PROBLEM:
            left_out = len(problem) - LONGEST_PROBLEM
            half = LONGEST_PROBLEM // 2
            problem = f"{problem[:half]} [... {left_out:,} characters ...] {problem[-half:]}"
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem
        self.waits = waits


@dataclass(frozen=True, order=True)
class SourceItem:
    """An item at one version.

    path: what opens it.  version: another one when it changed; of a file its size and modification
    time, as size-mtime_ns.  bytes: its size, 0 where that is not known.  name: as the ledger knows
    it, for a file relative to LAKEBED_DATA where it lies there, so that the data can be moved.
    modified: when it changed, in seconds since 1970; 0 where that is not known.
    """

    path: str
    version: str
    bytes: int
    name: str
    modified: float = 0.0


@dataclass(frozen=True)
class Beginning:
    """The first bytes of an item, which hold whole rows: how many bytes, and how many rows."""

    bytes: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Batch:
    """Some rows of an item. numbers: of each row, from 1, without a CSV's header.

    malformed: lines that are not rows, as (row number, what is wrong, text).  left_out: how many
    rows before these were skipped because they are older than requested.  others: further columns
    of these rows, for an item whose columns are not known beforehand.
    texts: columns of bytes that are text as the item has it, in which bytes may be written as
    PostgreSQL does.  plain: gives the same rows with the values as the item has them, where some
    were read as the types that the reader expects.
    """

    frame: pl.DataFrame
    numbers: pl.Series
    malformed: tuple[tuple[int, Malformed, str], ...] = ()
    left_out: int = 0
    others: tuple[str, ...] = ()
    texts: Collection[str] = ()
    plain: Callable[[], Batch] | None = field(default=None, compare=False, repr=False)

    def as_it_is(self) -> Batch:
        """Return the rows with the values as the item has them."""
        return self if self.plain is None else self.plain()


class Reader(ABC):
    """Reads one source of one table.

    Attributes:
        moves_cursor: Whether the greatest cursor that is read is where the source goes on.
        place: Where files are looked for; "" where the source is not a place of files.
    """

    moves_cursor: bool = True
    place: str = ""

    def words(self, error: BaseException) -> str:
        """Return what an error says in one line, without secrets."""
        return first_line(error)

    @abstractmethod
    def find(self) -> list[SourceItem]:
        """Return the items that there are, by name, each at its version."""

    def glance(self) -> list[SourceItem]:
        """Return the items as a sensor sees them, which asks every few seconds.

        An item that cannot cheaply say whether it has changed is seen at one version for a while.
        """
        return self.find()

    @abstractmethod
    def columns(self, item: SourceItem) -> list[str] | None:
        """Return the names of an item's columns without reading its rows. Raises SourceError.

        None where only the rows can say; a batch then names those that were not asked for.
        """

    def types(self, item: SourceItem) -> dict[str, pl.DataType | None]:
        """Return the type of each of an item's columns; None: it is text that may be anything.

        Inferred from the item's first rows, unless the source declares it; pl.Null without any
        values. Raises SourceError.
        """
        names = self.columns(item) or []
        for batch in self.batches(item, columns=names):
            if batch.frame.height:
                return dict(batch.frame.schema)
        return dict.fromkeys(names, pl.Null())

    @abstractmethod
    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows of an item.

        columns: those to read, each in the item.  newer: (column, value) lets the reader leave out
        rows below this value where it can do so cheaply; it need not. Raises SourceError.
        """

    def batches_after(
        self, item: SourceItem, beginning: Beginning, *, columns: list[str]
    ) -> Iterator[Batch]:
        """Yield the rows behind an item's beginning, numbered on; of sources that resume by bytes.

        The reader may yield those of the beginning too. Raises SourceError.
        """
        raise NotImplementedError(f"{type(self).__name__} has no bytes to go on behind")

    def expect(  # noqa: B027  (most items know the types of their columns)
        self, types: Mapping[str, pa.DataType]
    ) -> None:
        """Let the reader read columns of text as these types, batches of which all values are such.

        It need not. A batch of other values, or one that is asked for them, has them as they are.
        """

    def keep_json(  # noqa: B027  (most sources hold no JSON)
        self, columns: Collection[str]
    ) -> None:
        """Let a reader of JSON give the values of these columns as JSON, strings in quotes."""

    @abstractmethod
    def check_unchanged(self, item: SourceItem) -> None:
        """Make sure that an item is still at the version that was found. Raises SourceError."""

    def keep(self, connection: Connection, rejects: Sequence[Reject]) -> Sequence[Reject]:
        """Return the rejects that are new to the quarantine; in the load's transaction."""
        return rejects

    def settle(  # noqa: B027  (most sources keep nothing there)
        self, connection: Connection, load_id: str, items: Collection[SourceItem]
    ) -> None:
        """Do what the source itself keeps in PostgreSQL, at the end of the load's transaction.

        items: those that the load commits.
        """

    def count(self, item: SourceItem) -> int | None:
        """Return how many rows an item says that it has, None where it does not say."""
        return None

    def doubt_of_end(self, item: SourceItem) -> str | None:
        """Say why an item that was read may have been cut off where it ends, or None.

        Raises SourceError.
        """
        return None

    def digest(self, item: SourceItem, count: int) -> str:
        """Return the SHA-256 of an item's first bytes, in hex; of sources that resume by bytes."""
        raise NotImplementedError(f"{type(self).__name__} has no bytes to compare")

    def ends_a_line(self, item: SourceItem, count: int) -> bool:
        """Say whether a line ends with an item's first bytes; of sources that resume by bytes."""
        raise NotImplementedError(f"{type(self).__name__} has no bytes to compare")


def frame_of(table: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as polars. Raises pa.ArrowInvalid for a type polars does not have."""
    try:
        frame = pl.from_arrow(for_polars(table))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise pa.ArrowInvalid(first_line(error)) from error
    assert isinstance(frame, pl.DataFrame)
    return frame


def types_of(schema: pa.Schema) -> dict[str, pl.DataType | None]:
    """Return the polars type of each column; pl.Unknown for a type that polars does not have."""
    return {field.name: _type_of(field) for field in schema}


def _type_of(field: pa.Field) -> pl.DataType:
    try:
        return frame_of(pa.schema([field]).empty_table()).dtypes[0]
    except pa.ArrowInvalid:
        return pl.Unknown()


def row_numbers(first: int, count: int) -> pl.Series:
    """Return the numbers of the next rows."""
    return pl.int_range(first, first + count, eager=True)


def without_doubles(item: SourceItem, names: list[str]) -> list[str]:
    """Return the names unchanged. Raises SourceError for a repeated name."""
    for name in names:
        if names.count(name) > 1:
            raise SourceError(item.path, f"it has column {quoted(name)} twice")
    return names


def quoted(name: str) -> str:
    """Return a name that a file has as a message shows it: a file may have any."""
    return repr(shortened(name))


def shortened(name: str) -> str:
    """Return the beginning of a name that is too long to be shown, and how long it is."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}... ({len(name):,} characters)"


def listed(names: Sequence[str]) -> str:
    """Return names as a message lists them, not all of very many."""
    more = len(names) - LISTED_NAMES
    shown = ", ".join(map(shortened, names[:LISTED_NAMES]))
    return f"{shown} and {more:,} more" if more > 0 else shown


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
