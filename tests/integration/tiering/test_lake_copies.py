"""A table that is not partitioned goes to the lake whole, after each load that changed it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pandera.polars as pa
import polars as pl
import pytest
from psycopg import sql

from lakebed.cli import main as cli
from lakebed.errors import VerificationError
from lakebed.recovery.rollback import rollback
from lakebed.resources.locks import lake_copy_lock
from lakebed.spec.table import Lookup, ParquetFiles, SourceTable
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering import verified_file
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.erase import erase
from lakebed.tiering.housekeep import housekeep
from lakebed.tiering.lake_copies import (
    LakeCopy,
    LakeCopyBusyError,
    WholeTable,
    write_due_copies,
    write_lake_copy,
)
from lakebed.tiering.verify import verify
from tests.conftest import NOW
from tests.support import processes, tiers
from tests.support.modes import ask, day, deliver, do, load
from tests.support.patience import with_patience

STEPS = ("locked", "counted", "copied", "verified", "renamed", "recorded", "committed")
NONE_KEPT = timedelta(0)
LIVE = "select generation, rows from lakebed.lake_copy where superseded_at is null"


def member(id: int, name: str, at: int = 1, gone: str | None = None) -> dict[str, Any]:
    return {"id": id, "select": name, "changed": day(at), "left ?": gone}


def load_members(platform: Platform, number: int, *rows: dict[str, Any]) -> list[LakeCopy]:
    """Load the rows of a new file, and take what is due after it."""
    deliver(platform, f"members/{number}.csv", list(rows))
    load(platform, "members")
    return write_due_copies(platform, platform.table("members"))


def files(platform: Platform) -> list[str]:
    return sorted(Path(path).name for path in tiers.files(platform))


def of_the_catalog(platform: Platform, query: str) -> list[Any]:
    """Ask a DuckDB that knows nothing but the catalog file."""
    address = write_catalog(platform)
    with duckdb.connect(address, read_only=True) as bare:
        return bare.execute(query).fetchall()


def names(platform: Platform) -> list[str]:
    rows = of_the_catalog(platform, 'select "select" from members order by id')
    return [name for (name,) in rows]


def impatient(platform: Platform, *tables: SourceTable) -> Platform:
    """Return the platform with no grace for files, and others of its tables."""
    others = {table.name: table for table in tables}
    return open_platform(
        replace(platform.settings, file_grace=NONE_KEPT),
        tuple(others.get(table.name, table) for table in platform.tables),
    )


def test_each_load_that_changed_something_leaves_a_snapshot_and_no_other_does(
    of_modes: Platform,
) -> None:
    (first,) = load_members(of_modes, 1, member(2, "b"), member(1, "a"))
    assert (first.generation, first.rows, first.path) == (1, 2, "members/members_g0001.parquet")
    assert names(of_modes) == ["a", "b"]
    load(of_modes, "members")
    assert write_due_copies(of_modes, of_modes.table("members")) == []
    assert load_members(of_modes, 2, member(1, "a", 2), member(2, "b")) != []
    assert load_members(of_modes, 3, member(1, "a", 2)) == []  # all unchanged
    (third,) = load_members(of_modes, 4, member(1, "a", 3, gone="yes"), member(3, "c"))
    assert (third.generation, third.rows) == (3, 2)
    assert names(of_modes) == ["b", "c"]
    path = of_modes.lake.files.address(third.path)
    ids = duckdb.read_parquet(path).project("id").fetchall()
    assert ids == [(2,), (3,)]  # in the order of the key


def test_the_lake_alone_answers_a_join_of_a_settled_table_and_a_dimension(
    platform: Platform,
) -> None:
    class Sensor(pa.DataFrameModel):
        """A sensor."""

        sensor: str
        room: str

    sensors = SourceTable(
        name="sensors",
        model=Sensor,
        source=ParquetFiles(glob="sensors/*.parquet"),
        write_mode="replace",
    )
    platform = open_platform(platform.settings, (*platform.tables, sensors))
    tiers.fill(platform)
    tiers.settle(platform)
    deliver(
        platform,
        "sensors/1.parquet",
        [{"sensor": f"s{n}", "room": f"r{n % 2}"} for n in range(7)],
    )
    load(platform, "sensors")
    assert len(write_due_copies(platform, platform.table("sensors"))) == 1
    query = (
        "select room, count(*), sum(number)::int from readings join sensors using (sensor)"
        " group by room order by room"
    )
    truth = tiers.seen(platform, query)
    assert of_the_catalog(platform, query) == truth
    assert sum(rows for _, rows, _ in truth) == 3 * tiers.EACH


def test_the_last_few_are_kept_and_housekeeping_removes_the_others(of_modes: Platform) -> None:
    for number in range(1, 6):
        load_members(of_modes, number, member(number, f"m{number}"))
    assert len(files(of_modes)) == 5
    kept = housekeep(of_modes)
    assert (kept.swept, kept.failed) == ([], [])
    assert {spared.owner for spared in kept.spared} == {"members"}
    now = impatient(of_modes)
    assert [Path(file.path).name for file in housekeep(now).swept] == [
        "members_g0001.parquet",
        "members_g0002.parquet",
    ]
    assert files(now) == [f"members_g{n:04d}.parquet" for n in (3, 4, 5)]
    assert names(now) == ["m1", "m2", "m3", "m4", "m5"]

    one = impatient(now, replace(now.table("members"), lake_copies=1))
    housekeep(one)
    assert files(one) == ["members_g0005.parquet"]
    (sixth,) = load_members(one, 6, member(6, "m6"))
    assert sixth.generation == 6

    none = impatient(one, replace(one.table("members"), lake_copies=0))
    assert load_members(none, 7, member(7, "m7")) == []
    housekeep(none)
    assert files(none) == []
    assert names(none) == []
    (again,) = write_due_copies(now, now.table("members"))
    assert (again.generation, again.rows) == (7, 7)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.thorough_but("recorded", "committed")
def test_killed_at_a_step_the_load_stands_and_the_next_one_makes_the_snapshot_good(
    of_modes: Platform, step: str
) -> None:
    load_members(of_modes, 1, member(1, "a"))
    deliver(of_modes, "members/2.csv", [member(2, "b")])
    load(of_modes, "members")
    assert processes.run(processes.keep_snapshot, of_modes.settings, "members", step) == -9
    assert ask(of_modes, "select count(*) from members") == [(2,)]
    done = step == "committed"
    assert names(of_modes) == (["a", "b"] if done else ["a"])
    load(of_modes, "members")  # with nothing new
    assert len(write_due_copies(of_modes, of_modes.table("members"))) == (0 if done else 1)
    assert names(of_modes) == ["a", "b"]
    now = impatient(of_modes)
    housekeep(now)
    assert set(files(now)) == {Path(path).name for path in tiers.named(now)}
    assert not [file for file in verify(now, now.table("members"), deep=True) if file.problem]


def test_loads_that_end_while_a_snapshot_is_taken_are_in_the_one_that_is_live_in_the_end(
    of_modes: Platform,
) -> None:
    deliver(of_modes, "members/1.csv", [member(1, "a")])
    load(of_modes, "members")
    counted, go_on = threading.Event(), threading.Event()

    def pause(step: str) -> None:
        if step == "counted":
            counted.set()
            assert go_on.wait(processes.PATIENCE)

    members = of_modes.table("members")
    first = threading.Thread(
        target=write_due_copies, args=(of_modes, members), kwargs={"on_step": pause}
    )
    first.start()
    assert counted.wait(processes.PATIENCE)
    deliver(of_modes, "members/2.csv", [member(2, "b")])
    load(of_modes, "members")
    second = threading.Thread(target=write_due_copies, args=(of_modes, members))
    second.start()
    second.join(0.5)
    assert second.is_alive()  # it waits for the first
    go_on.set()
    first.join(processes.PATIENCE)
    second.join(processes.PATIENCE)
    assert ask(of_modes, LIVE) == [(2, 2)]
    assert names(of_modes) == ["a", "b"]


def test_who_gets_the_lock_with_an_older_view_of_the_table_does_not_win(
    of_modes: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the lock, as if it came free between the snapshot and the asking for it."""
    monkeypatch.setattr(WholeTable, "try_lock", lambda self, lock: True)
    members = of_modes.table("members")
    deliver(of_modes, "members/1.csv", [member(1, "a")])
    load(of_modes, "members")
    seen: list[str] = []

    def overtake(step: str) -> None:
        seen.append(step)
        if seen == ["locked", "counted"]:
            deliver(of_modes, "members/2.csv", [member(2, "b")])
            load(of_modes, "members")
            write_due_copies(of_modes, members)

    write_lake_copy(of_modes, members, on_step=overtake)
    assert seen.count("counted") == 2
    assert [rows for _, rows in ask(of_modes, LIVE)] == [2]
    assert names(of_modes) == ["a", "b"]


