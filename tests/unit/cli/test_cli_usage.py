"""What `lakebed` says and exits with where nothing has to be opened: help, usage, errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import psycopg
import pytest
from click.testing import CliRunner

from lakebed.cli import main as cli
from lakebed.errors import exit_code
from lakebed.tiering.partition import PartitionBusyError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lakebed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the command in this process on an empty home; give exit code, stdout and stderr."""
    monkeypatch.setenv("LAKEBED_HOME", str(tmp_path))
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
            sys.exit(0)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_help_shows_every_command_an_example_and_the_exit_codes(lakebed: Run) -> None:
    code, out, _ = lakebed("--help")
    assert code == 0
    assert all(f"\n  {name} " in out for name in cli.group.commands)
    assert "lakebed load --all" in out
    assert max(map(len, out.splitlines())) <= 80
    assert not re.search(r"\.\.\.$", out.partition("Start:")[2], re.M)
    assert all(f"{number} " in out for number in (0, 1, 2, 3, 130))


def test_every_command_explains_itself() -> None:
    for name, command in cli.group.commands.items():
        shown = CliRunner().invoke(cli.group, [name, "--help"])
        assert shown.exit_code == 0
        assert (command.help or "").splitlines()[0] in " ".join(shown.output.split())


def test_the_version_is_that_of_the_distribution(lakebed: Run) -> None:
    assert lakebed("--version")[:2] == (0, f"lakebed, version {cli.version('lakebed')}\n")


