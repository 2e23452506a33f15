"""The distributions, built once, and the virtual environments that they are installed into."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.checkout import ROOT


def run(
    command: list[str | Path], folder: Path, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed; show what it said where it does not."""
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def build(source: Path, target: str, folder: Path) -> Path:
    """Build a distribution ("wheel" or "sdist") of a folder of sources; return its file."""
    run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder], source)
    (file,) = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return file


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def clean_environment(**more: str) -> dict[str, str]:
    """Return an environment in which the checkout and its settings are not to be found."""
    ours = ("LAKEBED_", "DAGSTER_", "PYTHONPATH", "VIRTUAL_ENV")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | more


def lowest_versions() -> list[str]:
    """Return the lowest version that each range of the dependencies allows, as constraints."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    groups = [extras[name] for name in ("demo", "embedded", "mysql", "s3", "shell", "ui")]
    pins = []
    for text in [*project["dependencies"], *(text for group in groups for text in group)]:
        requirement = Requirement(text)
        (least,) = [s.version for s in requirement.specifier if s.operator in (">=", "==")]
        pins.append(f"{requirement.name}=={least}")
    return pins
