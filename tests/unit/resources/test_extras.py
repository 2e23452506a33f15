"""A missing extra is named with the command that installs it."""

from __future__ import annotations

import importlib.util
import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from rich.console import Console

from lakebed.demo.demo_files import write_demo_files
from lakebed.orchestration.up import Web, run_up
from lakebed.resources import extras
from lakebed.resources.embedded_programs import programs_for
from lakebed.resources.extensions import extension_file
from lakebed.resources.extras import MissingExtraError, install, require
from lakebed.store.platform import open_platform
from tests.conftest import settings_for
from tests.support.checkout import ROOT


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no package of any extra be found."""
    find = importlib.util.find_spec
    hidden = {module for modules in extras._MODULES.values() for module in modules}

    def hide(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in hidden else find(name, package)

    for module in ("resources.extras", "resources.embedded_programs", "demo.demo_files"):
        monkeypatch.setattr(f"lakebed.{module}.find_spec", hide)
    monkeypatch.setattr("lakebed.resources.extensions.find_spec", hide)


def test_each_extra_is_one_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"].keys() - {"all", "dev"}
    assert extras._MODULES.keys() == known
    assert project["optional-dependencies"]["all"] == [f"lakebed[{','.join(sorted(known))}]"]


@pytest.mark.parametrize("extra", sorted(extras._MODULES))
def test_the_error_has_the_command(extra: extras.Extra, bare: None) -> None:
    with pytest.raises(MissingExtraError) as caught:
        require(extra, "This")
    assert caught.value.extra == extra
    assert f'pip install "lakebed[{extra}]"' == install(extra)
    assert install(extra) in str(caught.value)
    assert caught.value.exit_code == 2


def test_what_is_installed_is_found() -> None:
    for extra in extras._MODULES:
        require(extra, "This")


def test_what_needs_an_extra_says_so(tmp_path: Path, bare: None) -> None:
    platform = open_platform(settings_for(tmp_path / "home", "postgresql://x@127.0.0.1:9/x"), ())
    for extra, use in (
        ("ui", lambda: run_up(platform, Console(), Web())),
        ("demo", lambda: write_demo_files(tmp_path / "data")),
        ("s3", lambda: extension_file("httpfs")),
        ("embedded", lambda: programs_for(tmp_path, None)),  # type: ignore[arg-type]
    ):
        with pytest.raises(MissingExtraError) as caught:
            use()
        assert caught.value.extra == extra
    assert list(tmp_path.iterdir()) == []