def test_help_imports_nothing_that_is_slow() -> None:
    program = (
        "import sys, lakebed.cli.main;"
        "print([m for m in sys.modules if m in"
        " ('dagster', 'dlt', 'pandera', 'polars', 'pyarrow', 'duckdb', 'psycopg', 'rich')])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["load"], "Name tables, or say --all. There are: airlines, airports, flights"),
        (["load", "flights", "--all"], "Name tables, or say --all"),
        (["load", "nope"], "unknown table 'nope'. Expected one of: airlines"),
        (["move", "flights"], "Say which partitions: --partition KEY (repeatable), or --due"),
        (["move", "flights", "--due", "--partition", "2013-01"], "Say which"),
        (["move", "--partition", "2013-01"], "--partition goes with a table"),
        (["sql", "--format", "csv"], "go with a query"),
        (["explain", ";"], "the query is empty"),
        (["move", "nope", "--due"], "unknown table 'nope'"),
        (["move", "airlines", "--due"], "has no tiering"),
        (["move", "flights", "--partition", "2013"], "a key such as 2024-01"),
        (["move", "flights", "--partition", "2013-1"], "That month is 2013-01"),
        (["move", "flights", "--due", "--as-of", "soon"], "ISO 8601"),
        (["move", "flights", "--due", "--as-of", "2013-06-01"], "has no time zone"),
        (["move", "flights", "--partition", "2013-01", "--as-of", "2013-06-01"], "goes with --due"),
        (["sql", " ; "], "the query is empty"),
        (["sql", "select 1", "--format", "xml"], "'xml' is not one of"),
        (["sql", "select 1", "--output", "/no/such/folder/x.csv"], "no folder /no/such/folder"),
        (["rejects", "nope"], "unknown table 'nope'"),
        (["rejects", "flights", "--limit", "0"], "--limit"),
        (["rejects", "flights", "--export", "x.xlsx"], "x.xlsx ends with none of .csv"),
        (["rejects", "flights", "--export", "no/such/x.csv"], "there is no folder"),
        (["rejects", "flights", "--retry", "--resolved"], "--retry goes with"),
        (["build", "nope"], "'nope' matches nothing"),
        (["up", "--port", "0"], "--port"),
        (["status", "--color"], "No such option"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(
    lakebed: Run, arguments: list[str], said: str
) -> None:
    code, out, err = lakebed(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_a_setting_that_makes_no_sense_exits_with_2(
    lakebed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEBED_POSTGRES_URL", "mysql://me:geheim@host/db")
    code, _, err = lakebed("status")
    assert code == 2
    assert "LAKEBED_POSTGRES_URL must look like postgresql://" in err
    assert "geheim" not in err


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project of one table and one model, both of which can be used."""
    for name in ("tables", "models/marts"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("LAKEBED_TABLES", str(tmp_path / "tables"))
    monkeypatch.setenv("LAKEBED_MODELS", str(tmp_path / "models"))
    table = 'SourceTable(name="good", model=M)'
    (tmp_path / "tables" / "good.py").write_text(
        "import pandera.polars as pa\nfrom lakebed import SourceTable\n"
        f"class M(pa.DataFrameModel):\n    a: int\ngood = {table}\n"
    )
    (tmp_path / "models" / "marts" / "ok.sql").write_text("from {{ source('lakebed', 'good') }}")
    return tmp_path


def test_check_is_content_with_a_project_that_can_be_used(lakebed: Run, folders: Path) -> None:
    assert lakebed("check", "--json")[:2] == (0, "[]\n")


@pytest.mark.parametrize(
    ("file", "text", "kind", "name"),
    [
        ("tables/broken.py", "1 / 0\n", "table", "broken"),
        ("tables/broken.py", "raise SystemExit(0)\n", "table", "broken"),
        (
            "tables/export.py",
            "from lakebed import Export\nx = Export(name='x', path='x.csv')\n",
            "export",
            "x",
        ),
        ("models/marts/bad.sql", "select x'ab' as b", "model", "bad"),
        (
            "models/marts/unfit.sql",
            "select no from {{ source('lakebed', 'good') }}",
            "model",
            "unfit",
        ),
        ("models/marts/x.yml", "models: [", "YAML file", "x.yml"),
        ("models/macros/m.sql", "{% macro m( %}", "macros", "m.sql"),
        ("models/tests/t.sql", "select 1 from", "test", "t"),
        ("models/dbt_project.yml", "name: [", "project", "models"),
    ],
)
def test_check_names_each_broken_thing_and_exits_with_1(
    lakebed: Run, folders: Path, file: str, text: str, kind: str, name: str
) -> None:
    path = folders / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    code, out, err = lakebed("check", "--json")
    assert code == 1
    (found,) = json.loads(out)
    assert (found["kind"], found["name"], found["file"]) == (kind, name, str(path))
    assert found["problem"] in err


def test_check_names_a_setting_that_cannot_be_used(
    lakebed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEBED_POSTGRES_URL", "mysql://me:geheim@host/db")
    code, out, err = lakebed("check", "--json")
    assert (code, [item["kind"] for item in json.loads(out)]) == (1, ["settings"])
    assert "geheim" not in out + err


def test_an_error_nobody_expected_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(cli.group, "invoke", lambda _: {}["bug"])
    with pytest.raises(KeyError, match="bug"):
        cli.main(["status"])


def test_ctrl_c_exits_with_130(lakebed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: click.Context) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.group, "invoke", interrupt)
    code, _, err = lakebed("status")
    assert code == 130
    assert "what was not committed did not happen" in err


def test_a_kind_of_an_expected_error_is_expected_too() -> None:
    assert exit_code(PartitionBusyError("another mover")) == 1
    assert exit_code(psycopg.errors.DiskFull("disk full")) == 1


def test_a_lost_connection_counts_as_an_unreachable_server() -> None:
    assert exit_code(psycopg.OperationalError("the connection is closed")) == 3
    assert exit_code(psycopg.errors.AdminShutdown("terminating connection")) == 3


def test_models_are_listed_and_compiled_without_a_server(lakebed: Run) -> None:
    code, out, err = lakebed("ls", "--select", "tag:traffic +delays_by_weather")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "staging/stg_flights",
        "marts/daily_traffic",
        "marts/delays_by_weather",
        "test/assert_daily_traffic_adds_up",
        "test/assert_weather_keeps_every_flight",
    ]
    code, out, _ = lakebed("compile", "stg_flights", "--vars", "{late_after_minutes: 30}")
    assert code == 0
    assert "dep_delay >= 30 as is_late" in out
    assert out.startswith("-- One row ")


def test_a_model_that_does_not_fit_the_tables_is_told_by_compile(
    lakebed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models/marts"
    folder.mkdir(parents=True)
    (folder / "bad.sql").write_text("select\n    carier\nfrom {{ source('lakebed', 'flights') }}")
    monkeypatch.setenv("LAKEBED_MODELS", str(tmp_path / "models"))
    code, _, err = lakebed("compile")
    assert code == 1
    assert f"{folder / 'bad.sql'}:2: DuckDB refuses 'bad'" in err
    assert '"carier" not found' in err


def test_add_refuses_a_table_that_a_file_of_another_name_declares(
    lakebed: Run, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folders / "data"
    data.mkdir()
    (data / "good.csv").write_text("a\n1\n")
    monkeypatch.setenv("LAKEBED_DATA", str(data))
    (folders / "tables" / "good.py").rename(folders / "tables" / "other.py")
    code, _, err = lakebed("add", "good.csv")
    assert code == 2
    assert "declares good already" in err
    assert [file.name for file in (folders / "tables").glob("*.py")] == ["other.py"]


@pytest.mark.parametrize("command", [["plan"], ["load", "--all"], ["load"], ["move", "--due"]])
def test_a_project_without_tables_says_how_to_write_one(
    lakebed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    (tmp_path / "tables").mkdir()
    monkeypatch.setenv("LAKEBED_TABLES", str(tmp_path / "tables"))
    monkeypatch.setattr("lakebed.resources.postgres.Postgres.connect", lambda *_, **__: _Nothing())
    code, _, err = lakebed(*command)
    assert code == 0
    assert "`lakebed add`" in err


def test_a_new_project_whose_name_has_a_blank_says_how_to_enter_it(
    lakebed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = lakebed("new", "My Shop")
    assert code == 0
    assert "\n  cd 'My Shop'\n" in err


class _Nothing:
    """A connection that nothing asks."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, *_: object) -> list[object]:
        return []
