"""Read files of lines, which may grow: verify their first bytes and continue after them.

A file that has grown must begin with the very bytes that were loaded. They are hashed again, which
costs little, and are not parsed again, which would cost as much as a first load.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakebed.ingest.sources.files import FileReader
from lakebed.ingest.sources.reader import Batch, Beginning, SourceError, SourceItem, first_line
from lakebed.ingest.sources.streams import bytes_around, bytes_at, can_be_cut, hash_of, is_utf8
from lakebed.spec.sources import Files

# In UTF-8 and its like, UTF-16 and UTF-32, of either byte order.
_BREAKS = (b"\n", b"\r", b"\n\0", b"\r\0", b"\n\0\0\0", b"\r\0\0\0")
_BREAKS_AHEAD = (b"\n", b"\r", b"\0\n", b"\0\r", b"\0\0\0\n", b"\0\0\0\r")


class LinesReader(FileReader):
    """Reads files of lines of one kind."""

    encoding = "utf-8"
    escape: bytes | None = None

    def __init__(self, source: Files, data: Path) -> None:
        """Read the files of source, relative to data unless absolute or URLs."""
        super().__init__(source, data)
        self._hashes: dict[tuple[str, str], str] = {}
        self._begun: dict[tuple[str, str, int], hashlib._Hash] = {}

    def digest(self, item: SourceItem, count: int) -> str:
        """Return the SHA-256 of the first bytes of a file, in hex; known once it was read."""
        if count == item.bytes and (item.path, item.version) in self._hashes:
            return self._hashes[item.path, item.version]
        found = self._begun[item.path, item.version, count] = hash_of(item.path, count)
        return found.hexdigest()

    def ends_a_line(self, item: SourceItem, count: int) -> bool:
        """Say whether a line ends with the first bytes of a file, or right behind them.

        Raises SourceError where they cannot be unpacked.
        """
        if count == 0:
            return True
        try:
            before, after = bytes_around(item.path, count)
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceError(item.path, f"it cannot be read ({first_line(error)})") from error
        if before == b"" or after == b"":
            return True
        if self._ends_escaped(before):
            return False
        return before.endswith(_BREAKS) or after.startswith(_BREAKS_AHEAD)

    def _ends_escaped(self, before: bytes) -> bool:
        """Say whether what follows some bytes, or the line break that ends them, is escaped."""
        if self.escape is None:
            return False
        line = before.replace(b"\0", b"")  # of UTF-16 and its like
        line = line[:-1] if line.endswith((b"\n", b"\r")) else line
        return (len(line) - len(line.rstrip(self.escape))) % 2 == 1

    def batches_after(
        self, item: SourceItem, beginning: Beginning, *, columns: list[str]
    ) -> Iterator[Batch]:
        """Yield the rows behind a beginning that `digest` was asked for, where it can be cut off.

        Else those of the whole file.
        """
        if not self._ends_with_break(item, beginning.bytes):
            beginning = Beginning()
        return self._with_path(item, columns, lambda own: self._lines(item, own, beginning))

    def _ends_with_break(self, item: SourceItem, count: int) -> bool:
        """Return whether a line begins at an offset from which the file can be read."""
        cut = can_be_cut(item.path) and is_utf8(self.encoding)
        return cut and count > 0 and bytes_at(item.path, count - 1, 1) == b"\n"

    def _rows(
        self, item: SourceItem, columns: list[str], newer: tuple[str, Any] | None
    ) -> Iterator[Batch]:
        return self._lines(item, columns, Beginning())

    @abstractmethod
    def _lines(self, item: SourceItem, columns: list[str], beginning: Beginning) -> Iterator[Batch]:
        """Yield the rows behind a beginning, numbered on from it."""

    def _hashed(self, item: SourceItem, beginning: Beginning) -> _Hash:
        """Return a hash that is remembered when it is done; it goes on behind a beginning."""
        begun = self._begun.pop((item.path, item.version, beginning.bytes), None)
        if begun is None:
            begun, beginning = hashlib.sha256(), Beginning()
        return _Hash(self._hashes, item, begun, item.bytes - beginning.bytes)


class _Hash:
    """A SHA-256 that a reader remembers of an item. left: how many bytes are still to come."""

    def __init__(
        self,
        known: dict[tuple[str, str], str],
        item: SourceItem,
        begun: hashlib._Hash,
        left: int,
    ) -> None:
        self._known = known
        self._item = item
        self._found = begun
        self._left = left

    def update(self, data: bytes) -> None:
        self._found.update(data)
        self._left -= len(data)
        if self._left == 0:
            self._known[self._item.path, self._item.version] = self._found.hexdigest()
