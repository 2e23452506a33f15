"""A query imports no table file where nothing has changed, and reads what has changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lakebed.resources.settings import Settings
from lakebed.store import lake_tables
from lakebed.store.lake_tables import open_lake
from lakebed.store.platform import open_platform
from tests.conftest import settings_for

TABLE = '''
import pandera.polars as pa
import polars as pl

from lakebed import CsvFiles, SourceTable


class Thing(pa.DataFrameModel):
    """A thing."""

    id: int = pa.Field()
    price: pl.Float64 = pa.Field()


things = SourceTable(name="things", model=Thing, source=CsvFiles("things.csv"), key=("id",))
'''
HEAVY = ["pandas", "pandera", "polars", "pyarrow", "dagster", "dlt", "sqlglot", "sqlalchemy"]


@pytest.fixture
def settings(tmp_path: Path, database: str) -> Settings:
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "things.py").write_text(TABLE)
    (tmp_path / "home").mkdir()
    return settings_for(tmp_path / "home", database, LAKEBED_TABLES=str(tables))


def refuse(settings: Settings) -> None:
    raise AssertionError("the table files were imported")


def columns(settings: Settings) -> list[str]:
    return [name for table in open_lake(settings).tables for name, _ in table.columns]


def test_what_is_kept_is_what_the_table_files_say(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = open_platform(settings).lake.tables
    assert open_lake(settings).tables == fresh
    monkeypatch.setattr("lakebed.store.platform.open_platform", refuse)
    assert open_lake(settings).tables == fresh


def test_a_file_that_changes_comes_or_goes_is_seen(settings: Settings) -> None:
    assert columns(settings) == ["id", "price"]
    file = settings.tables / "things.py"
    file.write_text(TABLE.replace("price", "cost"))
    assert columns(settings) == ["id", "cost"]
    other = settings.tables / "others.py"
    other.write_text(TABLE.replace("things", "others"))
    assert columns(settings) == ["id", "price", "id", "cost"]
    file.unlink()
    assert columns(settings) == ["id", "price"]


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "from pathlib import Path",
        "from shared import COLUMNS",
        "from . import other",
        "NAMES = open('names.txt').read()",
        "FRAME = pl.read_csv('names.csv')",
        "FOLDER = __file__",
        "AT = datetime.now()",
        "X = eval('1')",
        "import importlib",
        "from polars import read_csv as columns_of",
        "from lakebed import connect",
        "from lakebed import read_settings as rs",
        "from lakebed.resources import settings",
        "import dataclasses",
        "X = pa.io.from_yaml('a.yml')",
        "X = pl.DataFrame.deserialize('a')",
        "X = pl.Config.load_from_file('a')",
        "X = datetime.fromtimestamp(1)",
        "X = __name__",
        "X = pl.__builtins__",
    ],
)
def test_a_file_that_may_say_something_else_tomorrow_is_imported_each_time(line: str) -> None:
    assert lake_tables._depends_on_its_text(TABLE.encode())
    assert not lake_tables._depends_on_its_text(f"{TABLE}\n{line}\n".encode())


@pytest.mark.parametrize("text", ["", "{", '{"digest": 1, "tables": []}', "[]", '"x"'])
def test_what_is_kept_and_cannot_be_read_is_made_again(settings: Settings, text: str) -> None:
    kept = settings.home / "tables.json"
    kept.write_text(text)
    assert columns(settings) == ["id", "price"]
    assert "things" in kept.read_text()


def test_a_home_that_is_not_there_is_not_made(settings: Settings) -> None:
    settings.home.rmdir()
    assert columns(settings) == ["id", "price"]
    assert not settings.home.exists()


def test_a_query_of_the_command_imports_nothing_heavy(settings: Settings) -> None:
    columns(settings)
    program = (
        "import sys; from lakebed.cli.main import main\n"
        "try: main(['sql', 'select count(*) as n from things', '--format', 'csv'])\n"
        "finally: print([name for name in HEAVY if name in sys.modules])"
    ).replace("HEAVY", repr(HEAVY))
    environment = settings.environment() | {"PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["n", "0", "[]"], done.stderr
