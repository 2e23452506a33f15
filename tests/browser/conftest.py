"""`lakebed up` for real, once for all tests of the browser, and a headless Chromium before it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from lakebed.resources.embedded import data_folder
from tests.conftest import open_folder
from tests.support.checkout import ROOT

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
QUERY = """
import sys
from lakebed.store.platform import open_platform
from lakebed.resources.settings import read_settings
with open_platform(read_settings()).lake.session() as session:
    print(session.sql(sys.argv[1]).fetchall()[0][0])
"""

HOLD = """
import sys
from lakebed.store.platform import open_platform
from lakebed.resources.settings import read_settings
from lakebed.spec.partitions import window_for_key
from lakebed.resources.locks import move_lock
platform, (table, key) = open_platform(read_settings()), sys.argv[1:]
lock = move_lock(table, window_for_key(platform.table(table).require_partitioning.grain, key))
with platform.postgres.connect(autocommit=True) as connection, lock.held(connection):
    print("held", flush=True)
    sys.stdin.read()
"""


@dataclass
class Up:
    """A running `lakebed up`."""

    home: Path
    port: int
    process: subprocess.Popen[str]
    environment: dict[str, str]

    @property
    def data(self) -> Path:
        return self.home / "data"

    def page(self, path: str) -> str:
        return f"http://localhost:{self.port}{path}"

    def ask(self, query: str) -> int:
        """Return the number that a query over both tiers finds, asked by a process of its own."""
        done = subprocess.run(
            [sys.executable, "-c", QUERY, query],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return int(done.stdout)

    @contextmanager
    def locked(self, table: str, key: str) -> Iterator[None]:
        """Hold the lock of the moves of a partition, in a process of its own."""
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, table, key],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
            yield
        finally:
            holder.stdin.close()
            holder.wait(timeout=30)

    def processes(self) -> list[psutil.Process]:
        """Return every process of this home: those with its environment, and its server."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            ours = process.environ().get("LAKEBED_HOME") == str(self.home)
            return ours or str(data_folder(self.home)) in process.cmdline()
        except psutil.Error:
            return False

    def stop(self) -> int:
        """Do as Ctrl-C does; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; without one, or without playwright, these tests are skipped."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip("there is no Chromium on the PATH")


@pytest.fixture(scope="session")
def up(chromium: str) -> Iterator[Up]:
    with open_folder() as home:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LAKEBED_", "DAGSTER_"))}
        environment = kept | {"LAKEBED_HOME": str(home), "PYTHONUNBUFFERED": "1"}
        prepared = subprocess.run(
            [sys.executable, "-m", "tests.browser.home", str(home)],
            env=kept,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert prepared.returncode == 0, prepared.stderr[-3000:]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("lakebed")), "up", "--port", str(port)],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        up = Up(home, port, process, environment)
        try:
            assert process.stdout is not None
            told = []
            for line in process.stdout:
                told.append(line)
                if "is up" in line:
                    break
            else:
                pytest.fail("lakebed up ended:\n" + "".join(told))
            yield up
        finally:
            if process.poll() is None:
                up.stop()
            for left in up.processes():
                left.kill()


@pytest.fixture(scope="module")  # playwright's event loop would be in the way of later modules
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(20_000)
    yield page
    page.close()
