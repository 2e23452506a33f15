"""History keeps every version of a row, and says of each moment which one held."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from lakebed.ingest.writers import LoadConflictError
from lakebed.store.platform import Platform, open_platform
from tests.support.modes import ask, counts, customer, day, deliver, load, seen

Version = tuple[int, str | None, int, int | None]


def versions(platform: Platform, table: str = "customers") -> list[Version]:
    """Return id, city, first and last day of every version."""
    days = "(extract(epoch from {} - timestamptz '2024-03-01') / 86400 + 1)::int"
    return ask(
        platform,
        f"select id, kind, {days.format('valid_from')}, {days.format('valid_to')}"  # noqa: S608
        f" from {table} order by id, valid_from",
    )


def test_a_change_closes_the_version_and_begins_the_next(of_modes: Platform) -> None:
    deliver(of_modes, "customers/1.csv", [customer(1, "a", 1), customer(2, "x", 1)])
    assert counts(load(of_modes, "customers")) == {"inserted": 2}
    untouched = ask(of_modes, "select ctid::text, xmin::text from customers where id = 2")
    rows = [customer(1, None, 3), customer(1, "c", 5), customer(2, "x", 1), customer(3, "n", 4)]
    deliver(of_modes, "customers/2.csv", [*rows, customer(1, "c", 5)])
    assert counts(load(of_modes, "customers")) == {
        "inserted": 1,
        "updated": 2,
        "unchanged": 1,
        "superseded": 1,
    }
    assert versions(of_modes) == [
        (1, "a", 1, 3),
        (1, None, 3, 5),
        (1, "c", 5, None),
        (2, "x", 1, None),
        (3, "n", 4, None),
    ]
    assert ask(of_modes, "select ctid::text, xmin::text from customers where id = 2") == untouched
    query = "select valid_to from customers where id = 1 order by 1"
    assert seen(of_modes, query)[0] == (day(3),)


def test_a_marked_row_ends_its_version_and_a_later_one_begins_anew(of_modes: Platform) -> None:
    rows = [
        customer(1, "a", 1),
        customer(1, None, 4, "X"),
        customer(1, None, 5, "X"),
        customer(2, None, 2, "X"),
    ]
    deliver(of_modes, "customers/1.csv", rows)
    assert counts(load(of_modes, "customers")) == {"inserted": 1, "marked": 3, "deleted": 1}
    assert versions(of_modes) == [(1, "a", 1, 4)]
    deliver(of_modes, "customers/1.csv", [*rows, customer(1, "a", 8)])
    assert counts(load(of_modes, "customers")) == {"inserted": 1, "unchanged": 1, "marked": 3}
    assert versions(of_modes) == [(1, "a", 1, 4), (1, "a", 8, None)]


def test_a_version_that_comes_late_finds_its_place(of_modes: Platform) -> None:
    deliver(of_modes, "customers/1.csv", [customer(1, "b", 5), customer(1, "d", 9)])
    load(of_modes, "customers")
    late = [customer(1, "a", 2), customer(1, "c", 7), customer(1, "B", 5)]
    deliver(of_modes, "customers/2.csv", late)
    assert counts(load(of_modes, "customers")) == {"inserted": 1, "updated": 2}
    expected = [(1, "a", 2, 5), (1, "B", 5, 7), (1, "c", 7, 9), (1, "d", 9, None)]
    assert versions(of_modes) == expected
    deliver(of_modes, "customers/3.csv", [customer(1, None, 7, "X"), customer(1, None, 3, "X")])
    assert counts(load(of_modes, "customers")) == {"marked": 2, "deleted": 2}
    assert versions(of_modes) == [(1, "a", 2, 3), (1, "B", 5, 7), (1, "d", 9, None)]


@pytest.mark.parametrize("seed", range(4))
def test_versions_in_any_order_of_loads_make_one_history(of_modes: Platform, seed: int) -> None:
    """The truth is what was said last of each key and moment, in the order of moments."""
    chance = random.Random(seed)
    said: dict[tuple[int, int], str | None] = {}
    for number in range(6):
        rows = [
            (chance.randint(1, 4), chance.choice(["a", "b", "c", None]), chance.randint(1, 28))
            for _ in range(12)
        ]
        deliver(of_modes, f"customers/{number}.csv", [customer(*row) for row in rows])
        report = load(of_modes, "customers")
        said |= {(id, at): city for id, city, at in rows}
        assert report.rows_read == 12
    expected: list[Version] = []
    for (id, at), city in sorted(said.items()):
        later = [moment for key, moment in said if key == id and moment > at]
        expected.append((id, city, at, min(later, default=None)))
    assert versions(of_modes) == expected
    with pytest.raises(Exception, match="customers_holds"):
        ask(of_modes, "update customers set valid_to = null where valid_to is not null returning 1")


def tariffs(platform: Platform) -> list[tuple[Any, ...]]:
    return ask(
        platform,
        "select code, rate, extract(day from valid_from)::int, extract(day from valid_to)::int"
        " from tariffs order by code, valid_from",
    )


def test_without_a_time_in_the_source_versions_begin_with_their_load(of_modes: Platform) -> None:
    def full(*rows: tuple[str, float | None]) -> None:
        deliver(of_modes, "tariffs/1.csv", [{"code": c, "rate": r} for c, r in rows])

    full(("a", 1.0), ("b", 2.0), ("c", None))
    assert counts(load(of_modes, "tariffs", day(1))) == {"inserted": 3}
    full(("a", 1.0), ("b", 3.0), ("b", 2.5))
    assert counts(load(of_modes, "tariffs", day(2))) == {
        "unchanged": 1,
        "updated": 1,
        "superseded": 1,
        "deleted": 1,
    }
    full(("a", 1.0), ("b", 2.5), ("c", None), ("d", 1.0))
    assert counts(load(of_modes, "tariffs", day(3))) == {"unchanged": 2, "inserted": 2}
    assert tariffs(of_modes) == [
        ("a", 1.0, 1, None),
        ("b", 2.0, 1, 2),
        ("b", 2.5, 2, None),
        ("c", None, 1, 2),
        ("c", None, 3, None),
        ("d", 1.0, 3, None),
    ]
    full(("a", 9.0))
    with pytest.raises(LoadConflictError, match="3 of the 4 rows are missing"):
        load(of_modes, "tariffs", day(4))
    assert len(tariffs(of_modes)) == 6


def test_an_older_number_does_not_follow_a_newer_one(of_modes: Platform) -> None:
    def deliver_tickets(name: str, *rows: tuple[int, str, int]) -> None:
        rows_ = [{"id": id, "state": state, "version": v} for id, state, v in rows]
        deliver(of_modes, f"tickets/{name}.csv", rows_)

    deliver_tickets("1", (1, "open", 1), (1, "shut", 3), (2, "open", 1))
    report = load(of_modes, "tickets", day(1))
    assert counts(report) == {"inserted": 2, "superseded": 1}
    deliver_tickets("2", (1, "wait", 2), (2, "shut", 2))
    assert counts(load(of_modes, "tickets", day(2))) == {"unchanged": 1, "updated": 1}
    rows = ask(of_modes, "select id, state, valid_to is null from tickets order by id, valid_from")
    assert rows == [(1, "shut", True), (2, "open", False), (2, "shut", True)]


def test_columns_that_history_makes_are_in_the_table_with_their_keys(of_modes: Platform) -> None:
    deliver(of_modes, "customers/1.csv", [customer(1, "a", 1)])
    load(of_modes, "customers")
    keys = ask(
        of_modes,
        "select pg_get_indexdef(indexrelid) from pg_index"
        " where indrelid = 'customers'::regclass order by indisprimary",
    )
    assert "(id) WHERE (valid_to IS NULL)" in keys[0][0]
    assert "(id, valid_from)" in keys[1][0]
    assert seen(of_modes, "select id, valid_to from customers") == [(1, None)]


def test_a_history_may_be_cut_by_time(of_modes: Platform) -> None:
    from lakebed.spec.table import CsvFiles, Grain, Partitioning

    by = Partitioning(column="day", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC))
    table = replace(
        of_modes.table("stock"),
        name="kept",
        write_mode="history",
        deletes=None,
        changed_files=None,
        source=CsvFiles(glob="kept/*.csv"),
        partitioning=by,
    )
    platform = open_platform(of_modes.settings, (table,))
    rows = [{"day": day(d), "item": "a", "pieces": p} for d, p in ((1, 1), (40, 1))]
    deliver(platform, "kept/1.csv", rows)
    assert counts(load(platform, "kept", day(1))) == {"inserted": 2}
    deliver(platform, "kept/1.csv", [rows[0], rows[1] | {"pieces": 5}])
    assert counts(load(platform, "kept", day(2))) == {"unchanged": 1, "updated": 1}
    assert ask(platform, "select count(*) from kept_2024_04 where valid_to is null") == [(1,)]
