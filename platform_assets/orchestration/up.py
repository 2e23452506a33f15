"""`lakebed up`: PostgreSQL, the Dagster UI and its daemon, together or each apart."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lakebed.errors import LakebedError
from lakebed.orchestration.instance import instance_environment, prepare_instance
from lakebed.resources.extras import require
from lakebed.resources.private import make_private_file, make_private_folder, open_private
from lakebed.store.platform import Platform

READY_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 30
LOCAL = ("127.0.0.1", "localhost", "::1")
LOCATION_QUERY = """{ workspaceOrError { __typename ... on Workspace { locationEntries { name
    loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"""


class UpError(LakebedError, RuntimeError):
    """The platform could not be started, or one of its processes ended by itself."""


class _Stopped(Exception):  # noqa: N818  (a signal, not an error)
    """Somebody asked for the end: Ctrl-C or SIGTERM."""


@dataclass
class _Process:
    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        if self.popen.poll() is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-20:]
            raise UpError(
                f"the {self.name} ended with code {self.popen.returncode}; the end of {self.log}:\n"
                + "\n".join(tail)
            )


@dataclass(frozen=True)
class Web:
    """The webserver: where it listens, and whether users may change anything."""

    host: str = "127.0.0.1"
    port: int = 3000
    read_only: bool = False

    @property
    def address(self) -> str:
        """The address for people."""
        return f"http://{'localhost' if self.host in LOCAL else self.host}:{self.port}"

    @property
    def command(self) -> list[str]:
        """The command that starts it, without its workspace."""
        command = ["dagster-webserver", "--host", self.host, "--port", str(self.port)]
        return [*command, "--read-only"] if self.read_only else command

    @property
    def warning(self) -> str | None:
        """A warning for an address that other machines reach, too."""
        if self.host in LOCAL:
            return None
        what = "see every table's name and figures" if self.read_only else "run anything"
        return (
            f"Anyone who reaches {self.address} can {what}: the Dagster UI has no log-in. "
            "Put a proxy that has one in front, and let it alone reach this address."
        )


def run_up(platform: Platform, console: Console, web: Web | None, *, daemon: bool = True) -> None:
    """Start it, say so, and stay until Ctrl-C or SIGTERM; then stop what was started.

    web: the webserver, None for the daemon alone.  daemon: whether the daemon is started, of
    which a home has one. Raises UpError.
    """
    if web is not None:
        require("ui", "The Dagster UI")
    with ExitStack() as stack:
        if daemon:
            stack.enter_context(_only_one(platform.settings.home))
        stack.enter_context(_signals())
        if web is not None:
            _free(web.host, web.port)
            if web.warning:
                console.print(f"[yellow]{web.warning}[/]")
        console.print(f"Starting {platform.postgres.name}")
        home = prepare_instance(platform)
        ui = {"LAKEBED_UI_URL": web.address} if web is not None else {}
        environment = os.environ | ui | instance_environment(platform)
        processes: list[_Process] = []
        try:
            workspace = ["-w", str(home / "workspace.yaml")]
            if web is not None:
                console.print("Starting the Dagster UI")
                command = [*web.command, *workspace]
                processes.append(_start("webserver", command, environment, platform))
            if daemon:
                console.print("Starting the Dagster daemon")
                command = ["dagster-daemon", "run", *workspace]
                processes.append(_start("daemon", command, environment, platform))
            if web is not None:
                _wait_until_ready(f"http://{_reachable(web.host)}:{web.port}", processes)
                where = f"[bold]{web.address}/asset-groups[/]"
                console.print(f"Lakebed is up: {where}   (Ctrl-C stops it)")
                console.print(f"The map of the platform: {web.address}/assets/platform/start_here")
            else:
                console.print("The daemon of Lakebed is up   (Ctrl-C stops it)")
            while True:
                for process in processes:
                    process.check()
                time.sleep(0.5)
        except _Stopped:
            console.print("Stopping")
        finally:
            _stop(processes)
    console.print("Stopped")


def _start(
    name: str, command: list[str], environment: Mapping[str, str], platform: Platform
) -> _Process:
    home = platform.settings.home
    log = home / "logs" / f"{name}.log"
    make_private_folder(log.parent)
    arguments = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
    log.unlink(missing_ok=True)
    make_private_file(log)
    with log.open("wb") as stream:
        # A session of its own: Ctrl-C reaches this process alone, which stops its children.
        popen = subprocess.Popen(
            arguments,
            env=dict(environment),
            cwd=platform.settings.project or home,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _Process(name, popen, log)


def _stop(processes: list[_Process]) -> None:
    for process in reversed(processes):
        if process.popen.poll() is None:
            process.popen.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.popen.wait(max(0.1, deadline - time.monotonic()))
        # What the process left behind in its session: code servers, runs.
        try:
            os.killpg(process.popen.pid, signal.SIGTERM)
            time.sleep(0.5)
            os.killpg(process.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            process.popen.wait()


def _wait_until_ready(address: str, processes: list[_Process]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        for process in processes:
            process.check()
        if _location_loaded(address):
            return
        time.sleep(0.5)
    raise UpError(f"the Dagster UI did not get ready in {READY_TIMEOUT_SECONDS} seconds")


def _location_loaded(address: str) -> bool:
    request = urllib.request.Request(
        f"{address}/graphql",
        data=json.dumps({"query": LOCATION_QUERY}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            workspace = json.load(response)["data"]["workspaceOrError"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    entries = workspace.get("locationEntries", [])
    for entry in entries:
        found = entry["locationOrLoadError"] or {}
        if found.get("__typename") == "PythonError":
            raise UpError(f"the definitions do not load:\n{found['message']}")
    return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Two daemons of one instance would start every run twice."""
    make_private_folder(home)
    with open_private(home / "up.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UpError(f"`lakebed up` runs already in {home}; stop that one first") from error
        yield


@contextmanager
def _signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into _Stopped, also where a shell's background ignores them."""

    def stop(number: int, frame: object) -> None:
        # Once: what comes while everything is being stopped must not interrupt that.
        for known in before:
            signal.signal(known, signal.SIG_IGN)
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UpError(
                f"{host}:{port} is not free ({error.strerror}); name another with --port"
            ) from error


def _reachable(host: str) -> str:
    return "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104  (compared, not bound)
