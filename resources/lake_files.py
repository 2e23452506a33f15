"""The files of the lake, behind one interface: where they are, and how new ones are written.

A new file is written on this machine under a name that only one writer has, and gets its final
name, durably, before any transaction names it. A file that no transaction names is invisible to
readers; a name that exists is never used again.

A lake is a folder (here) or a bucket of an object store (lake_bucket.py).
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import ClassVar

import duckdb

from lakebed.errors import LakebedError
from lakebed.resources.durable import forget, make_durable, reserve, sha256, unfinished
from lakebed.resources.private import make_private_folder, open_private
from lakebed.resources.settings import Settings
from lakebed.resources.spill import process_lives

ABANDONED_AFTER = timedelta(hours=1)
"""The age at which an unfinished file of another machine counts as abandoned."""

_WRITER = re.compile(r"\.(?P<host>.+)-(?P<process>\d+)-[0-9a-f]{8}\.tmp.*")

PathOf = Callable[[int], PurePosixPath]
"""The path of a generation, relative to the lake."""


@dataclass(frozen=True)
class OwnerFile:
    """The file that records the owner of the lake. version: identifies this text."""

    text: str
    version: str


@dataclass(frozen=True)
class StoredFile:
    """A file in the lake, written by Lakebed or by another program. modified: in UTC."""

    path: PurePosixPath
    bytes: int
    modified: datetime


class LakeFileError(LakebedError, RuntimeError):
    """A file of the lake that cannot be written or read. The text names it and what to do."""


class NewFile(ABC):
    """A file that is being written: at `writing` first, at `path` in the lake when published.

    generation, path: as reserved; if another writer was faster, publishing takes later ones.
    copied: publishing copies its bytes to another machine, so they are verified there too.
    """

    generation: int
    path: PurePosixPath
    copied: bool

    @property
    @abstractmethod
    def writing(self) -> Path:
        """Where it is written, and read back for verification, until it is published."""

    @property
    def bytes(self) -> int:
        """The size of what was written, until it is published."""
        return self.writing.stat().st_size

    def sha256(self) -> str:
        """Return the digest of what was written, until it is published."""
        return sha256(self.writing)

    @abstractmethod
    def publish(self) -> None:
        """Give the file its name in the lake so that it survives a power cut.

        Raises LakeFileError where the lake does not take it.
        """

    @abstractmethod
    def discard(self) -> None:
        """Take the file away, published or not. Only while no transaction can have named it."""


class LakeFiles(ABC):
    """The files of a lake. Opens nothing until it is used.

    extensions: of DuckDB, without which it cannot open these files.
    """

    OWNER: ClassVar[str] = "lakebed-owner.json"
    """The file of the lake that says whose it is; see lake_owner.py."""

    extensions: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __str__(self) -> str:
        """Return where the lake is, for people."""

    @property
    @abstractmethod
    def uri(self) -> str:
        """Where the lake is, as a URI."""

    @property
    @abstractmethod
    def spill(self) -> Path:
        """The folder of this machine for what queries cannot hold in memory."""

    @property
    @abstractmethod
    def movers(self) -> Path:
        """The folder for the locks of processes that take rows to the lake."""

    @abstractmethod
    def make_readable(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Prepare a DuckDB connection for the addresses of this lake. Raises LakeFileError."""

    @abstractmethod
    def address(self, path: PurePosixPath | str) -> str:
        """Return what DuckDB opens for a path that is relative to the lake."""

    @abstractmethod
    def reserve(self, path_of: PathOf, first: int) -> NewFile:
        """Return a new file of the first generation, from first on, whose name was never used.

        Raises LakeFileError.
        """

    @abstractmethod
    def size(self, path: PurePosixPath | str) -> int | None:
        """Return the size of a file in bytes, None if it does not exist. Raises LakeFileError."""

    @abstractmethod
    def sha256(self, path: PurePosixPath | str) -> str:
        """Return the digest of a file. Raises FileNotFoundError, LakeFileError."""

    @abstractmethod
    def listing(self, under: str = "") -> Iterator[StoredFile]:
        """Yield the files below a folder of the lake, unfinished ones too, in no order.

        Raises LakeFileError.
        """

    @abstractmethod
    def remove(self, path: PurePosixPath | str) -> None:
        """Remove a file durably; it may be gone already.

        Only for files that no manifest row names and no open transaction can name later. Raises
        LakeFileError.
        """

    @abstractmethod
    def replacing(self, path: PurePosixPath | str) -> AbstractContextManager[Path]:
        """Give where to write a file that takes the place of the one at path, all at once.

        It does so when the block ends; where the block raises, nothing has happened.
        Raises LakeFileError.
        """

    @abstractmethod
    def read_owner(self) -> OwnerFile | None:
        """Return the file that records the owner of the lake, None if it does not exist.

        Raises LakeFileError.
        """

    @abstractmethod
    def write_owner(self, text: str, old: OwnerFile | None) -> bool:
        """Replace the old owner file durably; return whether it was still the current one.

        old: None if no owner file may exist. Raises LakeFileError.
        """

    def redact(self, text: str) -> str:
        """Return the text without the lake's access keys."""
        return text


