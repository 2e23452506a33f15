"""Readers that have begun before an erasure have their seconds, whoever else destroys files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lakebed.resources.lake_files import LakeFolder
from lakebed.resources.lake_owner import ForeignLakeError
from lakebed.resources.patience import Patience
from lakebed.resources.read_errors import ErasedError, FileMissingError
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.erase import erase
from lakebed.tiering.housekeep import housekeep
from tests.support.patience import with_patience
from tests.support.tiers import ask, do, fill, settle

WHO = "sensor = 's3'"
SECONDS = 1.5


@pytest.fixture
def settled(platform: Platform) -> Platform:
    table = platform.table("readings")
    settings = replace(
        platform.settings, file_grace=timedelta(0), patience=Patience(for_readers=SECONDS)
    )
    platform = open_platform(settings, (table,))
    fill(platform)
    settle(platform, "readings", "2024-01", "2024-02")
    return platform


@contextmanager
def removals(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Yield when files are removed."""
    times: list[float] = []
    remove = LakeFolder.remove

    def noted(self: Any, path: Any) -> None:
        times.append(time.monotonic())
        remove(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(LakeFolder, "remove", noted)
        yield times


BESIDE: dict[str, Callable[[Platform], Any]] = {
    "housekeeping": housekeep,
    "another erasure": lambda p: erase(p, p.table("readings"), "sensor = 's4'"),
}


@pytest.mark.parametrize("doing", BESIDE)
def test_what_an_erasure_gave_up_stays_for_its_readers(
    settled: Platform, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    committed: list[float] = []

    def beside(step: str) -> None:
        if step == "rest" and not committed:
            committed.append(time.monotonic())
            BESIDE[doing](settled)

    with settled.lake.session() as reader, removals(monkeypatch) as times:
        erase(settled, settled.table("readings"), WHO, on_step=beside)
        assert times
        assert min(times) - committed[0] >= SECONDS
        with pytest.raises(ErasedError, match="Open another session"):
            reader.sql("select count(*) from readings")


def test_nothing_waits_where_no_reader_has_begun_before(
    settled: Platform,
) -> None:
    settled = with_patience(settled, for_readers=600.0)
    erase(settled, settled.table("readings"), WHO)
    do(settled, "insert into readings values ('2024-01-03', 'late', 1, 1)")
    settle(settled, "readings", "2024-01")
    assert [swept.why for swept in housekeep(settled).swept] == ["superseded"]


def test_a_file_that_is_missing_for_another_reason_is_named(settled: Platform) -> None:
    ((path,),) = ask(settled, "select path from lakebed.cold_file where partition_key = '2024-01'")
    with settled.lake.session() as reader:
        settled.lake.files.remove(path)
        with pytest.raises(FileMissingError, match=path):
            reader.sql("select count(*) from readings")


def test_files_of_another_lake_are_not_called_missing(settled: Platform) -> None:
    elsewhere = replace(settled.settings, lake=settled.settings.home / "elsewhere")
    with (
        pytest.raises(ForeignLakeError, match="LAKEBED_LAKE"),
        open_platform(elsewhere, settled.tables).lake.session() as reader,
    ):
        reader.sql("select count(*) from readings")
