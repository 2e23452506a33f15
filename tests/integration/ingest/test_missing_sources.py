"""A source at which nothing is, and nothing ever was, is said, and ends a load red."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lakebed.cli import main as cli
from lakebed.errors import FAILED, LakebedError
from lakebed.ingest.load import load_table, load_window
from lakebed.ingest.report import LoadReport
from lakebed.monitoring.doctor import examine
from lakebed.monitoring.findings import Code
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import CsvFiles, SourceTable
from lakebed.store.platform import Platform
from tests.tables.readings import readings

TABLE = replace(readings, source=CsvFiles(glob="readings/*.csv"), changed_files=None)
HEADER = "at,sensor,value,number\n"
MakePlatform = Callable[..., Platform]


def load(platform: Platform, table: SourceTable) -> LoadReport:
    return load_table(platform.settings, platform.postgres, platform.clock, table)


def codes(platform: Platform) -> set[Code]:
    return {finding.code for finding in examine(platform).findings}


def test_a_source_without_a_file_is_refused_unless_it_is_optional(
    platform_of: MakePlatform,
) -> None:
    platform = platform_of(TABLE)
    (refused,) = load(platform, TABLE).refused
    assert refused.path == str(platform.settings.data / "readings/*.csv")
    assert Code.SOURCE_MISSING in codes(platform)
    optional = replace(TABLE, optional=True)
    platform = platform_of(optional)
    assert load(platform, optional).refused == ()
    assert Code.SOURCE_MISSING not in codes(platform)


def test_files_that_were_taken_away_after_their_load_are_not_missing(
    platform_of: MakePlatform,
) -> None:
    platform = platform_of(TABLE)
    file = platform.settings.data / "readings" / "1.csv"
    file.parent.mkdir()
    file.write_text(f"{HEADER}2024-01-01T00:00:00Z,a,1,1\n")
    assert load(platform, TABLE).inserted == 1
    file.unlink()
    assert load(platform, TABLE).refused == ()
    assert Code.SOURCE_MISSING not in codes(platform)


def test_a_window_of_an_optional_source_stays_as_it_is(platform_of: MakePlatform) -> None:
    table = replace(TABLE, load_by="window", optional=True)
    platform = platform_of(table)
    window = window_for_key(table.require_partitioning.grain, "2024-01")
    report = load_window(platform.settings, platform.postgres, platform.clock, table, window)
    assert (report.load_ids, report.refused) == ((), ())


def run(platform: Platform, tables: Path, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in platform.settings.environment().items():
            patched.setenv(name, value)
        patched.setenv("LAKEBED_TABLES", str(tables))
        cli.group.main(list(arguments), standalone_mode=False)


def test_the_command_exits_with_1_for_a_missing_source(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LakebedError) as raised:
        run(platform, platform.settings.tables, "load", "readings")
    assert raised.value.exit_code == FAILED
    assert str(platform.settings.data / "readings") in str(raised.value)


@pytest.mark.parametrize("command", [("load", "--all"), ("status",)])
def test_a_project_without_tables_is_said(
    platform: Platform,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
) -> None:
    (tmp_path / "none").mkdir()
    run(platform, tmp_path / "none", *command)
    assert str(tmp_path / "none") in capsys.readouterr().err
