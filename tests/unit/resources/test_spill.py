"""What does not fit in memory lies in a folder of one session's own."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import duckdb

from lakebed.resources.spill import spill_folder

SPILLS = """
import sys, duckdb
from pathlib import Path
from lakebed.resources.spill import spill_folder
with spill_folder(Path(sys.argv[1])) as folder:
    connection = duckdb.connect()
    connection.execute("set threads = 1")
    connection.execute("set memory_limit = '80MB'")
    connection.execute("set temp_directory = '" + str(folder) + "'")
    query = "select md5(range::varchar || $1) as digest from range(2000000)"
    rows = connection.execute(f"{query} order by digest", [sys.argv[2]])
    assert folder.is_dir(), "nothing was spilt"
    last, count = "", 0
    while batch := rows.fetchmany(100_000):
        assert last < batch[0][0] and all(a < b for a, b in zip(batch, batch[1:]))
        last, count = batch[-1][0], count + len(batch)
    assert count == 2000000, count
"""


def test_two_processes_spill_beside_each_other_and_leave_nothing(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", SPILLS, str(tmp_path), name], cwd=Path.cwd())
        for name in "ab"
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_live_one_has_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / f"{platform.node()}-{ended.pid}-0123abcd"
    elsewhere = tmp_path / f"another-machine-{ended.pid}-0123abcd"
    foreign = tmp_path / "mine"
    for folder in (dead, elsewhere, foreign):
        folder.mkdir()
    with spill_folder(tmp_path) as mine:
        with spill_folder(tmp_path) as other:
            assert other != mine
        assert set(tmp_path.iterdir()) == {mine, elsewhere, foreign}
    assert set(tmp_path.iterdir()) == {elsewhere, foreign}


def test_a_lake_that_may_only_be_read_spills_elsewhere(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    with spill_folder(tmp_path / "file" / ".spill") as folder:
        assert tmp_path not in folder.parents
        assert folder.parent.is_dir()


def test_the_folder_is_made_where_the_lake_is_not_there_yet(tmp_path: Path) -> None:
    with spill_folder(tmp_path / "lake" / ".spill") as folder, duckdb.connect() as connection:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.parent.is_dir()
        connection.execute(f"set temp_directory = '{folder}'")
