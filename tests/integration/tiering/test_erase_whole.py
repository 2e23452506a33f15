"""An erasure that cannot be whole is refused, or says so; it holds nobody up meanwhile."""

from __future__ import annotations

import os
import platform as machine
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lakebed.resources.lake_files import LakeFileError
from lakebed.resources.locks import catalog_lock
from lakebed.resources.patience import Patience
from lakebed.resources.settings import Settings
from lakebed.spec.table import Grain, SourceTable
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering import catalog_file
from lakebed.tiering.erase import erase, would_erase
from lakebed.tiering.literals import PredicateError
from tests.support.patience import with_patience
from tests.support.tiers import EACH, ask, do, files, fill, named, seen, settle

WHO = "sensor = 's3'"
OPEN = "select count(*) from lakebed.erasure where finished_at is null"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Where nobody is waited for long."""
    return replace(settings, patience=Patience(for_readers=0.1, for_movers=0.5))


def with_table(platform: Platform, change: Callable[[SourceTable], SourceTable]) -> Platform:
    """Return the platform as it is when the table file of readings was changed."""
    tables = [change(t) if t.name == "readings" else t for t in platform.tables]
    return open_platform(platform.settings, tables)


def by_day(table: SourceTable) -> SourceTable:
    return replace(table, partitioning=replace(table.require_partitioning, grain=Grain.DAY))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda table: replace(table, tiering=None), "its table file no longer declares"),
        (by_day, "are cold under another grain"),
    ],
    ids=["no tiering", "another grain"],
)
def test_settled_rows_that_the_table_file_does_not_know_are_not_left(
    platform: Platform, change: Callable[[SourceTable], SourceTable], why: str
) -> None:
    fill(platform)
    settle(platform, "readings", "2024-01")
    changed = with_table(platform, change)
    for attempt in (erase, would_erase):
        with pytest.raises(PredicateError, match=why):
            attempt(changed, changed.table("readings"), WHO)
    assert ask(platform, OPEN) == [(0,)]
    assert erase(platform, platform.table("readings"), WHO).failed == ()


def test_a_table_that_is_gone_with_settled_rows_is_made_again_first(platform: Platform) -> None:
    fill(platform)
    settle(platform, "readings", "2024-01")
    do(platform, "drop table readings")
    with pytest.raises(PredicateError, match="lakebed apply"):
        erase(platform, platform.table("readings"), WHO)


def test_letters_that_one_engine_alone_knows_are_not_taken_for_erased(platform: Platform) -> None:
    fill(platform, "accounts")
    do(
        platform,
        'alter table accounts alter owner type text collate "C"',
        "update accounts set owner = '\u212aarl' where id = 7",
    )
    table = platform.table("accounts")
    (letters,) = seen(platform, "select lower(owner) from accounts where id = 7")[0]
    done = erase(platform, table, "lower(owner) like 'k%'")
    assert letters.startswith("k")
    assert ["1 hot rows match in DuckDB and not in" in why for why in done.failed] == [True]
    assert ask(platform, OPEN) == [(1,)]
    assert erase(platform, table, "lower(owner) = 'o1'").failed == ()


def test_rows_that_others_hold_are_not_waited_for_with_rows_in_hand(platform: Platform) -> None:
    fill(platform)
    table = platform.table("readings")
    (other, mine) = ask(platform, "select number from readings where sensor = 's3' limit 2")
    with ThreadPoolExecutor(1) as pool, platform.postgres.connect() as application:
        application.execute("select from readings where number = %s for update", mine)
        erasure = pool.submit(erase, platform, table, WHO)
        until = time.monotonic() + 30
        while not erasure.done():
            assert time.monotonic() < until, "it waits for the row for ever"
            with platform.postgres.connect() as another:
                another.execute("set lock_timeout = '5s'")  # else it would wait for ever
                another.execute("update readings set value = 1 where number = %s", other)
    assert ["changed or held during each of" in why for why in erasure.result().failed] == [True]
    assert (len(ask(platform, f"select from readings where {WHO}")), ask(platform, OPEN)) == (
        len([n for n in range(3 * EACH) if n % 7 == 3]),
        [(1,)],
    )
    assert erase(platform, table, WHO).failed == ()
    assert ask(platform, OPEN) == [(0,)]


def test_a_catalog_that_another_writes_for_ever_keeps_no_file(
    platform: Platform,
) -> None:
    platform = with_patience(platform, for_catalog_file=0.2)
    fill(platform)
    settle(platform, "readings", "2024-01")
    with platform.postgres.connect() as other, catalog_lock().held(other):
        done = erase(platform, platform.table("readings"), WHO)
    assert ["another process has been writing it" in why for why in done.failed] == [True]
    assert files(platform) == named(platform)
    assert erase(platform, platform.table("readings"), WHO).failed == ()


def test_what_a_killed_writer_of_the_catalog_left_goes(platform: Platform) -> None:
    fill(platform)
    settle(platform, "readings", "2024-01")
    root: Path = platform.lake.files.root  # type: ignore[attr-defined]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stem = f"catalog.duckdb.{machine.node()}-{dead.pid}-0123abcd"
    left = [root / f"{stem}{suffix}" for suffix in (".tmp", ".tmp.wal")]
    left += [root / "catalog.duckdb.elsewhere-1-0123abcd.tmp"]
    for file in left:
        file.write_text("half")
    os.utime(left[-1], (0, 0))
    catalog_file.write_catalog(platform)
    assert [file.exists() for file in (*left, root / "catalog.duckdb")] == [False] * 3 + [True]


def test_a_living_writer_of_the_catalog_keeps_its_file(platform: Platform) -> None:
    """Two databases that share a lake by mistake, or two machines, hold no lock in common."""
    root: Path = platform.lake.files.root  # type: ignore[attr-defined]
    elsewhere = root / "catalog.duckdb.elsewhere-1-0123abcd.tmp"
    with platform.lake.files.replacing(catalog_file.NAME) as written:
        written.write_text("of a living writer")
        elsewhere.write_text("of a living writer of another machine")
        catalog_file.write_catalog(platform)
        assert written.exists() and elsewhere.exists()
    assert (root / catalog_file.NAME).read_text() == "of a living writer"


def test_a_catalog_whose_unfinished_file_was_deleted_is_named(platform: Platform) -> None:
    with (
        pytest.raises(LakeFileError, match="removed while it was being written"),
        platform.lake.files.replacing(catalog_file.NAME) as written,
    ):
        written.write_text("half")
        written.unlink()


def test_what_queries_spilled_goes_with_them_or_is_named(platform: Platform) -> None:
    fill(platform)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folders = [
        platform.lake.files.spill / f"{machine.node()}-{process}-0123abcd"
        for process in (dead.pid, os.getpid())
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    done = erase(platform, platform.table("readings"), WHO)
    assert [folder.exists() for folder in folders] == [False, True]
    assert len([copy for copy in done.copies if "1 running queries" in copy]) == 1
