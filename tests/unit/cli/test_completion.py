"""Tab completion over the demo's tables and models: from files alone, without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakebed.cli.shell import is_complete
from tests.support.checkout import ROOT


def completed(home: Path, line: str) -> list[str]:
    words = line.split(" ")
    environment = os.environ | {
        "LAKEBED_HOME": str(home),
        "LAKEBED_CLOCK": "2013-12-31T00:00:00+00:00",
        "_LAKEBED_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    program = "from lakebed.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    found = [line.partition(",")[2] for line in done.stdout.splitlines()]
    return [name for name in found if name]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lakebed load fl", ["flights"]),
        ("lakebed load airlines air", ["airports"]),
        ("lakebed move flights --partition 2013-1", ["2013-10", "2013-11", "2013-12"]),
        ("lakebed build --select +stg", ["+stg_flights"]),
        ("lakebed export stg", ["stg_flights"]),
        ("lakebed backfill cold/w", ["cold/weather"]),
        ("lakebed rej", ["rejects"]),
    ],
)
def test_names_are_completed(tmp_path: Path, line: str, expected: list[str]) -> None:
    assert completed(tmp_path, line) == expected


def test_nothing_is_completed_where_there_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEBED_TABLES", str(tmp_path / "none"))
    assert completed(tmp_path, "lakebed load fl") == []
    assert completed(tmp_path, "lakebed build m") == []


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("select 1", False),
        ("select 1;", True),
        ("select ';", False),
        ("select ';' -- x;", False),
        ("select 'é' ; -- done", True),
        ("\\d flights", True),
        ("\\explain from flights", False),
        ("", True),
    ],
)
def test_a_statement_ends_with_a_semicolon_of_its_own(text: str, complete: bool) -> None:
    assert is_complete(text) is complete
