"""Files of the lake: names that are one writer's alone, and renames that survive a power cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path


def unfinished(file: Path) -> Path:
    """Return the name under which a file is written, beside its final one."""
    return file.with_name(f"{file.name}.tmp")


def reserve(path_of: Callable[[int], Path], first: int) -> tuple[int, Path]:
    """Return the first generation from `first` on whose file is this writer's alone, and the file.

    A file that is there already is that of a writer that died, or that was given up for dead and
    may still write: its name is never used again. The unfinished file is there when this returns.
    """
    for generation in count(first):
        file = path_of(generation)
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished(file).open("xb").close()
        except FileExistsError:
            continue
        if not file.exists():
            return generation, file
        unfinished(file).unlink()
    raise AssertionError("unreachable")


def make_durable(written: Path, file: Path, root: Path) -> None:
    """Give a file its final name so that it survives a power cut: fsync, rename, fsync.

    root: the lake; the folders from the file up to it may be new, so they are made durable too.
    """
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


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
