"""Writing files: names that one writer has alone, renames that survive a power cut, digests.

reserve, unfinished    names of a generation in the lake
make_durable, forget   survive a power cut
replacing              readers of this machine see the old file or the new one, never a part
sha256                 what a file holds
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from lakebed.resources.private import FILE_MODE, make_private_file, make_private_folder


def unfinished(file: Path) -> Path:
    """Return the temporary name of a file, in the folder of its final name."""
    return file.with_name(f"{file.name}.tmp")


def reserve(path_of: Callable[[int], Path], first: int) -> tuple[int, Path]:
    """Reserve the first free generation from `first` on for this writer; return it and its file.

    An existing file belongs to a writer that died, or that seemed dead and may still write: its
    name is never used again. The unfinished file exists when this returns.
    """
    for generation in count(first):
        file = path_of(generation)
        make_private_folder(file.parent)
        try:
            make_private_file(unfinished(file))
        except FileExistsError:
            continue
        if not file.exists():
            return generation, file
        unfinished(file).unlink()
    raise AssertionError("unreachable")


def make_durable(written: Path, file: Path, root: Path, mode: int | None = FILE_MODE) -> None:
    """Give a file its final name so that it survives a power cut: fsync, rename, fsync.

    root: the lake; the folders from the file up to it may be new, so they are made durable too.
    mode: who may read it, by default only its owner; None leaves the mode unchanged.
    """
    if mode is not None:
        written.chmod(mode)
    _fsync(written)
    written.replace(file)
    for folder in file.parents:
        _fsync(folder)
        if folder == root:
            break


def forget(file: Path) -> None:
    """Take a file away so that it stays away after a power cut; it may be gone already."""
    try:
        file.unlink()
    except FileNotFoundError:
        return
    _fsync(file.parent)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield where to write a file that replaces another by a rename, as the block ends.

    It is empty and private to its owner. If the block raises, the old file stays, and the new one
    is removed. Not synced to the disk.
    """
    written = file.with_name(f".{file.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        make_private_file(written)
        yield written
        written.replace(file)
    finally:
        written.unlink(missing_ok=True)


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hex. Raises FileNotFoundError."""
    return sha256_digest(file).hex()


def sha256_digest(file: Path) -> bytes:
    """Return the SHA-256 of a file, as bytes. Raises FileNotFoundError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
