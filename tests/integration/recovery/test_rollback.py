"""The state of a table before its last loads comes back, all of it or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import lakebed.ingest.writers.merge
import lakebed.ingest.writers.undo
from lakebed.ingest.load import load_window
from lakebed.ingest.report import LoadReport
from lakebed.recovery.rollback import RolledBack, rollback
from lakebed.recovery.rollback_candidates import RollbackError, loads_of
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform, open_platform
from tests.support import processes
from tests.support.modes import ask, customer, day, deliver, do, load, seen

START = datetime(2024, 2, 1, tzinfo=UTC)
STEPS = ("locked", "gathered", "written", "verified", "recorded", "committed")


def undo(platform: Platform, name: str, load_id: str | None = None, **more: Any) -> RolledBack:
    return rollback(platform.postgres, platform.lake.files, platform.table(name), load_id, **more)


def readings(*numbers: int) -> list[dict[str, Any]]:
    return [
        {"at": START + timedelta(hours=n), "sensor": "a", "value": 1.0, "number": n}
        for n in numbers
    ]


def accounts(*rows: tuple[int, str, int]) -> list[dict[str, Any]]:
    """Rows as (id, balance, day of change)."""
    return [
        {"opened": "2024-02-01", "id": i, "owner": "o", "balance": b, "changed": f"2024-03-{d:02d}"}
        for i, b, d in rows
    ]


def rows(platform: Platform, name: str) -> list[str]:
    return [row[0] for row in ask(platform, f"select t::text from {name} t order by 1")]  # noqa: S608


DELIVERIES: dict[str, list[tuple[str, list[dict[str, Any]]]]] = {
    "readings": [(f"{n}.parquet", readings(n, n + 1)) for n in range(4)],
    "accounts": [
        ("1.csv", accounts((1, "1.00", 1), (2, "1.00", 1), (3, "1.00", 1))),
        ("2.csv", accounts((2, "2.00", 2), (4, "2.00", 2))),
        ("3.csv", accounts((2, "3.00", 3), (4, "3.00", 3), (5, "3.00", 3), (5, "4.00", 4))),
        ("4.csv", accounts((1, "5.00", 5), (5, "5.00", 5), (3, "0.00", 1), (6, "5.00", 5))),
    ],
    "prices": [
        ("1.parquet", [{'the "item"': f"i{i}", "Price %s": n} for i in range(n + 1)])
        for n in range(4)
    ],
    "airports": [
        ("1.csv", [{"order": f"{i}", "name": f"{n * (i % 2)}"} for i in range(n, 5)])
        for n in range(4)
    ],
    "members": [
        (
            f"{n}.csv",
            [
                {"id": i, "select": f"{n}", "changed": day(n + 1), "left ?": str((i + n) % 3 == 0)}
                for i in range(6 + n)
            ],
        )
        for n in range(4)
    ],
    "stock": [
        ("1.csv", [{"day": day(1), "item": f"{i}", "pieces": n // 2} for i in range(n, 6)])
        for n in range(4)
    ],
    "customers": [
        (f"{n}.csv", [customer(i, f"{n // 2}", n + 1, "X" if i == n else None) for i in range(5)])
        for n in range(4)
    ],
    "tariffs": [
        ("1.csv", [{"code": f"{i}", "rate": n * (i % 2)} for i in range(n, 6)]) for n in range(4)
    ],
    "articles": [
        (
            f"{n}.parquet",
            [
                {
                    "url": f"{n}/{i}",
                    "publication name": f"p{n + i % 2}",
                    "country": "c",
                    "city": "d",
                }
                for i in range(3)
            ],
        )
        for n in range(4)
    ],
}


@pytest.fixture
def platform_for(platform: Platform, of_modes: Platform) -> Callable[[str], Platform]:
    """The platform that has a table."""
    return lambda name: platform if name in ("readings", "accounts") else of_modes


@pytest.fixture(params=["as it is", "as before 18"])
def server_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two ways of keeping old rows: told by RETURNING, or looked up before."""
    if request.param == "as before 18":
        for module in (lakebed.ingest.writers.merge, lakebed.ingest.writers.undo):
            monkeypatch.setattr(module, "RETURNING_OLD_NEW_VERSION", 990_000)


