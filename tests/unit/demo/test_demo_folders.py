"""The demo works on its own tables, in a folder that belongs to no other project."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakebed.demo.demo_folders import MODELS, TABLES, demo_settings
from lakebed.resources.settings import SettingsError, read_settings
from tests.support.checkout import ROOT


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAKEBED_HOME", raising=False)
    return tmp_path


def test_the_demo_in_an_empty_folder_is_remembered_for_the_commands_after_it(empty: Path) -> None:
    settings = demo_settings()
    assert (settings.tables, settings.models) == (TABLES, MODELS)
    assert settings.data == empty / ".lakebed" / "data"
    assert read_settings() == demo_settings() == settings
    assert [path.name for path in empty.iterdir()] == [".lakebed"]
    assert len(list(TABLES.glob("*.py"))) > 4
    assert list(MODELS.rglob("*.sql"))


def test_the_checkout_is_the_project_of_the_demo(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("LAKEBED_HOME", str(empty))
    settings = demo_settings()
    assert (settings.tables, settings.models) == (TABLES, MODELS)
    assert (settings.project, settings.data) == (ROOT, empty / "data")
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("what", ["project", "tables"])
def test_the_demo_touches_no_project(empty: Path, what: str) -> None:
    if what == "project":
        (empty / "pyproject.toml").write_text("[tool.lakebed]\n")
    else:
        (empty / "tables").mkdir()
    with pytest.raises(SettingsError):
        demo_settings()
    assert not (empty / ".lakebed").exists()