def test_who_waits_too_long_for_another_says_so(
    of_modes: Platform,
) -> None:
    of_modes = with_patience(of_modes, for_lake_copy=0.0)
    deliver(of_modes, "members/1.csv", [member(1, "a")])
    load(of_modes, "members")
    with (
        of_modes.postgres.connect() as other,
        lake_copy_lock("members").held(other),
        pytest.raises(LakeCopyBusyError, match="members"),
    ):
        write_due_copies(of_modes, of_modes.table("members"))


@pytest.fixture
def damaged(of_modes: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Members that are loaded, and a copy that loses a row."""
    deliver(of_modes, "members/1.csv", [member(1, "a"), member(2, "b")])
    load(of_modes, "members")
    copy = verified_file._copy
    monkeypatch.setattr(
        verified_file,
        "_copy",
        lambda hot, rows, *more: copy(hot, rows + sql.SQL(" where id > 1"), *more),
    )
    return of_modes


def test_a_copy_that_lost_a_row_becomes_no_snapshot(damaged: Platform) -> None:
    with pytest.raises(VerificationError, match=r"1 rows against 2.*stays"):
        write_due_copies(damaged, damaged.table("members"))
    assert (ask(damaged, LIVE), files(damaged)) == ([], [])
    assert ask(damaged, "select count(*) from members") == [(2,)]


def test_without_verification_a_lost_row_would_be_published_and_is_noticed(
    damaged: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified_file, "_verify", lambda *_: None)
    write_due_copies(damaged, damaged.table("members"))
    assert names(damaged) == ["b"]
    (found,) = verify(damaged, damaged.table("members"), deep=True)
    assert "1 rows against 2" in str(found.problem)


def test_verify_finds_a_snapshot_that_was_damaged_later(of_modes: Platform) -> None:
    (taken,) = load_members(of_modes, 1, member(1, "a"), member(2, "b"))
    members = of_modes.table("members")
    (good,) = verify(of_modes, members, deep=True)
    assert (good.problem, good.rows, good.partition_key) == (None, 2, "")
    path = Path(of_modes.lake.files.address(taken.path))
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    (bad,) = verify(of_modes, members, deep=True)
    assert "SHA-256" in str(bad.problem)


def test_a_rollback_is_shown_by_the_next_snapshot(of_modes: Platform) -> None:
    load_members(of_modes, 1, member(1, "a"))
    load_members(of_modes, 2, member(1, "z", 2), member(2, "b"))
    members = of_modes.table("members")
    rollback(of_modes.postgres, of_modes.lake.files, members)
    assert names(of_modes) == ["z", "b"]
    assert len(write_due_copies(of_modes, members)) == 1
    assert names(of_modes) == ["a"]
    assert write_due_copies(of_modes, members) == []


def test_an_erasure_leaves_no_snapshot_from_before_it(of_modes: Platform) -> None:
    load_members(of_modes, 1, member(1, "anna-of-the-hills"), member(2, "b"))
    load_members(of_modes, 2, member(3, "c"))
    done = erase(of_modes, of_modes.table("members"), "id = 1")
    assert done.failed == ()
    assert [Path(path).name for path in done.files] == [
        "members_g0001.parquet",
        "members_g0002.parquet",
    ]
    assert files(of_modes) == ["members_g0003.parquet"]
    assert names(of_modes) == ["b", "c"]
    root = of_modes.lake.files.root  # type: ignore[attr-defined]
    assert not any(b"anna-of" in path.read_bytes() for path in root.rglob("*.parquet"))
    told = ask(of_modes, "select fingerprint::text from lakebed.lake_copy order by generation")
    assert [text == "{}" for (text,) in told] == [True, True, False]


def test_a_load_that_inserts_parents_leaves_a_snapshot_of_them(
    platform_of: Callable[..., Platform],
) -> None:
    class Publication(pa.DataFrameModel):
        """A publication."""

        id: str = pa.Field(metadata={"postgres": "uuid"})
        name: str

    class Article(pa.DataFrameModel):
        """An article of a publication."""

        url: str
        publication: str

    publications = SourceTable(name="publications", model=Publication, key=("id",))
    articles = SourceTable(
        name="articles",
        model=Article,
        source=ParquetFiles(glob="articles/*.parquet"),
        lookups=(
            Lookup(
                column="publication_id",
                natural=("publication",),
                table="publications",
                natural_key=("name",),
            ),
        ),
    )
    platform = platform_of(publications, articles)
    do(
        platform,
        "create table publications (id uuid primary key default gen_random_uuid(),"
        " name text not null unique)",
    )
    query = (
        "select url, name from articles join publications on publication_id = publications.id"
        " order by url"
    )
    for number, name in ((1, "a"), (2, "b")):
        deliver(
            platform, f"articles/{number}.parquet", [{"url": f"u{number}", "publication": name}]
        )
        load(platform, "articles")
        taken = write_due_copies(platform, articles)
        assert [(s.table, s.rows) for s in taken] == [
            ("articles", number),
            ("publications", number),
        ]
    assert of_the_catalog(platform, query) == [("u1", "a"), ("u2", "b")]
    assert write_due_copies(platform, articles) == []


@pytest.fixture
def lakebed(of_modes: Platform, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Run the command in this process; give exit code and stderr."""
    monkeypatch.setenv("LAKEBED_HOME", str(of_modes.settings.home))
    monkeypatch.setenv("LAKEBED_POSTGRES_URL", str(of_modes.settings.postgres_url))
    monkeypatch.setenv("LAKEBED_TABLES", str(of_modes.settings.tables))
    monkeypatch.setenv("LAKEBED_CLOCK", NOW)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
            sys.exit(0)
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def test_a_load_by_command_whose_snapshot_fails_says_so_and_the_next_one_takes_it(
    of_modes: Platform, lakebed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(of_modes, "members/1.csv", [member(1, "a")])
    with monkeypatch.context() as broken:
        broken.setattr("lakebed.tiering.verified_file._verify", _refuse)
        code, err = lakebed("load", "members")
    assert code == 1
    assert "1 not done:\n  members: its rows are committed" in err
    assert ask(of_modes, "select count(*) from members") == [(1,)]
    code, err = lakebed("load", "members")
    assert (code, "members: copied 1 rows to the lake" in err) == (0, True)
    catalog = of_modes.lake.files.address("catalog.duckdb")
    with duckdb.connect(catalog, read_only=True) as bare:
        assert bare.execute("select id from members").fetchall() == [(1,)]
    code, err = lakebed("load", "members")
    assert (code, err.splitlines()[-1]) == (0, "members: nothing new")
    assert lakebed("rollback", "members", "--yes")[0] == 0
    with duckdb.connect(catalog, read_only=True) as bare:
        assert bare.execute("select id from members").fetchall() == []
    assert lakebed("verify", "members", "--deep")[0] == 0


def _refuse(*_: Any) -> None:
    raise VerificationError("no")


class Everything(pa.DataFrameModel):
    """Types that DuckDB does not carry as they are."""

    id: pl.Int64
    free: str = pa.Field(metadata={"postgres": "numeric"}, nullable=True)
    said: str = pa.Field(metadata={"postgres": "jsonb"}, nullable=True)
    lasts: str = pa.Field(metadata={"postgres": "interval"}, nullable=True)
    clock: str = pa.Field(metadata={"postgres": "timetz"}, nullable=True)
    ratio: pl.Float64 = pa.Field(nullable=True)
    exact: Annotated[pl.Decimal, 38, 10] = pa.Field(nullable=True)
    many: list[int] = pa.Field(nullable=True)


def test_values_that_duckdb_does_not_carry_are_as_they_were(
    platform_of: Callable[..., Platform],
) -> None:
    table = SourceTable(
        name="everything",
        model=Everything,
        source=ParquetFiles(glob="everything/*.parquet"),
        key=("id",),
        write_mode="merge",
        changed_files="refuse",
    )
    platform = platform_of(table)
    load(platform, "everything")
    do(
        platform,
        "insert into everything values (1, 123456789012345678901234567890.000000000000000000001,"
        """ '{"a": [1, null]}', '1 mon -2 days 03:04:05.6', '10:00:00+02', '-0', 1, '{1,NULL}'),"""
        " (2, 'NaN', 'null', null, null, 0.0, -0.5, '{}'), (3, null, null, null, null, 'NaN',"
        " null, null), (4, '-Infinity', '\"x\"', '-1 day', '23:59:59.999999-12', 'infinity',"
        " null, null)",
    )
    (taken,) = write_due_copies(platform, table)
    assert taken.rows == 4
    rows = of_the_catalog(platform, "select free, said, clock::varchar, exact from everything")
    assert rows[0][0] == "123456789012345678901234567890.000000000000000000001"
    assert [row[0] for row in rows[1:]] == ["NaN", None, "-Infinity"]
    assert rows[0][1] == '{"a": [1, null]}'
    (found,) = verify(platform, table, deep=True)
    assert found.problem is None
