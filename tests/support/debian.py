"""Debian's PostgreSQL 15, where it is installed, for its extensions."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql/15")
EXTENSIONS = Path("/usr/share/postgresql/15/extension")


def is_installed(extension: str) -> bool:
    """Whether the server and the extension are there."""
    there = (EXTENSIONS / f"{extension}.control").exists()
    return there and shutil.which("initdb", path=DEBIAN / "bin") is not None


def speaks(language: str) -> bool:
    """Whether the server is there, with its messages in the language."""
    texts = Path("/usr/share/locale") / language / "LC_MESSAGES/postgres-15.mo"
    return texts.exists() and shutil.which("initdb", path=DEBIAN / "bin") is not None


@contextmanager
def debian_server(
    folder: Path, *settings: str, language: str = "en", programs: Path = DEBIAN / "bin"
) -> Iterator[str]:
    """Run Debian's PostgreSQL 15 with these lines of configuration; yield its URL.

    language: what the server's messages are in, where `speaks` says so.  programs: the folder of
    another PostgreSQL's programs.
    """
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    data = folder / "debian"
    data.mkdir()
    if user:
        os.chown(data, user.pw_uid, user.pw_gid)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, "-D", data, *arguments],
            user="postgres" if user else None,
            cwd=data,
            env={"LANG": "C.UTF-8", "LANGUAGE": language, "PATH": os.environ["PATH"]},
            check=True,
            stdout=subprocess.DEVNULL,
        )

    run("initdb", "--auth=trust", "--username=postgres", "--no-sync")
    lines = (
        *settings,
        "listen_addresses = ''",
        f"unix_socket_directories = '{data}'",
        "fsync = off",
    )
    with (data / "postgresql.conf").open("a") as file:
        file.write("\n".join(lines) + "\n")
    run("pg_ctl", "-w", "-l", str(data / "log"), "start")
    try:
        yield f"postgresql://postgres@/postgres?host={data}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