@pytest.mark.usefixtures("server_kind")
@pytest.mark.parametrize("name", DELIVERIES)
def test_a_chain_of_loads_is_undone_one_by_one_and_at_once(
    platform_for: Callable[[str], Platform], name: str
) -> None:
    platform = platform_for(name)
    states, loads = [], []
    for file, frame in DELIVERIES[name]:
        deliver(platform, f"{name}/{file}", frame)
        loads.append(load(platform, name).load_id)
        states.append(rows(platform, name))
    assert len(set(map(tuple, states))) == 4
    assert undo(platform, name).loads == (loads[3],)
    assert rows(platform, name) == states[2]
    assert load(platform, name).load_id is None, "what was undone is not loaded again by itself"
    assert undo(platform, name).loads == (loads[2],)
    assert rows(platform, name) == states[1]
    deliver(platform, f"{name}/{DELIVERIES[name][3][0]}", DELIVERIES[name][3][1])
    (platform.settings.data / name / DELIVERIES[name][3][0]).touch()
    again = load(platform, name).load_id
    assert again is not None, "a changed version is a new file"
    # The rows that the first two rollbacks put back are still known as those of the second load.
    done = undo(platform, name, loads[1])
    assert done.loads == (again, loads[1])
    assert rows(platform, name) == states[0]
    assert [item.load_id for item in loads_of_table(platform, name)] == [loads[0]]


def loads_of_table(platform: Platform, name: str) -> Any:
    with platform.postgres.connect() as connection:
        return loads_of(connection, platform.table(name))


@pytest.mark.parametrize("name", DELIVERIES)
def test_several_loads_are_undone_in_one_transaction(
    platform_for: Callable[[str], Platform], name: str
) -> None:
    platform = platform_for(name)
    loads, states = [], []
    for file, frame in DELIVERIES[name]:
        deliver(platform, f"{name}/{file}", frame)
        loads.append(load(platform, name).load_id)
        states.append(rows(platform, name))
    done = undo(platform, name, loads[1], reload=True)
    assert done.loads == (loads[3], loads[2], loads[1])
    assert rows(platform, name) == states[0]
    load(platform, name)
    assert rows(platform, name) == states[3] or name in ("customers", "tariffs", "members")


def test_the_cursor_and_the_quarantine_go_back_too(platform: Platform) -> None:
    deliver(platform, "readings/1.parquet", readings(1, 2))
    first = load(platform, "readings")
    bad = [*readings(*range(200)), {**readings(5)[0], "value": -5000.0}]
    deliver(platform, "readings/2.parquet", bad)
    second = load(platform, "readings")
    assert (second.rejected, second.cursor_from) == (1, first.cursor_to)
    undo(platform, "readings")
    deliver(platform, "readings/3.parquet", readings(3))
    assert load(platform, "readings").cursor_from == first.cursor_to


def test_a_file_that_grew_is_read_on_from_where_the_standing_load_ended(
    platform: Platform,
) -> None:
    for numbers in ((1, 2), (1, 2, 3), (1, 2, 3, 4)):
        deliver(platform, "readings/1.parquet", readings(*numbers))
        report = load(platform, "readings")
        if numbers == (1, 2, 3):
            undo(platform, "readings")
    assert report.inserted == 2
    assert ask(platform, "select number from readings order by 1") == [(1,), (2,), (3,), (4,)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("update accounts set owner = 'x' where id = 2", "of 2 rows that the loads wrote, 1 are"),
        ("delete from accounts where id = 4", "of 2 rows that the loads wrote, 1 are"),
    ],
)
def test_rows_that_others_changed_since_are_a_refusal(
    platform: Platform, change: str, found: str
) -> None:
    for file, frame in DELIVERIES["accounts"][:2]:
        deliver(platform, f"accounts/{file}", frame)
        load(platform, "accounts")
    do(platform, change)
    before = rows(platform, "accounts")
    with pytest.raises(RollbackError, match=f"{found} unchanged: other sessions updated"):
        undo(platform, "accounts")
    assert rows(platform, "accounts") == before
    assert len(loads_of_table(platform, "accounts")) == 2


