"""Files and folders of one process alone; what killed processes left goes with the next one."""

from __future__ import annotations

from pathlib import Path

from lakebed.resources.spool import Spool


def test_a_folder_goes_with_its_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    place = spool.take("")
    place.path.mkdir()
    (place.path / "rows.parquet").touch()
    beside = spool.take(".parquet")
    beside.path.touch()
    place.release()
    assert not place.path.exists()
    assert beside.path.exists()
    beside.release()
    assert list(spool.folder.iterdir()) == []


def test_what_a_dead_process_left_goes_with_the_next_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    left = tmp_path / "0123456789abcdef"
    left.mkdir()
    (left / "rows.parquet").touch()
    left.with_suffix(".lock").touch()
    spool.take("").release()
    assert list(tmp_path.iterdir()) == []
