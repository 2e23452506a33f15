"""Where DuckDB spills what does not fit in memory: a folder that only one session uses.

DuckDB numbers its files from zero in the folder that it is given. Two processes that spill into one
folder overwrite each other's rows: both end in a segmentation fault, or in wrong answers.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakebed.resources.private import make_private_folder

_OURS = re.compile(r"(?P<host>.+)-(?P<process>\d+)-[0-9a-f]{8}")


@contextmanager
def spill_folder(parent: Path) -> Iterator[Path]:
    """Yield a private folder for spilled rows; it is removed afterwards.

    Folders of killed processes of this machine are removed too. If the parent is read-only, such as
    a lake that is mounted read-only, the folder is in the machine's temporary folder.
    """
    try:
        make_private_folder(parent)
        writable = os.access(parent, os.W_OK)
    except OSError:
        writable = False
    parent = parent if writable else Path(tempfile.gettempdir())
    _sweep(parent)
    folder = parent / f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    make_private_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def left_spilled(parent: Path) -> list[Path]:
    """Remove the folders of killed sessions; return those of sessions that may still run."""
    if not parent.is_dir():
        return []
    _sweep(parent)
    return [folder for folder in parent.iterdir() if folder.is_dir()]


def _sweep(parent: Path) -> None:
    for folder in parent.iterdir():
        found = _OURS.fullmatch(folder.name)
        if found and found["host"] == platform.node() and not process_lives(int(found["process"])):
            shutil.rmtree(folder, ignore_errors=True)


def process_lives(process: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
