"""The benchmark of loads runs end to end and tells figures; what they are is no test's concern."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.thorough
def test_the_benchmark_writes_a_figure_for_the_floor_and_for_each_write_mode(
    tmp_path: Path, database: str
) -> None:
    target = tmp_path / "figures.json"
    options = ["--scale", "0.01", "--runs", "1", "--only", "full", "--json", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.ingest", *options],
        cwd=ROOT,
        env=os.environ | {"LAKEBED_POSTGRES_URL": database, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(target.read_text())
    assert told["rows"] == 60175
    figures = {figure["what"]: figure for figure in told["figures"]}
    floor, _, append, merge = figures.values()
    for load in (append, merge):
        assert load["rows"] == 60175
        assert load["ratio"] == pytest.approx(floor["seconds"] / load["seconds"])
        assert 50 < load["peak_mb"] < 10_000
    assert not list(tmp_path.glob("lakebed-bench-*"))


def test_the_benchmark_refuses_a_case_that_it_does_not_have() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.ingest", "--only", "floor"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "'floor' is not a case. The cases are full, csv" in done.stderr
