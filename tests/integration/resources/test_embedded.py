"""The embedded PostgreSQL: shared by processes, stopped by the last one, its data kept."""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lakebed.resources import embedded
from tests.conftest import open_folder
from tests.support.processes import CONTEXT, PATIENCE


@pytest.fixture
def home() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder / "home"


def member(home: Path, joined: Any, leave: Any, ending: str) -> None:
    """Join the server, say so, wait, and end in one way or another."""
    with psycopg.connect(embedded.join(home), autocommit=True) as connection:
        with connection.transaction():  # two at once would both make it
            connection.execute("select pg_advisory_xact_lock(1)")
            connection.execute("create table if not exists visitor (pid int)")
        connection.execute("insert into visitor values (%s)", [os.getpid()])
    joined.release()
    assert leave.acquire(timeout=PATIENCE)
    if ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if ending == "raises":
        raise RuntimeError("this is how it ends")


class Members:
    """Processes that use one server."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.joined = CONTEXT.Semaphore(0)
        self.started: list[tuple[Any, Any]] = []

    def start(self, *endings: str) -> None:
        for ending in endings:
            leave = CONTEXT.Semaphore(0)
            process = CONTEXT.Process(
                target=as_program, args=(self.home, self.joined, leave, ending)
            )
            process.start()
            self.started.append((process, leave))
        for _ in endings:
            assert self.joined.acquire(timeout=PATIENCE)

    def end(self, index: int) -> int:
        process, leave = self.started[index]
        leave.release()
        process.join(PATIENCE)
        return int(process.exitcode)


def as_program(*args: Any) -> None:
    """Run a member as a program of its own: a child of multiprocessing skips atexit."""
    try:
        member(*args)
    finally:
        atexit._run_exitfuncs()


def server_pid(home: Path) -> int | None:
    """Return the running server's process, None where there is none."""
    file = embedded.data_folder(home) / "postmaster.pid"
    try:
        pid = int(file.read_text().split()[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pid


def url_of(home: Path) -> str:
    """Return the URL of a server that runs, without joining it."""
    lines = (embedded.data_folder(home) / "postmaster.pid").read_text().splitlines()
    return f"postgresql://postgres@/postgres?host={lines[4]}"


def is_stopped(home: Path) -> bool:
    end = time.monotonic() + 10
    while server_pid(home) is not None and time.monotonic() < end:
        time.sleep(0.05)
    return server_pid(home) is None


def test_the_last_of_several_processes_stops_the_server_and_its_data_stay(home: Path) -> None:
    members = Members(home)
    members.start("well", "raises", "well")
    pid = server_pid(home)
    assert pid is not None
    assert [members.end(0), members.end(1)] == [0, 1]
    assert server_pid(home) == pid
    assert members.end(2) == 0
    assert is_stopped(home)
    members.start("well")
    assert server_pid(home) not in (None, pid)
    with psycopg.connect(url_of(home)) as connection:
        assert connection.execute("select count(*) from visitor").fetchone() == (4,)
    assert members.end(3) == 0
    assert is_stopped(home)


def test_a_killed_process_does_not_keep_the_server_alive_for_ever(home: Path) -> None:
    members = Members(home)
    members.start("killed", "well")
    assert members.end(0) == -signal.SIGKILL
    assert server_pid(home) is not None
    assert members.end(1) == 0
    assert is_stopped(home)


def test_a_server_that_the_last_process_was_killed_beside_is_joined_by_the_next(
    home: Path,
) -> None:
    members = Members(home)
    members.start("killed")
    pid = server_pid(home)
    members.end(0)
    assert server_pid(home) == pid
    members.start("well")
    assert server_pid(home) == pid
    assert members.end(1) == 0
    assert is_stopped(home)
