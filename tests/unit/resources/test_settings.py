"""Settings come from three places, the nearest wins, and secrets stay inside."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakebed.errors import LakebedError
from lakebed.resources.clock import FixedClock, SystemClock
from lakebed.resources.postgres import Postgres
from lakebed.resources.project_folder import ProjectError
from lakebed.resources.settings import SettingsError, read_secret, read_settings, remember

URL = "postgresql://me:s3cret%21@db.example:5433/app"


def test_the_environment_goes_before_dot_env_and_that_before_the_homes_memory(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    for name, value in (
        ("LAKEBED_DATA", str(tmp_path / "remembered")),
        ("LAKEBED_LAKE", str(tmp_path / "remembered")),
        ("LAKEBED_CLOCK", "2013-12-31T00:00:00+00:00"),
    ):
        remember(home, name, value)
    (tmp_path / ".env").write_text("LAKEBED_HOME=home\nLAKEBED_LAKE=from_dot_env\nLAKEBED_DATA=x\n")
    settings = read_settings({"LAKEBED_DATA": "from_environment"}, tmp_path)
    assert settings.home == home
    assert settings.data == tmp_path / "from_environment"
    assert settings.lake == tmp_path / "from_dot_env"
    assert settings.clock == FixedClock(datetime(2013, 12, 31, tzinfo=UTC))


def test_every_setting_has_a_default_that_needs_nothing(tmp_path: Path) -> None:
    settings = read_settings({}, tmp_path)
    assert settings.home == tmp_path / ".lakebed"
    assert settings.lake == tmp_path / ".lakebed" / "lake"
    assert settings.postgres_url is None
    assert settings.clock == SystemClock()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["environment", ".env", "home"])
def test_a_setting_that_is_none_is_refused_and_the_known_ones_are_named(
    tmp_path: Path, where: str
) -> None:
    environ = {"LAKEBED_HOMES": "x"} if where == "environment" else {}
    (tmp_path / ".lakebed").mkdir()
    if where == ".env":
        (tmp_path / ".env").write_text("LAKEBED_HOMES=x\n")
    if where == "home":
        (tmp_path / ".lakebed" / "settings.env").write_text("LAKEBED_HOMES=x\n")
    with pytest.raises(SettingsError, match=r"LAKEBED_HOMES.*Known settings.*LAKEBED_HOME"):
        read_settings(environ, tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("LAKEBED_POSTGRES_URL", "mysql://x", "postgresql://user"),
        ("LAKEBED_POSTGRES_URL", "host=x", "postgresql://user"),
        ("LAKEBED_ALERT_URL", "ftp://x", "http"),
        ("LAKEBED_UI_URL", "localhost:3000", "http"),
        ("LAKEBED_CLOCK", "yesterday", "ISO 8601"),
        ("LAKEBED_CLOCK", "2024-01-01T00:00:00", r"\+00:00"),
        ("LAKEBED_TABLES", "missing", "does not exist"),
        ("LAKEBED_HOME", "ques?t", r"has a \?"),
        ("LAKEBED_LAKE", "a*/lake", r"has a \*"),
        ("LAKEBED_LAKE", "a[1]", r"has a \["),
        ("LAKEBED_LAKE", "gs://bucket", "s3://bucket/prefix"),
        ("LAKEBED_LAKE", "s3://b", "is not a bucket name"),
        ("LAKEBED_LAKE", "s3://bucket/a*", "the prefix"),
        ("LAKEBED_LAKE", "s3://me:s3cret@bucket", "AWS_ACCESS_KEY_ID"),
        ("LAKEBED_DATA", "s3://bucket", "local folder"),
        ("LAKEBED_DATA", "file", "is a file"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_the_way_out(
    tmp_path: Path, name: str, value: str, hint: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=f"(?s){name}.*{hint}"):
        read_settings({name: value}, tmp_path)


def test_no_secret_is_in_the_text_of_settings_or_of_errors(tmp_path: Path) -> None:
    settings = read_settings(
        {"LAKEBED_POSTGRES_URL": URL, "LAKEBED_ALERT_URL": "https://x/s3cret"}, tmp_path
    )
    assert "s3cret" not in repr(settings) + str(settings)
    postgres = Postgres(settings)
    assert postgres.name == "PostgreSQL at db.example:5433/app"
    assert "s3cret" not in postgres.redact(f"no {URL} with s3cret! here")


def test_a_refused_postgres_url_does_not_repeat_its_password(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"LAKEBED_POSTGRES_URL": "mysql://me:s3cret@x"}, tmp_path)
    assert "s3cret" not in str(caught.value)


def test_a_child_process_reads_the_same_settings(tmp_path: Path) -> None:
    for name in ("tables", "models"):
        (tmp_path / name).mkdir()
    settings = read_settings(
        {"LAKEBED_POSTGRES_URL": URL, "LAKEBED_CLOCK": "2024-01-01T00:00:00Z"}, tmp_path
    )
    assert read_settings(settings.environment(), tmp_path / "elsewhere") == settings


def test_what_a_home_remembers_is_kept_when_it_remembers_more(tmp_path: Path) -> None:
    remember(tmp_path, "LAKEBED_DATA", "/a")
    remember(tmp_path, "LAKEBED_LAKE", "/b")
    remember(tmp_path, "LAKEBED_DATA", "/c")
    settings = read_settings({"LAKEBED_HOME": str(tmp_path)}, tmp_path)
    assert (settings.data, settings.lake) == (Path("/c"), Path("/b"))
    with pytest.raises(SettingsError, match="LAKEBED_X"):
        remember(tmp_path, "LAKEBED_X", "1")


NASTY = st.text(
    st.sampled_from("a /#'\"$\\{}HOME=\t\n%~ü\U0001f600\x85\u2028"), min_size=1, max_size=12
)


@example("with space #hash", "${HOME}", "$HOME")
@example("trailing blank ", "trailing backslash\\", "'quoted'")
@example('"', "'", "\\")
@given(NASTY, NASTY, NASTY)
def test_a_home_remembers_odd_values_as_they_are(
    tmp_path: Path, data: str, lake: str, home: str
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    for value in ("another", data):
        remember(folder, "LAKEBED_DATA", f"/x{value}")
        remember(folder, "LAKEBED_LAKE", f"/x{lake}")
        remember(folder, "LAKEBED_HOME", f"/x{home}")
    settings = read_settings({"LAKEBED_HOME": str(folder)}, tmp_path)
    assert (settings.data, settings.lake) == (Path(f"/x{data}"), Path(f"/x{lake}"))


@pytest.mark.parametrize("value", ["/line\rline", "/no \udcff UTF-8"])
def test_a_home_refuses_what_it_could_not_give_back(tmp_path: Path, value: str) -> None:
    remember(tmp_path, "LAKEBED_LAKE", "/kept")
    with pytest.raises(SettingsError, match=r"LAKEBED_DATA.*in the environment"):
        remember(tmp_path, "LAKEBED_DATA", value)
    assert (tmp_path / "settings.env").read_text() == "LAKEBED_LAKE='/kept'\n"


def test_in_a_users_dot_env_other_variables_are_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE", "/base")
    (tmp_path / ".env").write_text("LAKEBED_DATA=${BASE}/data\n")
    assert read_settings({}, tmp_path).data == Path("/base/data")


def project_in(folder: Path, table: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(f"[project]\nname = 'mine'\n[tool.lakebed]\n{table}")
    return folder


def test_a_project_is_found_from_below_and_has_the_defaults(tmp_path: Path) -> None:
    project = project_in(tmp_path / "mine")
    (project / ".env").write_text("LAKEBED_EXPORTS=out\n")
    below = project / "models" / "marts"
    below.mkdir(parents=True)
    (below / ".env").write_text("LAKEBED_EXPORTS=elsewhere\n")
    settings = read_settings({"LAKEBED_LAKE": "lake"}, below)
    assert settings.project == project
    assert settings.tables == project / "tables"
    assert settings.models == project / "models"
    assert settings.data == project / "data"
    assert settings.home == project / ".lakebed"
    assert settings.exports == project / "out"
    assert settings.lake == below / "lake"  # what a shell says starts where the shell is


def test_a_pyproject_without_our_table_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.ruff]\n")
    assert read_settings({}, tmp_path).project is None


def test_a_project_says_settings_and_dot_env_goes_before_it(tmp_path: Path) -> None:
    project = project_in(
        tmp_path, 'data = "{home}/in"\nhome = "state"\nexports = "out"\nkeep_runs = "7d"\n'
    )
    (project / ".env").write_text("LAKEBED_EXPORTS=nearer\n")
    settings = read_settings({}, tmp_path)
    assert settings.home == tmp_path / "state"
    assert settings.data == tmp_path / "state" / "in"
    assert settings.exports == tmp_path / "nearer"
    assert settings.keep_runs.days == 7
    moved = read_settings({"LAKEBED_HOME": str(tmp_path / "other")}, tmp_path)
    assert moved.data == tmp_path / "other" / "in"


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ('tabels = "x"', ProjectError),
        ("keep_runs = 7", ProjectError),
        ('postgres_url = "postgresql://me:s3cret@x/y"', ProjectError),
        ("tables = ", ProjectError),
        ('TABLES = "x"', ProjectError),
        ('tables = "missing"', SettingsError),
    ],
)
def test_a_project_that_says_nonsense_is_refused(
    tmp_path: Path, table: str, kind: type[LakebedError]
) -> None:
    with pytest.raises(kind) as caught:
        read_settings({}, project_in(tmp_path, table))
    assert caught.value.exit_code == 2
    assert "s3cret" not in str(caught.value)


def test_a_secret_is_read_from_the_projects_dot_env_from_below(tmp_path: Path) -> None:
    project = project_in(tmp_path / "mine")
    (project / ".env").write_text("SHOP_URL=mysql://x\n")
    (project / "tables").mkdir()
    assert read_secret(tmp_path, "SHOP_URL", {}, project / "tables") == "mysql://x"
