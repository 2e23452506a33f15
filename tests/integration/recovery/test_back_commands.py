"""`lakebed backup` and `lakebed rollback` as a person types them."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from lakebed.cli import main as cli
from lakebed.store.platform import Platform
from tests.conftest import NOW, TABLES
from tests.integration.recovery.test_rollback import readings, rows
from tests.support.modes import deliver, load


@pytest.fixture
def lakebed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run the command in this process; give exit code, stdout and stderr."""
    monkeypatch.setenv("LAKEBED_HOME", str(platform.settings.home))
    monkeypatch.setenv("LAKEBED_POSTGRES_URL", str(platform.settings.postgres_url))
    monkeypatch.setenv("LAKEBED_TABLES", str(TABLES))
    monkeypatch.setenv("LAKEBED_CLOCK", NOW)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
            sys.exit(0)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_the_last_load_is_shown_and_undone_when_one_agrees(
    platform: Platform, lakebed: Any
) -> None:
    for number in (1, 2):
        deliver(platform, f"readings/{number}.parquet", readings(number))
        newest = load(platform, "readings").load_id
    code, out, _ = lakebed("rollback", "readings", "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()][:1] == [newest]
    code, out, err = lakebed("rollback", "readings")
    assert (code, out) == (2, "")
    assert f"{newest}" in err
    assert "--yes" in err
    assert len(rows(platform, "readings")) == 2
    code, out, err = lakebed("rollback", "readings", "--yes")
    assert (code, out) == (
        0,
        "readings: 1 load undone, 1 rows removed, 0 as they were before\n",
    )
    assert "What was undone of readings/2.parquet waits until it changes" in err
    assert len(rows(platform, "readings")) == 1
    listed = json.loads(lakebed("rollback", "readings", "--list", "--json")[1])
    assert [item["problem"] for item in listed] == [None]
    assert lakebed("rollback", "readings", "--load", newest, "--yes")[0] == 1
    status = json.loads(lakebed("status", "--json")[1])
    (table,) = [t for t in status["tables"] if t["name"] == "readings"]
    assert table["cursor"] == "2024-02-01T01:00:00+00:00"


def test_a_backup_is_taken_listed_and_put_back(platform: Platform, lakebed: Any) -> None:
    deliver(platform, "readings/1.parquet", readings(1, 2))
    load(platform, "readings")
    (taken,) = json.loads(lakebed("backup", "create", "readings", "--json")[1])
    deliver(platform, "readings/2.parquet", readings(3))
    load(platform, "readings")
    code, out, _ = lakebed("backup", "list", "readings")
    assert (code, out.split()[0]) == (0, taken["backup_id"])
    assert "2 hot rows" in out
    code, out, err = lakebed("backup", "restore", "readings", taken["backup_id"], "--yes")
    assert (code, out) == (
        0,
        "readings: 3 rows removed, 0 changed, 2 inserted; 1 load rolled back\n",
    )
    assert "with 2 hot rows" in err
    assert len(rows(platform, "readings")) == 2
    code, _, err = lakebed("backup", "restore", "readings", "nine", "--yes")
    assert code == 1
    assert "has no backup nine" in err


def test_a_backup_is_deleted_with_its_file_when_one_agrees(
    platform: Platform, lakebed: Any
) -> None:
    deliver(platform, "readings/1.parquet", readings(1, 2))
    load(platform, "readings")
    first, second = (
        json.loads(lakebed("backup", "create", "readings", "--json")[1])[0] for _ in range(2)
    )
    assert lakebed("backup", "delete", "readings", first["backup_id"])[0] == 2
    file = platform.settings.home / first["path"]
    assert file.is_file()
    assert lakebed("backup", "delete", "readings", first["backup_id"], "--yes")[0] == 0
    assert not file.parent.exists()
    left = json.loads(lakebed("backup", "list", "readings", "--json")[1])
    assert [item["backup_id"] for item in left] == [second["backup_id"]]
    assert (platform.settings.home / second["path"]).is_file()
    assert lakebed("backup", "delete", "readings", first["backup_id"], "--yes")[0] == 1
