"""Importing opens no connection, sets no environment, reads no clock and no secret."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

PROBE = """
import importlib, os, pkgutil, socket, sys

# What other people's packages do when they are imported is not ours.
import dagster, dlt, duckdb, pandera.polars, polars, psycopg, pyarrow.parquet, sqlglot
for name in ("dagster_duckdb", "click", "rich.console", "jinja2"):
    importlib.import_module(name)

def refuse(*_, **__):
    raise AssertionError("an import opened a connection or read the settings")

psycopg.connect = psycopg.Connection.connect = duckdb.connect = refuse
socket.socket.connect = socket.create_connection = refuse

import lakebed.resources.settings
lakebed.resources.settings.read_settings = refuse

OURS = os.path.dirname(lakebed.__file__)
read = []

def watch(frame, event, called):
    name = getattr(called, "__qualname__", "")
    if event == "c_call" and name in CLOCKS and frame.f_code.co_filename.startswith(OURS):
        read.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {name}")

CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time"}
environment = dict(os.environ)
sys.setprofile(watch)
modules = []
for found in pkgutil.walk_packages(lakebed.__path__, "lakebed."):
    if found.name != "lakebed.cli.__main__":
        importlib.import_module(found.name)
        modules.append(found.name)
sys.setprofile(None)
assert not read, read
assert dict(os.environ) == environment
assert len(modules) > 20, modules
print("imported", len(modules))
"""


def test_importing_every_module_opens_nothing_and_reads_neither_clock_nor_secret(
    tmp_path: Path,
) -> None:
    environ = {name: value for name, value in os.environ.items() if "LAKEBED" not in name}
    environ |= {"LAKEBED_POSTGRES_URL": "postgresql://secret@nowhere/x", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("imported")
    assert not (tmp_path / ".lakebed").exists()


@pytest.mark.parametrize("folder", ["platform_assets", "resources"])
def test_the_folders_of_the_checkout_are_no_packages_of_their_own(folder: str) -> None:
    with pytest.raises(ImportError, match="import lakebed"):
        importlib.import_module(folder)


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        file.name
        for package in ("platform_assets", "resources")
        for file in (ROOT / package).rglob("*.py")
        if re.search(r"os\.(getenv|environ(\[|\.get\b|\.items))", file.read_text())
    }
    assert readers == set()  # settings.py hands the whole of it to one function
