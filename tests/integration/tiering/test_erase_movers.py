"""What movers hold, or have left behind, is not forgotten by an erasure: no file keeps a row."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from lakebed.errors import TieringError
from lakebed.resources.locks import move_lock
from lakebed.resources.patience import Patience
from lakebed.resources.settings import Settings
from lakebed.resources.spool import Spool
from lakebed.spec.names import ColdFileName, cold_path
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import Platform
from lakebed.tiering.erase import Erased, erase
from lakebed.tiering.move import move
from lakebed.tiering.movers import let_older_end
from lakebed.tiering.report import Moved
from tests.support.patience import with_patience
from tests.support.tiers import ask, do, files, fill, named, seen, settle

WHO = "sensor = 's3'"
OPEN = "select count(*) from lakebed.erasure where finished_at is null"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Where nobody is waited for long."""
    return replace(settings, patience=Patience(for_readers=0.1, for_movers=20.0))


def erase_them(platform: Platform, at: str = "", work: Callable[[], object] = print) -> Erased:
    """Erase; at a step, once, do something else before it goes on."""
    todo = [work] if at else []

    def on_step(told: str) -> None:
        if told == at and todo:
            todo.pop()()

    done = erase(platform, platform.table("readings"), WHO, on_step=on_step)
    assert not todo
    return done


def lake(platform: Platform) -> Path:
    root: Path = platform.lake.files.root  # type: ignore[attr-defined]
    return root


def holding(platform: Platform) -> list[str]:
    """Return the files in which rows are that were erased, whatever they are called."""
    with duckdb.connect() as connection:
        return [
            path
            for path in sorted(files(platform))
            if connection.execute(
                f"select count(*) from read_parquet(?) where {WHO}",  # noqa: S608
                [str(lake(platform) / path)],
            ).fetchall()
            != [(0,)]
        ]


