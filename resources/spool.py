"""Spool: files and folders that are written on this machine before they go elsewhere.

Each belongs to one process, which holds a lock file next to it for as long as it lives. The next
process that takes a file removes what a dead process left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from pathlib import Path

from lakebed.resources.private import make_private_folder


class SpoolFile:
    """A name for a file or a folder that no other process writes; it does not exist yet."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock

    def release(self) -> None:
        """Remove the file or the folder, and all that has its name."""
        if self._lock is not None:
            _remove(self.path.with_suffix(".lock"))
            os.close(self._lock)
            self._lock = None


class Spool:
    """A folder of such files."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder; make nothing."""
        self.folder = folder

    def take(self, suffix: str) -> SpoolFile:
        """Return a file for this process alone; remove what dead ones left."""
        make_private_folder(self.folder)
        for lock in self.folder.glob("*.lock"):
            _remove_dead(lock)
        while True:
            path = self.folder / f"{uuid.uuid4().hex}{suffix}"
            lock = path.with_suffix(".lock")
            held = _locked(lock, os.O_CREAT | os.O_EXCL)
            # Another process may have swept it away before it was locked.
            if held is not None and lock.exists():
                return SpoolFile(path, held)

    def held(self) -> list[Path]:
        """Return the locks of living processes; remove what dead ones left."""
        return [
            lock for lock in self.folder.glob("*.lock") if not _remove_dead(lock) and lock.exists()
        ]


def _locked(lock: Path, flags: int = 0) -> int | None:
    """Lock a file; return its descriptor, None if another process locks it or it is gone."""
    try:
        descriptor = os.open(lock, os.O_RDWR | flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_dead(lock: Path) -> bool:
    """Remove a file whose process is dead; say whether it was."""
    held = _locked(lock)
    if held is None:
        return False
    _remove(lock)
    os.close(held)
    return True


def _remove(lock: Path) -> None:
    """Remove what a lock is for, and then the lock."""
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    for file in lock.parent.glob(f"{lock.stem}.*"):
        if file != lock:
            file.unlink(missing_ok=True)
    lock.unlink(missing_ok=True)
