"""Folders and files that only their owner may enter and read, whatever the umask.

What Lakebed keeps (rows, logs, settings) is nobody's business but its owner's: folders are made
with mode 0700 and files with 0600. A folder that exists keeps the mode that its owner gave it.
"""

from __future__ import annotations

import stat
from pathlib import Path

from lakebed.errors import UNREACHABLE, LakebedError

FOLDER_MODE = 0o700
FILE_MODE = 0o600
NOT_THE_OWNER = stat.S_IRWXG | stat.S_IRWXO


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
