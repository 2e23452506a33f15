"""Folders for their owner alone: made so whatever the umask, and checked before use."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakebed.resources.private import OpenDoorError, check_private_folder, make_private_folder


@pytest.fixture(params=[0o000, 0o022, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    made = make_private_folder(tmp_path / "a" / "b")
    assert made == tmp_path / "a" / "b"
    assert [stat.S_IMODE(f.stat().st_mode) for f in (made, made.parent)] == [0o700, 0o700]


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    assert make_private_folder(tmp_path) == tmp_path
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_private_folder_is_trusted(tmp_path: Path) -> None:
    made = make_private_folder(tmp_path / "a")
    check_private_folder(made, os.geteuid())


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o777, 0o1777])
def test_a_folder_that_others_may_enter_is_not(tmp_path: Path, mode: int) -> None:
    made = make_private_folder(tmp_path / "a")
    made.chmod(mode)
    with pytest.raises(OpenDoorError, match=f"{mode:04o}"):
        check_private_folder(made, os.geteuid())


def test_neither_is_a_link_a_file_or_the_folder_of_another_user(tmp_path: Path) -> None:
    made = make_private_folder(tmp_path / "a")
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(made)
    file.touch(mode=0o600)
    for wrong in (link, file):
        with pytest.raises(OpenDoorError):
            check_private_folder(wrong, os.geteuid())
    with pytest.raises(OpenDoorError, match="belongs to"):
        check_private_folder(made, os.geteuid() + 1)
