"""What was undone with --reload is read again by the next load, and nothing else is."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from lakebed.ingest.sources.readers import reader_of
from lakebed.recovery.rolled_back_files import RolledBackFiles, rolled_back_files
from lakebed.spec.table import CsvFiles, Grain, ParquetFiles, Partitioning, SourceTable
from lakebed.store.platform import Platform
from tests.integration.recovery.test_back_commands import lakebed  # noqa: F401  (a fixture)
from tests.integration.recovery.test_backup import back_up, put_back
from tests.integration.recovery.test_rollback import readings, undo
from tests.support.modes import ask, deliver, load
from tests.tables.readings import Reading

STEPS = 26
START = datetime(2024, 1, 1, tzinfo=UTC)
BASE = SourceTable(
    name="walks",
    model=Reading,
    source=CsvFiles(glob="walks/*.csv"),
    partitioning=Partitioning(column="at", grain=Grain.MONTH, start=START),
    undo_loads=100,
)
PARQUET = ParquetFiles(glob="walks/*.parquet")
KINDS = {
    "append": BASE,
    "append, cursor": replace(BASE, cursor="at"),
    "append, parquet": replace(BASE, cursor="at", source=PARQUET, changed_files="grown"),
    "merge": replace(
        BASE, cursor="at", key=("at", "number"), write_mode="merge", changed_files=None
    ),
    "replace": replace(BASE, write_mode="replace", changed_files=None, partitioning=None),
}


@dataclass
class File:
    """What the oracle knows of a file. known: versions that were read.  owed: it is to be read."""

    rows: list[int] = field(default_factory=list)
    version: int = 0
    known: set[int] = field(default_factory=set)
    owed: bool = False

    @property
    def waits(self) -> bool:
        return not self.owed and self.version in self.known


@dataclass
class Walk:
    """A table, and what must be in it. loads: those that stand, as (id, rows by file)."""

    platform: Platform
    whole: bool
    files: dict[str, File] = field(default_factory=dict)
    loads: list[tuple[str, dict[str, set[int]]]] = field(default_factory=list)
    undone: set[str] = field(default_factory=set)
    number: int = 0

    @property
    def table(self) -> set[int]:
        if self.whole:
            return set().union(*self.loads[-1][1].values()) if self.loads else set()
        return set().union(*(rows for _, of in self.loads for rows in of.values()))

    def deliver(self, name: str, more: int) -> None:
        file = self.files.setdefault(name, File())
        more = more if file.rows else 2
        file.rows += range(self.number, self.number + more)
        self.number += more
        file.version += 1
        path = deliver(self.platform, name, readings(*file.rows))
        os.utime(path, ns=(file.version * 10**9, file.version * 10**9))

    def load(self) -> None:
        due = {name: file for name, file in self.files.items() if not file.waits}
        if self.whole and due:
            due = self.files
        report = load(self.platform, "walks")
        assert (report.load_id is not None) == bool(due), due
        if report.load_id is None:
            return
        there = set() if self.whole else self.table
        added = {name: set(file.rows) - there for name, file in due.items()}
        self.loads.append((report.load_id, added))
        for file in due.values():
            file.known.add(file.version)
            file.owed = False

    def rollback(self, count: int, reload: bool) -> None:
        count = min(count, len(self.loads))
        if not count:
            return
        gone = self.loads[-count:]
        done = undo(self.platform, "walks", gone[0][0], reload=reload)
        assert done.loads == tuple(load_id for load_id, _ in reversed(gone))
        del self.loads[-count:]
        names = {name for _, of in gone for name in of}
        if self.whole:
            names = set(self.files)
        for name in names if reload else ():
            self.files[name].owed = True
        self.undone |= names
        self.check_told(done.loads, names)

    def check_told(self, loads: tuple[str, ...], names: set[str]) -> None:
        """Make sure that what is said of the files is what the next load will do."""
        table = self.platform.table("walks")
        found = reader_of(table, self.platform.settings).find()
        with self.platform.postgres.connect() as connection:
            told = rolled_back_files(connection, table, loads, found)
        due = {name for name, file in self.files.items() if not file.waits}
        if self.whole and due:
            due = set(self.files)
        rows_in_file = {name for _, of in self.loads for name in of}
        earlier = set() if self.whole else self.undone - names - rows_in_file - due
        assert told == RolledBackFiles(
            again=tuple(sorted(names & due)),
            out=tuple(sorted(names - due)),
            gone=(),
            earlier=tuple(sorted(earlier)),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_walks_of_loads_growth_and_rollbacks_lose_nothing_and_bring_nothing_back_unasked(
    platform_of: Callable[..., Platform], kind: str
) -> None:
    table = KINDS[kind]
    suffix = "parquet" if table.source == PARQUET else "csv"
    walk = Walk(platform_of(table), table.loads_whole)
    chance = random.Random(kind)
    names = [f"walks/{name}.{suffix}" for name in "ab"]
    walk.deliver(names[0], 2)
    for _ in range(STEPS):
        # Growth that is loaded, one rollback or two of either way, a load now and then.
        what = chance.choices(
            ["grow", "touch", "load", "plain", "reload", "both"], [6, 1, 3, 2, 2, 3]
        )[0]
        if what in ("grow", "touch"):
            walk.deliver(chance.choice([names[0], *names]), 1 if what == "grow" else 0)
        if what in ("grow", "load"):
            walk.load()
        if what in ("plain", "both"):
            walk.rollback(chance.choice([1, 1, 2]), reload=False)
        if what in ("reload", "both"):
            walk.rollback(1, reload=True)
        if ask(walk.platform, "select to_regclass('walks') is not null") == [(True,)]:
            found = [n for (n,) in ask(walk.platform, "select number from walks")]
            assert sorted(found) == sorted(walk.table)


def test_a_grown_file_is_read_again_from_the_top_after_a_plain_rollback_and_one_with_reload(
    platform: Platform,
    lakebed: Any,  # noqa: F811
) -> None:
    for numbers in ((1, 2), (1, 2, 3)):
        deliver(platform, "readings/f.parquet", readings(*numbers))
        load(platform, "readings")
    deliver(platform, "readings/g.parquet", readings(4))
    load(platform, "readings")
    said = lakebed("rollback", "readings", "--yes")[2]
    assert "What was undone of readings/g.parquet waits until it changes" in said
    lakebed("rollback", "readings", "--yes")
    said = lakebed("rollback", "readings", "--reload", "--yes")[2]
    assert "The next load reads again what was undone of readings/f.parquet, as it is now." in said
    assert "without --reload undid of readings/g.parquet waits until it changes" in said
    assert load(platform, "readings").inserted == 3
    said = lakebed("rollback", "readings", "--yes")[2]
    assert "undone of readings/f.parquet waits until it changes" in said
    (platform.settings.data / "readings" / "g.parquet").unlink()
    assert load(platform, "readings").load_id is None


def test_what_was_out_when_a_backup_was_taken_is_out_when_it_is_put_back(
    platform: Platform,
) -> None:
    for numbers in ((1, 2), (1, 2, 3)):
        deliver(platform, "readings/f.parquet", readings(*numbers))
        load(platform, "readings")
    undo(platform, "readings")
    backup = back_up(platform, "readings")
    undo(platform, "readings", reload=True)
    assert load(platform, "readings").inserted == 3
    undo(platform, "readings")
    put_back(platform, "readings", backup.backup_id)
    assert load(platform, "readings").load_id is None
    assert ask(platform, "select number from readings order by 1") == [(1,), (2,)]
    deliver(platform, "readings/f.parquet", readings(1, 2, 3, 4))
    assert load(platform, "readings").inserted == 2


def test_the_next_load_of_what_is_gone_or_of_another_version_is_told_as_it_will_be(
    platform: Platform,
    lakebed: Any,  # noqa: F811
) -> None:
    for name in "fg":
        deliver(platform, f"readings/{name}.parquet", readings(ord(name)))
    load(platform, "readings")
    (platform.settings.data / "readings" / "f.parquet").unlink()
    (platform.settings.data / "readings" / "g.parquet").touch()
    said = lakebed("rollback", "readings", "--yes")[2]
    assert "undone of readings/f.parquet is not read again: it is gone" in said
    assert "g.parquet, as it is now: it was undone with --reload before, or has changed" in said
    assert load(platform, "readings").inserted == 1
