"""The embedded PostgreSQL lets its owner in and no other user, and starts whatever was killed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lakebed.resources import embedded
from lakebed.resources.embedded_programs import EmbeddedServerError, server_user
from lakebed.resources.embedded_server import EmbeddedServer
from tests.support.processes import CONTEXT, PATIENCE


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter, as /tmp is."""
    folder = Path(tempfile.mkdtemp(prefix="lbt"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def stranger(place: Path) -> Iterator[pwd.struct_passwd]:
    """Another user of this machine."""
    if os.geteuid() != 0 or shutil.which("useradd") is None:
        pytest.skip("only root can make another user, with useradd")
    name = f"lbt{uuid.uuid4().hex[:8]}"
    subprocess.run(["useradd", "--system", "--no-create-home", name], check=True)
    try:
        yield pwd.getpwnam(name)
    finally:
        subprocess.run(["userdel", name], check=True)


def run_as(user: pwd.struct_passwd, work: Callable[[], str]) -> str:
    """Do work as another user, who has no XDG_RUNTIME_DIR; return what came of it.

    In a child of this process: another user may not be able to start this Python.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            os.environ.pop("XDG_RUNTIME_DIR", None)
            os.setgroups([])
            os.setresgid(*[user.pw_gid] * 3)
            os.setresuid(*[user.pw_uid] * 3)
            said = work()
        except BaseException as error:
            said = repr(error)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


def intrude(folder: Path) -> str:
    """Try to get in by a socket."""
    try:
        psycopg.connect(f"postgresql://postgres:@/postgres?host={folder}").close()
    except psycopg.OperationalError:
        return "out"
    return "in"


def join_and_stop(home: Path) -> str:
    """Start a server, use it and stop it."""
    with psycopg.connect(embedded.join(home)) as connection:
        ((said,),) = connection.execute("select 'in'").fetchall()
    stop(home)
    return str(said)


def long_home(place: Path) -> Path:
    """Return a home whose path is too long for a socket."""
    return place / ("h" * 90) / "home"


def socket_folder(url: str) -> Path:
    return Path(psycopg.conninfo.conninfo_to_dict(url)["host"])


def stop(home: Path) -> None:
    """Stop the server whatever has joined it."""
    embedded._joined.pop(home, None)
    EmbeddedServer(embedded.data_folder(home)).stop()


def test_the_socket_of_a_long_home_lies_in_a_private_folder(place: Path) -> None:
    home = long_home(place)
    folder = socket_folder(embedded.join(home))
    try:
        owner = server_user(embedded.data_folder(home)).uid
        found = folder.lstat()
        assert stat.S_ISDIR(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o700
        assert found.st_uid == owner
        assert stat.S_IMODE((folder / ".s.PGSQL.5432").stat().st_mode) == 0o700
    finally:
        stop(home)
    assert not folder.exists()


@pytest.mark.parametrize("long", [False, True])
def test_another_user_is_not_let_in(place: Path, stranger: pwd.struct_passwd, long: bool) -> None:
    home = long_home(place) if long else place / "home"
    url = embedded.join(home)
    try:
        assert run_as(stranger, lambda: intrude(socket_folder(url))) == "out"
        # Not even where the folders were opened: PostgreSQL asks who it is.
        folder = socket_folder(url)
        for opened in (folder, home, *([home.parent] if long else [])):
            opened.chmod(0o755)
        (folder / ".s.PGSQL.5432").chmod(0o777)
        assert run_as(stranger, lambda: intrude(folder)) == "out"
    finally:
        stop(home)


def test_two_users_without_a_runtime_folder_work_side_by_side(
    place: Path, stranger: pwd.struct_passwd
) -> None:
    mine, theirs = place / "mine", place / "theirs"
    embedded.join(mine)
    try:
        assert run_as(stranger, lambda: join_and_stop(theirs)) == "in"
        assert theirs.stat().st_uid == stranger.pw_uid
        assert stat.S_IMODE(theirs.stat().st_mode) == 0o700
    finally:
        stop(mine)


def test_a_user_may_not_start_the_server_of_another(
    place: Path, stranger: pwd.struct_passwd
) -> None:
    data = place / "postgres"
    data.mkdir()
    said = run_as(stranger, lambda: join_and_stop(place))
    assert said.startswith("EmbeddedServerError")
    assert str(data) in said


def rejoin(home: Path, go: Any, said: Any) -> None:
    """Join when all are there, and say what came of it."""
    go.wait(PATIENCE)
    try:
        with psycopg.connect(embedded.join(home)) as connection:
            connection.execute("select 1")
        said.put("in")
    except BaseException as error:
        said.put(repr(error))
        raise


def test_many_restart_a_killed_server_at_once(place: Path) -> None:
    home = place / "home"
    server = EmbeddedServer(embedded.data_folder(home))
    url = embedded.join(home)
    try:
        # A session: a process of the server that outlives it a little.
        with closing(psycopg.connect(url)):
            pid = int((server.folder / "postmaster.pid").read_text().split()[0])
            count = 5
            go, said = CONTEXT.Barrier(count + 1), CONTEXT.Queue()
            started = [CONTEXT.Process(target=rejoin, args=(home, go, said)) for _ in range(count)]
            for process in started:
                process.start()
            os.kill(pid, signal.SIGKILL)
            go.wait(PATIENCE)
            assert [said.get(timeout=PATIENCE) for _ in started] == ["in"] * count
            for process in started:
                process.join(PATIENCE)
    finally:
        stop(home)


def test_a_server_starts_whose_number_another_program_has(place: Path) -> None:
    home = place / "home"
    embedded.join(home)
    stop(home)
    data = embedded.data_folder(home)
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n1712346200\n5432\n{data}\n")
    try:
        with psycopg.connect(embedded.join(home)) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        stop(home)


def test_an_initdb_that_was_killed_leaves_nothing_in_the_way(place: Path) -> None:
    home = place / "home"
    half = home / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    home.chmod(0o755)
    with psycopg.connect(embedded.join(home)) as connection:
        assert connection.execute("show jit").fetchone() == ("off",)
    stop(home)
    assert not half.exists()


def test_a_folder_with_files_of_somebody_else_is_not_taken_for_data(place: Path) -> None:
    data = place / "postgres"
    data.mkdir()
    (data / "photo.jpeg").touch()
    with pytest.raises(EmbeddedServerError, match=r"PG_VERSION"):
        EmbeddedServer(data).start()
    assert (data / "photo.jpeg").exists()


def test_a_home_whose_data_lie_outside_keeps_them_when_it_is_opened(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's server has another user")
    home = place / "closed"
    home.mkdir(mode=0o700)
    closed = embedded.data_folder(home)
    assert closed.parent == Path("/var/lib/lakebed")
    closed.mkdir(parents=True)
    try:
        (closed / "PG_VERSION").write_text("18\n")
        home.chmod(0o755)
        assert embedded.data_folder(home) == closed
    finally:
        shutil.rmtree(closed)
