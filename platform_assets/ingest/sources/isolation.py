"""Isolation: whatever goes wrong with one item of a source refuses that item, and that item alone.

A reader uses many libraries, whose errors differ: ArrowNotImplementedError for an unknown type,
PanicException, which `except Exception` does not catch. IsolatedReader turns each into a
SourceError that names the item, so that all other items and tables still load.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import polars as pl
import pyarrow as pa

from lakebed.errors import LakebedError
from lakebed.ingest.sources.reader import (
    Batch,
    Beginning,
    Reader,
    SourceError,
    SourceItem,
    first_line,
)
from lakebed.resources.postgres import Connection
from lakebed.store.rejects import Reject

_log = logging.getLogger(__name__)

PANIC = "PanicException"
"""What libraries in Rust raise for a fault of their own; each has its own class of this name."""


@contextmanager
def isolated(
    path: str,
    doing: str,
    *,
    words: Callable[[BaseException], str] = first_line,
    pass_on: tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Turn any error of the block into a SourceError of one item.

    Args:
        path: The item, as errors name it.
        doing: What the block does, such as "reading its rows".
        words: Says what an error says, without secrets.
        pass_on: Errors that concern more than the item, besides those of Lakebed.

    Raises:
        SourceError: What went wrong, with the class of the error. Interrupts pass as they are.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, (LakebedError, *pass_on)):
            raise
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise  # an interrupt, or a generator that is closed
        _log.debug("%s of %s failed", doing, path, exc_info=error)
        raise SourceError(
            path,
            f"{doing} failed ({type(error).__name__}: {words(error)}); deliver it in another form, "
            "or take it out of the source",
        ) from error


class IsolatedReader(Reader):
    """Another reader, of which every error concerns one item, or the source where it is listed."""

    def __init__(
        self, reader: Reader, place: str, pass_on: tuple[type[BaseException], ...] = ()
    ) -> None:
        """Read by reader. place: of the source.  pass_on: errors that are not those of an item."""
        self._reader = reader
        self.place = place
        self.moves_cursor = reader.moves_cursor
        self._pass_on = pass_on

    def find(self) -> list[SourceItem]:
        """Return the items that there are."""
        with self._of(self.place, "listing it"):
            return self._reader.find()

    def glance(self) -> list[SourceItem]:
        """Return the items as a sensor sees them."""
        with self._of(self.place, "listing it"):
            return self._reader.glance()

    def columns(self, item: SourceItem) -> list[str] | None:
        """Return the names of an item's columns."""
        with self._of(item.path, "reading its columns"):
            return self._reader.columns(item)

    def types(self, item: SourceItem) -> dict[str, pl.DataType | None]:
        """Return the type of each of an item's columns."""
        with self._of(item.path, "reading its types"):
            return self._reader.types(item)

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows of an item."""
        with self._of(item.path, "reading its rows"):
            batches = self._reader.batches(item, columns=columns, newer=newer)
            # A loop would hold each batch while the next one is read.
            yield from map(partial(self._with_plain, item), batches)

    def batches_after(
        self, item: SourceItem, beginning: Beginning, *, columns: list[str]
    ) -> Iterator[Batch]:
        """Yield the rows behind an item's beginning."""
        with self._of(item.path, "reading its rows"):
            batches = self._reader.batches_after(item, beginning, columns=columns)
            yield from map(partial(self._with_plain, item), batches)

    def expect(self, types: Mapping[str, pa.DataType]) -> None:
        """Let the reader read columns of text as these types."""
        self._reader.expect(types)

    def keep_json(self, columns: Collection[str]) -> None:
        """Let a reader of JSON give the values of these columns as JSON."""
        self._reader.keep_json(columns)

    def check_unchanged(self, item: SourceItem) -> None:
        """Make sure that an item is still at the version that was found."""
        with self._of(item.path, "looking whether it has changed"):
            self._reader.check_unchanged(item)

    def keep(self, connection: Connection, rejects: Sequence[Reject]) -> Sequence[Reject]:
        """Return the rejects that are new to the quarantine."""
        return self._reader.keep(connection, rejects)

    def settle(self, connection: Connection, load_id: str, items: Collection[SourceItem]) -> None:
        """Do what the source itself keeps in PostgreSQL."""
        self._reader.settle(connection, load_id, items)

    def count(self, item: SourceItem) -> int | None:
        """Return how many rows an item says that it has."""
        with self._of(item.path, "counting its rows"):
            return self._reader.count(item)

    def doubt_of_end(self, item: SourceItem) -> str | None:
        """Say why an item that was read may have been cut off."""
        with self._of(item.path, "looking at its end"):
            return self._reader.doubt_of_end(item)

    def digest(self, item: SourceItem, count: int) -> str:
        """Return the SHA-256 of an item's first bytes."""
        with self._of(item.path, "reading its beginning"):
            return self._reader.digest(item, count)

    def ends_a_line(self, item: SourceItem, count: int) -> bool:
        """Say whether a line ends with an item's first bytes."""
        with self._of(item.path, "reading its beginning"):
            return self._reader.ends_a_line(item, count)

    def _of(self, path: str, doing: str) -> Any:
        return isolated(path, doing, words=self._reader.words, pass_on=self._pass_on)

    def _with_plain(self, item: SourceItem, batch: Batch) -> Batch:
        """Return a batch of which the second reading, too, fails for the item alone."""
        plain = batch.plain
        if plain is None:
            return batch

        def again() -> Batch:
            with self._of(item.path, "reading its rows"):
                return plain()

        return replace(batch, plain=again)
