"""Folders and files that only their owner may enter and read, whatever the umask.

Lakebed's files (rows, logs, settings) are private: folders are made with mode 0700 and files with
0600. A folder that exists keeps the mode that its owner gave it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lakebed.errors import UNREACHABLE, LakebedError

FOLDER_MODE = 0o700
FILE_MODE = 0o600
NOT_THE_OWNER = stat.S_IRWXG | stat.S_IRWXO


_users_umask: dict[str, int] = {}
"""The umask that the process was started with, under `umask`, once `keep_private` replaced it."""


class OpenDoorError(LakebedError, RuntimeError):
    """A folder that must be private and is not. The text names it and says what to do."""

    exit_code = UNREACHABLE


def make_private_folder(folder: Path) -> Path:
    """Make a folder of mode 0700, and those above it that are missing; return it.

    Folders that exist keep their modes.
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    made = folder
    for made in reversed(missing):
        try:
            made.mkdir(FOLDER_MODE)
        except FileExistsError:
            continue  # another process made it
        # mkdir takes the umask away, and a folder keeps the set-group-ID bit of its parent.
        made.chmod(FOLDER_MODE | (made.stat().st_mode & stat.S_ISGID))
    return made


def make_private_file(file: Path) -> None:
    """Make an empty file of mode 0600. Raises FileExistsError."""
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))


def open_private(file: Path) -> IO[str]:
    """Open a file to append to, for a lock or a log; a new one has the mode 0600.

    A link in its place is not followed: OSError.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(file, flags, FILE_MODE), "a")


def keep_private() -> None:
    """Make files and folders of this process and its children private to their owner.

    This covers files that libraries write. `as_users` is for output that the user asks for.
    """
    before = os.umask(NOT_THE_OWNER)
    _users_umask.setdefault("umask", before)


@contextmanager
def as_users() -> Iterator[None]:
    """Make files with the modes of the user's own umask while the block runs."""
    if not _users_umask:
        yield
        return
    os.umask(_users_umask["umask"])
    try:
        yield
    finally:
        os.umask(NOT_THE_OWNER)


def users_file_mode() -> int | None:
    """Return the mode of a new file by the user's umask, None if the process uses that umask."""
    return 0o666 & ~_users_umask["umask"] if _users_umask else None


def check_private_folder(folder: Path, owner: int) -> None:
    """Make sure that a folder is a real one, and only its owner's. Raises OpenDoorError.

    owner: the user id that must own it.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        why = "it is a link or a file, not a folder"
    elif found.st_uid != owner:
        why = f"it belongs to the user with the id {found.st_uid}, not to {owner}"
    elif found.st_mode & NOT_THE_OWNER:
        why = f"its mode is {stat.S_IMODE(found.st_mode):04o}, so that other users may enter it"
    else:
        return
    raise OpenDoorError(f"{folder} must be a folder of mode 0700: {why}")