def test_a_key_that_others_took_meanwhile_is_a_refusal(of_modes: Platform) -> None:
    for number in (0, 1):
        file, frame = DELIVERIES["airports"][number]
        deliver(of_modes, f"airports/{file}", frame)
        load(of_modes, "airports")
    do(of_modes, "insert into airports values ('0', 'taken')")
    with pytest.raises(RollbackError, match=r"[Nn]othing was changed"):
        undo(of_modes, "airports")
    assert ask(of_modes, "select name from airports where \"order\" = '0'") == [("taken",)]


def test_rows_that_have_settled_are_a_refusal_that_names_the_partition(platform: Platform) -> None:
    deliver(platform, "readings/1.parquet", readings(1, 2, 3))
    load(platform, "readings")
    processes.move_key(platform, "readings", "2024-02")
    with pytest.raises(RollbackError, match=r"3 rows .* 0 are .* moved since: 2024-02"):
        undo(platform, "readings")
    assert seen(platform, "select count(*) from readings") == [(3,)]


def test_only_as_many_loads_as_the_table_file_says_can_be_undone(
    platform: Platform, platform_of: Callable[..., Platform]
) -> None:
    some = platform_of(replace(platform.table("accounts"), undo_loads=1))
    for file, frame in DELIVERIES["accounts"][:3]:
        deliver(some, f"accounts/{file}", frame)
        load(some, "accounts")
    problems = [item.problem for item in loads_of_table(some, "accounts")]
    assert problems[0] is None
    assert problems[1] is not None
    assert "updated or deleted 1 rows" in problems[1]
    assert "undo_loads" in problems[1]
    assert problems[2] == problems[1], "what cannot be undone keeps those before it"
    none = platform_of(replace(platform.table("accounts"), undo_loads=0))
    deliver(none, "accounts/4.csv", DELIVERIES["accounts"][3][1])
    load(none, "accounts")
    with pytest.raises(RollbackError, match=r"for 0 loads only \(undo_loads\)"):
        undo(none, "accounts")
    tables = "select count(*) from pg_class where relnamespace = 'lakebed_undo'::regnamespace"
    assert ask(none, tables) == [(0,)]


def test_a_row_that_others_refer_to_is_put_back_without_their_noticing(of_modes: Platform) -> None:
    for number in (0, 1):
        deliver(of_modes, "airports/1.csv", [{"order": "a", "name": f"{number}"}])
        load(of_modes, "airports")
        if number == 0:
            do(
                of_modes,
                'create table lands (o text references airports ("order") on delete cascade)',
                "insert into lands values ('a')",
            )
    undo(of_modes, "airports")
    assert ask(of_modes, 'select name, o from airports join lands on o = "order"') == [("0", "a")]


def test_columns_that_no_contract_knows_come_back_too(platform: Platform) -> None:
    for number, (file, frame) in enumerate(DELIVERIES["accounts"][:2]):
        if number:
            do(
                platform,
                "alter table accounts add column note text",
                "alter table accounts add column twice bigint generated always as (id * 2) stored",
                "update accounts set note = 'n' || id",
            )
        deliver(platform, f"accounts/{file}", frame)
        load(platform, "accounts")
    undo(platform, "accounts")
    assert ask(platform, "select id, balance::int, note, twice from accounts order by 1") == [
        (i, 1, f"n{i}", 2 * i) for i in (1, 2, 3)
    ]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.thorough
def test_a_rollback_that_is_killed_happened_or_did_not(platform: Platform, step: str) -> None:
    states = []
    for file, frame in DELIVERIES["accounts"][:3]:
        deliver(platform, f"accounts/{file}", frame)
        load(platform, "accounts")
        states.append(rows(platform, "accounts"))
    assert processes.run(roll_back, platform.settings, "accounts", step) == -9
    happened = step == "committed"
    assert rows(platform, "accounts") == states[1 if happened else 2]
    undo(platform, "accounts")
    assert rows(platform, "accounts") == states[0 if happened else 1]


