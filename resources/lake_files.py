"""The files of the lake: where they are, and how a new one comes to be.

A new file is written on this machine under a name that is one writer's alone, and is given its
final name, durably, before any transaction names it. A file that no transaction names exists for
nobody.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import duckdb

from resources.durable import forget, make_durable, reserve, unfinished


@dataclass(frozen=True)
class StoredFile:
    """A file that lies in the lake, whoever put it there. modified: in UTC."""

    path: PurePosixPath
    bytes: int
    modified: datetime


class NewFile:
    """A file that is being written: at `writing` first, at `path` in the lake when published."""

    def __init__(self, root: Path, path: PurePosixPath) -> None:
        """Stand for a file whose name was reserved."""
        self.path = path
        self._root = root
        self._file = root / path

    @property
    def writing(self) -> Path:
        """Where it is written, and read again to verify it, until it is published."""
        return unfinished(self._file)

    @property
    def bytes(self) -> int:
        """The size of what was written, until it is published."""
        return self.writing.stat().st_size

    def sha256(self) -> str:
        """Return the digest of what was written, until it is published."""
        with self.writing.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def publish(self) -> None:
        """Give the file its name in the lake so that it survives a power cut."""
        make_durable(self.writing, self._file, self._root)

    def discard(self) -> None:
        """Take the file away, published or not. Only while no transaction can have named it."""
        self.writing.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)


class LakeFiles:
    """The lake as a folder of this machine."""

    def __init__(self, root: Path) -> None:
        """Remember where the lake is; open nothing."""
        self.root = root

    def __str__(self) -> str:
        """Return where the lake is, for people."""
        return str(self.root)

    @property
    def uri(self) -> str:
        """Where the lake is, as a URI."""
        return self.root.as_uri()

    @property
    def spill(self) -> Path:
        """The folder of this machine for what queries cannot hold in memory."""
        return self.root / ".spill"

    def make_readable(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Prepare a DuckDB connection for the addresses of this lake."""

    def address(self, path: PurePosixPath | str) -> str:
        """Return what DuckDB opens for a path that is relative to the lake."""
        return str(self.root / path)

    def reserve(self, path_of: Callable[[int], PurePosixPath], first: int) -> tuple[int, NewFile]:
        """Return the first generation, from first on, whose name was never used, and its file."""
        generation, _ = reserve(lambda number: self.root / path_of(number), first)
        return generation, NewFile(self.root, path_of(generation))

    def size(self, path: PurePosixPath | str) -> int | None:
        """Return the size of a file in bytes, None where it is not there."""
        file = self.root / path
        return file.stat().st_size if file.is_file() else None

    def sha256(self, path: PurePosixPath | str) -> str:
        """Return the digest of a file. Raises FileNotFoundError."""
        with (self.root / path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def listing(self, under: str = "") -> Iterator[StoredFile]:
        """Yield the files below a folder of the lake, unfinished ones too, in no order."""
        for folder, _, names in os.walk(self.root / under):
            for name in names:
                file = Path(folder, name)
                try:
                    found = file.stat()
                except FileNotFoundError:
                    continue  # taken away since the folder was read
                yield StoredFile(
                    PurePosixPath(file.relative_to(self.root)),
                    found.st_size,
                    datetime.fromtimestamp(found.st_mtime, UTC),
                )

    def remove(self, path: PurePosixPath | str) -> None:
        """Take a file away so that it stays away after a power cut; it may be gone already.

        Only what no manifest row names, and no transaction that is open can come to name.
        """
        forget(self.root / path)