def lake_files(settings: Settings) -> LakeFiles:
    """Return the files of the lake that the settings name. Opens nothing."""
    if isinstance(settings.lake, Path):
        return LakeFolder(settings.lake)
    from lakebed.resources.lake_bucket import LakeBucket

    return LakeBucket(settings.lake, settings.home)


class LakeFolder(LakeFiles):
    """The lake as a folder of this machine."""

    def __init__(self, root: Path) -> None:
        """Remember where the lake is."""
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
        """A sibling of the tables' folders."""
        return self.root / ".spill"

    @property
    def movers(self) -> Path:
        """A sibling of the tables' folders: all machines that write here see its locks."""
        return self.root / ".movers"

    def make_readable(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Do nothing: DuckDB reads local files by itself."""

    def address(self, path: PurePosixPath | str) -> str:
        """Return the path on this machine."""
        return str(self.root / path)

    def reserve(self, path_of: PathOf, first: int) -> NewFile:
        """Return a new file of the first generation, from first on, whose name was never used."""
        generation, _ = reserve(lambda number: self.root / path_of(number), first)
        return _FolderFile(self.root, path_of(generation), generation)

    def size(self, path: PurePosixPath | str) -> int | None:
        """Return the size of a file in bytes, None if it does not exist."""
        file = self.root / path
        return file.stat().st_size if file.is_file() else None

    def sha256(self, path: PurePosixPath | str) -> str:
        """Return the digest of a file. Raises FileNotFoundError."""
        return sha256(self.root / path)

    def listing(self, under: str = "") -> Iterator[StoredFile]:
        """Yield the files below a folder of the lake, unfinished ones too, in no order."""
        for folder, _, names in os.walk(self.root / under):
            for name in names:
                file = Path(folder, name)
                if file.parent == self.root and name.startswith(self.OWNER):
                    continue
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
        """Take a file away so that it stays away after a power cut; it may be gone already."""
        forget(self.root / path)

    @contextmanager
    def replacing(self, path: PurePosixPath | str) -> Iterator[Path]:
        """Give where to write a file that takes the place of the one at path, by a rename.

        Removes what killed writers of this machine left, and what is older than ABANDONED_AFTER: a
        younger file may belong to a living writer of another machine. Raises LakeFileError.
        """
        file = self.root / path
        writer = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        written = file.with_name(f"{file.name}.{writer}.tmp")
        try:
            make_private_folder(file.parent)
            _remove_abandoned(file)
        except OSError as error:
            raise LakeFileError(f"{file} cannot be written: {error.strerror}") from error
        try:
            yield written
            try:
                make_durable(written, file, self.root)
            except FileNotFoundError as error:
                raise LakeFileError(
                    f"{written} was removed while it was being written; {file} is unchanged. Run "
                    "the command again, and keep other programs from deleting files in the lake"
                ) from error
        finally:
            written.unlink(missing_ok=True)

    def read_owner(self) -> OwnerFile | None:
        """Return the file that records the owner of the lake, None if it does not exist."""
        file = self.root / self.OWNER
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise LakeFileError(f"{file} cannot be read: {error}") from error
        return OwnerFile(text, text)

    def write_owner(self, text: str, old: OwnerFile | None) -> bool:
        """Write that file in the place of the old one: under a lock, by a rename."""
        file = self.root / self.OWNER
        written = unfinished(file)
        try:
            make_private_folder(self.root)
            with open_private(file.with_name(f"{file.name}.lock")) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self.read_owner() != old:
                    return False
                written.write_text(text, encoding="utf-8")
                make_durable(written, file, self.root)
        except OSError as error:
            raise LakeFileError(f"{file} cannot be written: {error.strerror}") from error
        return True


def _remove_abandoned(file: Path) -> None:
    """Remove abandoned unfinished files in the folder of a file."""
    oldest = time.time() - ABANDONED_AFTER.total_seconds()
    for left in file.parent.glob(f"{file.name}.*.tmp*"):
        writer = _WRITER.fullmatch(left.name.removeprefix(file.name))
        try:
            if writer and writer["host"] == platform.node():
                abandoned = not process_lives(int(writer["process"]))
            else:
                abandoned = left.stat().st_mtime < oldest
            if abandoned:
                left.unlink()
        except FileNotFoundError:
            continue  # its writer has just finished


class _FolderFile(NewFile):
    """A new file of a folder: written under a temporary name, published by a rename."""

    copied = False

    def __init__(self, root: Path, path: PurePosixPath, generation: int) -> None:
        self.path = path
        self.generation = generation
        self._root = root
        self._file = root / path

    @property
    def writing(self) -> Path:
        return unfinished(self._file)

    def publish(self) -> None:
        make_durable(self.writing, self._file, self._root)

    def discard(self) -> None:
        self.writing.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)
