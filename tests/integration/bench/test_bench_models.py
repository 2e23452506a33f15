"""The benchmark of models and exports runs end to end and tells figures, whatever they are."""

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
def test_the_benchmark_writes_a_figure_of_ours_and_of_bare_duckdb(
    tmp_path: Path, database: str
) -> None:
    target = tmp_path / "figures.json"
    options = ["--rows", "10000", "--runs", "1", "--only", "overhead", "--json", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.models", *options],
        cwd=ROOT,
        env=os.environ | {"LAKEBED_POSTGRES_URL": database, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    bare, ours, overhead = json.loads(target.read_text())["figures"]
    assert bare["rows"] == ours["rows"] > 0
    assert ours["ratio"] == pytest.approx(bare["seconds"] / ours["seconds"])
    beyond = (ours["seconds"] - bare["seconds"]) / 4
    assert overhead["seconds"] == pytest.approx(beyond)
    assert not list(tmp_path.glob("lakebed-bench-*"))
