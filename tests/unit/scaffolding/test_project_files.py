"""`lakebed new`: a project that is valid as it is written, and overwrites nothing."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from dotenv import dotenv_values

from lakebed import Lakebed, build_defs
from lakebed.cli.main import group
from lakebed.scaffolding.project_files import NewProjectError, project_name, write_project
from tests.support.checkout import ROOT

FILES = {
    *(".env", ".gitignore", "README.md", "definitions.py", "pyproject.toml", "workspace.yaml"),
    *("tables/readings.py", "tests/test_project.py"),
    *("models/marts/daily_temperature.sql", "models/staging/stg_readings.sql"),
    *(f"data/readings/2024-0{month}.csv" for month in (1, 2, 3)),
}


def test_a_new_project_is_complete_and_valid(tmp_path: Path) -> None:
    folder = tmp_path / "My Shop"
    written = write_project(folder)
    assert {file.relative_to(folder).as_posix() for file in written} == FILES
    assert all("{{" not in f.read_text() for f in written if f.suffix != ".sql")
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my-shop"
    assert project["tool"]["lakebed"] == {}
    (location,) = yaml.safe_load((folder / "workspace.yaml").read_text())["load_from"]
    assert location["python_file"]["location_name"] == "my-shop"
    assert dotenv_values(folder / ".env") == {}
    lake = Lakebed(folder=folder / "models" / "marts")
    assert (lake.settings.project, lake.tables) == (folder, ("readings",))
    keys = build_defs(lake.settings).resolve_asset_graph().get_all_asset_keys()
    assert {"hot/readings", "cold/readings", "marts/daily_temperature"} <= {
        key.to_user_string() for key in keys
    }
    assert not (folder / ".lakebed").exists()


def test_the_definitions_of_a_new_project_are_three_lines_that_work_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shop"
    write_project(folder)
    monkeypatch.chdir(tmp_path)
    text = (folder / "definitions.py").read_text()
    assert len([line for line in text.splitlines() if line]) == 3
    found: dict[str, object] = {"__file__": str(folder / "definitions.py")}
    exec(compile(text, "definitions.py", "exec"), found)  # noqa: S102
    assert type(found["defs"]).__name__ == "Definitions"


def test_the_tests_of_a_new_project_pass(tmp_path: Path) -> None:
    write_project(tmp_path / "shop")
    text = (tmp_path / "shop/tests/test_project.py").read_text()
    names = re.findall(r"^def (test_\w+)", text, re.M)
    found: dict[str, object] = {"__file__": str(tmp_path / "shop/tests/test_project.py")}
    exec(compile(text, "test_project.py", "exec"), found)  # noqa: S102
    assert len(names) == 2
    for name in names:
        found[name]()  # type: ignore[operator]


def test_the_example_of_the_readme_is_the_table_of_a_new_project(tmp_path: Path) -> None:
    write_project(tmp_path / "shop")
    table = (tmp_path / "shop/tables/readings.py").read_text().partition("from datetime")[2]
    assert "from datetime" + table in (ROOT / "README.md").read_text()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "pyproject.toml").write_text("mine")
    with pytest.raises(NewProjectError, match=r"pyproject\.toml"):
        write_project(tmp_path / "shop")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NewProjectError, match="is a file"):
        write_project(tmp_path / "file")
    assert (tmp_path / "shop" / "pyproject.toml").read_text() == "mine"
    assert [p.name for p in (tmp_path / "shop").iterdir()] == ["pyproject.toml"]


def test_a_folder_that_holds_git_and_an_environment_alone_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    (folder / ".git").mkdir(parents=True)
    (folder / ".venv").mkdir()
    assert len(write_project(folder)) == len(FILES)


@pytest.mark.parametrize("name", ["", "1shop", "lakebed", "é", "x" * 41])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(NewProjectError):
        project_name(name)


def test_the_command_writes_into_the_working_folder_or_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = CliRunner().invoke(group, ["new"])
    assert done.exit_code == 0
    assert set(done.stdout.split()) == FILES
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(group, ["new", "shop"]).exit_code == 0
    assert (tmp_path / "shop" / "tables" / "readings.py").is_file()
    refused = CliRunner().invoke(group, ["new", "shop"])
    assert isinstance(refused.exception, NewProjectError)
    assert "lakebed" in sys.modules
