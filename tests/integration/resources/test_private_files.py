"""What Lakebed keeps is its owner's alone, whatever the umask; what a user asks for is not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lakebed.cli.main import main
from lakebed.recovery.backup import take_backup
from lakebed.resources import private
from lakebed.resources.settings import remember
from lakebed.resources.spill import spill_folder
from lakebed.store.platform import Platform
from lakebed.tiering.catalog_file import write_catalog
from tests.support.tiers import fill, settle


@pytest.fixture(params=[0o000, 0o022])
def umask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(private, "_users_umask", {})
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def open_ones(folder: Path) -> list[str]:
    """Return what lies in a folder and is not its owner's alone."""
    return [
        f"{path.relative_to(folder)} {stat.S_IMODE(path.lstat().st_mode):04o}"
        for path in folder.rglob("*")
        if path.lstat().st_mode & private.NOT_THE_OWNER
    ]


@pytest.mark.usefixtures("umask")
def test_a_lake_backups_and_settings_are_private(platform: Platform) -> None:
    """By the functions alone, in a process of the user's own."""
    platform.settings.data.chmod(0o700)  # of the test
    fill(platform)
    settle(platform)
    write_catalog(platform)
    take_backup(
        platform.settings.home, platform.postgres, platform.lake, platform.table("readings")
    )
    remember(platform.settings.home, "LAKEBED_DATA", str(platform.settings.data))
    assert (platform.settings.home / "lake" / "catalog.duckdb").exists()
    assert list((platform.settings.home / "backups").rglob("hot.parquet"))
    assert open_ones(platform.settings.home) == []


@pytest.mark.usefixtures("umask")
def test_what_does_not_fit_in_memory_is_private(tmp_path: Path) -> None:
    with spill_folder(tmp_path / ".spill") as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert open_ones(tmp_path) == []


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the home."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture
def run(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a command of this platform, as a program does."""
    for name, value in platform.settings.environment().items():
        monkeypatch.setenv(name, value)

    def run(*arguments: object) -> None:
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            assert ended.code in (0, None)

    return run


def test_commands_keep_private_what_they_make_in_the_home_and_nothing_else(
    platform: Platform, umask: int, run: Callable[..., None], elsewhere: Path
) -> None:
    home = platform.settings.home
    (platform.settings.data / "readings").mkdir(mode=0o700)
    (home / "exports").mkdir(mode=0o700)
    platform.settings.data.chmod(0o700)
    fill(platform)
    run("export", "readings", "--output", platform.settings.data / "readings" / "1.parquet")
    run("load", "readings")
    run("move", "readings", "--partition", "2024-01")
    run("export", "readings", "--output", home / "exports" / "readings.csv")
    assert open_ones(home) == []
    run("export", "readings", "--output", elsewhere / "readings.csv")
    run("metrics", "--output", elsewhere / "lakebed.prom")
    for name in ("readings.csv", "lakebed.prom"):
        assert stat.S_IMODE((elsewhere / name).stat().st_mode) == 0o666 & ~umask


@pytest.mark.usefixtures("umask")
def test_an_export_keeps_the_mode_of_the_file_that_it_replaces(
    platform: Platform, run: Callable[..., None], elsewhere: Path
) -> None:
    fill(platform)
    target = elsewhere / "readings.csv"
    target.touch()
    target.chmod(0o640)
    run("export", "readings", "--output", target)
    assert target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
