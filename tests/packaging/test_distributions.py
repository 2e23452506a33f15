"""What the wheel and the source distribution hold: everything once, under `lakebed` alone."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

from tests.packaging.conftest import build, lowest_versions
from tests.support.checkout import ROOT

MAPPED = {
    "platform_assets": "lakebed",
    "resources": "lakebed/resources",
    "dbt_like_sql": "lakebed/demo/models",
}


def _expected() -> dict[str, bytes]:
    """Return name in the wheel -> content of each file of the three folders."""
    return {
        f"{package}/{file.relative_to(ROOT / folder).as_posix()}": file.read_bytes()
        for folder, package in MAPPED.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names))
        return {name: archive.read(name) for name in names if ".dist-info/" not in name}


def test_the_wheel_holds_each_file_of_the_package_once_and_nothing_else(wheel: Path) -> None:
    found = _contents(wheel)
    assert found == _expected()
    assert {name.split("/")[0] for name in found} == {"lakebed"}
    assert "lakebed/py.typed" in found
    assert any(name.startswith("lakebed/resources/migrations/") for name in found)
    assert any(name.startswith("lakebed/scaffolding/new_project/") for name in found)


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    packed = build(ROOT, "sdist", tmp_path)
    with tarfile.open(packed) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert _contents(build(source, "wheel", tmp_path)) == _contents(wheel)


def test_each_range_has_a_lowest_version() -> None:
    pins = lowest_versions()
    assert len(pins) > 25
    assert "duckdb==1.5.5" in pins