def orphan(platform: Platform, key: str, number: int, suffix: str = "") -> Path:
    """Leave what a mover leaves that is killed before its commit: a file with all rows."""
    table = platform.table("readings")
    window = window_for_key(table.require_partitioning.grain, key)
    path = lake(platform) / cold_path(ColdFileName("readings", window, number))
    path = path.with_name(path.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(
            "copy (select 's' || i % 7 as sensor from range(70) r (i)) to ? (format parquet)",
            [str(path)],
        )
    return path


class Busy:
    """Somebody who holds the lock of January, as a mover does, until told to let go."""

    def __init__(self, platform: Platform) -> None:
        window = window_for_key(platform.table("readings").require_partitioning.grain, "2024-01")
        self._platform, self._lock = platform, move_lock("readings", window)
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def start(self) -> None:
        holds = threading.Event()
        self._pool.submit(self._hold, holds)
        assert holds.wait(10)

    def start_and_end_soon(self) -> None:
        self.start()
        threading.Timer(1.0, self._ended.set).start()

    def end(self) -> None:
        self._ended.set()
        self._pool.shutdown()

    def _hold(self, holds: threading.Event) -> None:
        with self._platform.postgres.connect() as connection:
            self._lock.take(connection)
            holds.set()
            self._ended.wait(60)


@pytest.fixture
def busy(platform: Platform) -> Iterator[Busy]:
    fill(platform)
    settle(platform, "readings", "2024-01")
    busy = Busy(platform)
    yield busy
    busy.end()


def test_files_that_were_given_up_go_though_their_partition_is_written(
    platform: Platform, busy: Busy
) -> None:
    done = erase_them(platform, "rest", busy.start)
    assert (done.failed, len(done.files)) == ((), 1)
    assert (holding(platform), files(platform)) == ([], named(platform))


def test_an_orphan_goes_when_the_one_who_writes_its_partition_ends(
    platform: Platform, busy: Busy
) -> None:
    left = orphan(platform, "2024-01", 7)
    done = erase_them(platform, "rest", busy.start_and_end_soon)
    assert (done.failed, left.exists(), holding(platform)) == ((), False, [])


def test_an_orphan_that_cannot_go_leaves_the_erasure_open(platform: Platform, busy: Busy) -> None:
    platform = with_patience(platform, for_movers=0.3)
    left = orphan(platform, "2024-01", 7)
    done = erase_them(platform, "rest", busy.start)
    assert [why.split(":")[0] for why in done.failed] == [str(left.relative_to(lake(platform)))]
    assert (left.exists(), ask(platform, OPEN)) == (True, [(1,)])
    busy.end()
    assert erase_them(platform).failed == ()
    assert (left.exists(), ask(platform, OPEN), holding(platform)) == (False, [(0,)], [])


@pytest.mark.parametrize("suffix", ["", ".tmp"])
def test_an_orphan_goes_though_its_clock_is_ahead(platform: Platform, suffix: str) -> None:
    fill(platform)
    platform.lake.owner.check()
    left = orphan(platform, "2024-02", 3, suffix)
    prefetch = time.time() + 3600
    os.utime(left, (prefetch, prefetch))
    assert erase_them(platform).failed == ()
    assert not left.exists()


class Mover:
    """A move in a thread, which stands still at a step until it is told to go on."""

    def __init__(self, platform: Platform, key: str) -> None:
        self._platform, self._key, self._step = platform, key, "copied"
        self._arrived, self._goes_on = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self.moved: Future[Moved]

    def start(self, step: str = "copied") -> None:
        self._step = step
        table = self._platform.table("readings")
        window = window_for_key(table.require_partitioning.grain, self._key)
        self.moved = self._pool.submit(
            move, self._platform.lake, table, window, on_step=self._stand, attempts=1
        )
        assert self._arrived.wait(10)

    def _stand(self, step: str) -> None:
        if step == self._step:
            self._arrived.set()
            assert self._goes_on.wait(20)

    def go_on_in(self, seconds: float) -> None:
        threading.Timer(seconds, self._goes_on.set).start()

    def end(self) -> None:
        self._goes_on.set()
        self._pool.shutdown()


@pytest.fixture
def mover(platform: Platform) -> Iterator[Mover]:
    fill(platform)
    mover = Mover(platform, "2024-02")
    yield mover
    mover.end()


def end_its_session(platform: Platform) -> None:
    do(
        platform,
        "select pg_terminate_backend(pid) from pg_locks"
        " where locktype = 'advisory' and granted and pid <> pg_backend_pid()",
    )


@pytest.mark.parametrize("who", ["here", "cut off", "elsewhere"])
def test_a_mover_from_before_is_waited_for(
    platform: Platform, mover: Mover, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """It has its snapshot, or a file without a name, when what is in it is erased.

    Of one that was cut off from PostgreSQL its lock in the lake tells, of one on another machine
    its session.
    """
    mover.start("locked" if who == "elsewhere" else "copied")
    if who == "cut off":
        end_its_session(platform)
    if who == "elsewhere":
        monkeypatch.setattr(Spool, "held", lambda spool: [])

    def later() -> None:
        mover.go_on_in(1.0)

    done = erase_them(platform, "rest", later)
    assert (done.failed, holding(platform)) == ((), [])
    with pytest.raises(TieringError):
        mover.moved.result(timeout=0.1)
    assert seen(platform, f"select count(*) from readings where {WHO}") == [(0,)]  # noqa: S608


@pytest.mark.parametrize("cut_off", [False, True])
def test_a_mover_from_before_that_does_not_end_leaves_the_erasure_open(
    platform: Platform, mover: Mover, *, cut_off: bool
) -> None:
    platform = with_patience(platform, for_movers=0.3)
    mover.start()
    if cut_off:
        end_its_session(platform)
    done = erase_them(platform)
    assert [why for why in done.failed if "began before" in why]
    assert ask(platform, OPEN) == [(1,)]
    mover.end()
    assert erase_them(platform).failed == ()
    assert (ask(platform, OPEN), holding(platform)) == ([(0,)], [])


def test_those_who_only_read_or_lock_rows_are_no_movers(platform: Platform) -> None:
    fill(platform)
    table = platform.table("readings")
    with (
        platform.postgres.connect() as other,
        platform.postgres.connect(autocommit=True) as connection,
    ):
        other.execute("select * from readings limit 1 for update").fetchall()
        assert let_older_end(connection, platform.lake.files, table, 0.0) == []