def roll_back(settings: Any, name: str, kill: str) -> None:
    undo(open_platform(settings), name, on_step=processes.kill_at(kill))


def test_a_load_waits_for_a_rollback_and_one_of_two_rollbacks_finds_another_state(
    platform: Platform,
) -> None:
    for file, frame in DELIVERIES["accounts"][:3]:
        deliver(platform, f"accounts/{file}", frame)
        load(platform, "accounts")
    newest = [loads_of_table(platform, "accounts")[0].load_id]
    begun, go_on = threading.Event(), threading.Event()

    def pause(step: str) -> None:
        if step == "written":
            begun.set()
            assert go_on.wait(60)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(undo, platform, "accounts", expected=newest, on_step=pause)
        assert begun.wait(60)
        second = pool.submit(undo, platform, "accounts", expected=newest)
        file, frame = DELIVERIES["accounts"][3]
        deliver(platform, f"accounts/{file}", frame)
        loaded = pool.submit(load, platform, "accounts")
        with pytest.raises(TimeoutError):
            loaded.result(timeout=0.5)
        go_on.set()
        assert first.result().loads == tuple(newest)
        with pytest.raises(RollbackError, match="in between"):
            second.result()
        assert loaded.result().load_id is not None
    assert ask(platform, "select id, balance::int from accounts order by 1") == [
        *[(1, 5), (2, 2), (3, 0), (4, 2), (5, 5), (6, 5)]
    ]


def windowed(platform: Platform) -> tuple[Platform, SourceTable]:
    table = replace(platform.table("readings"), load_by="window", changed_files=None)
    return open_platform(platform.settings, (table,)), table


def load_month(platform: Platform, table: SourceTable, key: str, value: float) -> LoadReport:
    frame = pl.DataFrame(readings(*range(0, 1000, 10))).with_columns(value=pl.lit(value))
    (platform.settings.data / "readings").mkdir(exist_ok=True)
    frame.write_parquet(platform.settings.data / "readings" / "all.parquet")
    window = window_for_key(table.require_partitioning.grain, key)
    return load_window(platform.settings, platform.postgres, platform.clock, table, window)


@pytest.mark.parametrize("settled", [False, True])
def test_a_window_is_again_what_it_was_hot_or_cold(platform: Platform, settled: bool) -> None:
    platform, table = windowed(platform)
    load_month(platform, table, "2024-02", 1)
    load_month(platform, table, "2024-03", 1)
    if settled:
        processes.move_key(platform, "readings", "2024-02")
        do(platform, "insert into readings values ('2024-02-03', 'late', 7, 7)")
    before = processes.all_rows(platform, "readings")
    hot = ask(platform, "select count(*) from readings")
    for value in (2, 3):
        load_month(platform, table, "2024-02", value)
    chain = [item.load_id for item in loads_of_table(platform, "readings")]
    done = undo(platform, "readings", chain[1])
    assert done.partitions == (("2024-02",) if settled else ())
    assert processes.all_rows(platform, "readings") == before
    assert ask(platform, "select count(*) from readings") == hot


def test_a_window_whose_cold_file_is_gone_stays(platform: Platform) -> None:
    platform, table = windowed(platform)
    load_month(platform, table, "2024-02", 1)
    moved = processes.move_key(platform, "readings", "2024-02")
    load_month(platform, table, "2024-02", 2)
    (platform.lake.files.root / str(moved.path)).unlink()
    with pytest.raises(RollbackError, match="is gone or changed"):
        undo(platform, "readings")
    assert seen(platform, "select distinct value from readings") == [(2.0,)]


def test_a_database_that_was_copied_row_by_row_undoes_nothing(platform: Platform) -> None:
    deliver(platform, "readings/1.parquet", readings(1))
    load(platform, "readings")
    do(
        platform,
        "create table copied as select * from lakebed.load_write",
        "delete from lakebed.load_write",
        "insert into lakebed.load_write overriding system value select * from copied",
    )
    with pytest.raises(RollbackError, match="copied or restored since"):
        undo(platform, "readings")
