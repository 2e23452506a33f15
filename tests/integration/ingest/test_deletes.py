"""Rows that the source says are gone leave the table: by a marker, or by a full extract's lack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lakebed.ingest.writers import LoadConflictError, merge
from lakebed.spec.table import Deletes
from lakebed.store.platform import Platform, open_platform
from tests.support.modes import ask, counts, day, deliver, do, load, seen


def member(id: int, name: str | None, changed: int, left: object = None) -> dict[str, Any]:
    return {"id": id, "select": name, "changed": day(changed), "left ?": left}


def members(platform: Platform) -> list[tuple[int, str]]:
    return ask(platform, 'select id, "select" from members order by id')


def test_a_marked_row_deletes_and_may_lack_everything_but_its_key(of_modes: Platform) -> None:
    deliver(of_modes, "members/1.csv", [member(i, f"n{i}", 1) for i in range(1, 5)])
    assert counts(load(of_modes, "members")) == {"inserted": 4}
    rows = [
        member(1, None, 2, "true"),
        member(2, "n2", 2, "no"),
        member(3, "n3", 1, "0"),
        member(9, None, 2, " YES "),
    ]
    deliver(of_modes, "members/2.csv", rows)
    assert counts(load(of_modes, "members")) == {
        "updated": 1,
        "unchanged": 1,
        "marked": 2,
        "deleted": 1,
    }
    assert members(of_modes) == [(2, "n2"), (3, "n3"), (4, "n4")]


def test_the_newest_word_on_a_key_decides_whether_it_is_gone(of_modes: Platform) -> None:
    deliver(of_modes, "members/1.csv", [member(i, "old", 5) for i in (1, 2, 3, 4)])
    load(of_modes, "members")
    rows = [
        member(1, "x", 6, "true"),
        member(1, "back", 7),
        member(2, "x", 7),
        member(2, "x", 8, "true"),
        member(3, None, 4, "true"),
        member(4, None, 5, "true"),
        member(5, "n", 1),
        member(5, "n", 1, "true"),
    ]
    deliver(of_modes, "members/2.csv", rows)
    assert counts(load(of_modes, "members")) == {
        "updated": 1,
        "superseded": 3,
        "marked": 4,
        "deleted": 2,
    }
    assert members(of_modes) == [(1, "back"), (3, "old")]


@pytest.mark.parametrize("tells", [False, True], ids=["before 18", "18"])
def test_counts_are_the_same_on_every_server(
    of_modes: Platform, monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    """A server before 18 cannot tell inserted rows from updated ones; the merge asks otherwise."""
    with of_modes.postgres.connect() as connection:
        version = connection.info.server_version
    if tells and version < merge.RETURNING_OLD_NEW_VERSION:
        pytest.skip(f"the server is {version}")
    monkeypatch.setattr(merge, "RETURNING_OLD_NEW_VERSION", version if tells else version + 1)
    deliver(of_modes, "members/1.csv", [member(i, "a", 1) for i in range(20)])
    assert counts(load(of_modes, "members")) == {"inserted": 20}
    rows = [member(i, "a" if i % 2 else "b", 2, i % 5 == 0 or None) for i in range(30)]
    deliver(of_modes, "members/2.csv", [*rows, *rows[:3], member(7, "old", 0)])
    assert counts(load(of_modes, "members")) == {
        "inserted": 8,
        "updated": 16,
        "superseded": 4,
        "marked": 6,
        "deleted": 4,
    }
    deliver(of_modes, "members/3.csv", rows[1:5])
    assert counts(load(of_modes, "members")) == {"unchanged": 4}


def test_a_marked_row_without_a_key_is_rejected(of_modes: Platform) -> None:
    table = replace(of_modes.table("members"), reject_share=0.5)
    platform = open_platform(of_modes.settings, (table,))
    rows = [member(1, "a", 1), {"id": None, "select": "a", "changed": day(1), "left ?": "true"}]
    deliver(platform, "members/1.csv", rows)
    assert counts(load(platform, "members")) == {"inserted": 1, "rejected": 1}


def test_a_marker_may_be_of_any_type_and_need_not_be_in_the_contract(of_modes: Platform) -> None:
    from lakebed.spec.table import ParquetFiles

    for marked in (True, 1, "T"):
        source = ParquetFiles(glob=f"m{marked}/*.parquet")
        table = replace(of_modes.table("members"), name=f"members_{marked}".lower(), source=source)
        platform = open_platform(of_modes.settings, (table,))
        rows = [member(1, "a", 1), member(2, "a", 1), member(1, "a", 2, marked)]
        deliver(platform, f"m{marked}/1.parquet", rows)
        report = load(platform, table.name)
        assert counts(report) == {"inserted": 1, "superseded": 1, "marked": 1}
    assert ask(platform, "select attname from pg_attribute where attname like 'left%'") == []


def test_a_marker_that_is_missing_is_named(of_modes: Platform) -> None:
    deliver(of_modes, "members/1.csv", [{"id": 1, "select": "a", "changed": day(1)}])
    assert "'left ?' is missing" in load(of_modes, "members").refused[0].problem


def stock(*rows: tuple[int, str, int]) -> list[dict[str, Any]]:
    return [{"day": day(d), "item": item, "pieces": pieces} for d, item, pieces in rows]


FULL = [(1, "a", 1), (1, "b", 1), (40, "a", 1), (40, "b", 1)]


def test_rows_that_a_full_extract_lacks_are_deleted(of_modes: Platform) -> None:
    deliver(of_modes, "stock/1.csv", stock(*FULL))
    assert counts(load(of_modes, "stock")) == {"inserted": 4}
    deliver(of_modes, "stock/1.csv", stock((1, "a", 1), (1, "b", 2)))
    deliver(of_modes, "stock/2.csv", stock((40, "b", 1), (70, "c", 0)))
    assert counts(load(of_modes, "stock")) == {
        "inserted": 1,
        "updated": 1,
        "unchanged": 2,
        "deleted": 1,
    }
    rows = seen(of_modes, "select item, pieces from stock order by day, item")
    assert rows == [("a", 1), ("b", 2), ("b", 1), ("c", 0)]
    assert load(of_modes, "stock").load_id is None


def test_an_extract_that_would_delete_too_much_is_refused(of_modes: Platform) -> None:
    deliver(of_modes, "stock/1.csv", stock(*FULL))
    load(of_modes, "stock")
    deliver(of_modes, "stock/1.csv", stock((1, "a", 7)))
    with pytest.raises(
        LoadConflictError,
        match=r"3 of the 4 rows are missing.*more than the 50%.*at_m",
    ):
        load(of_modes, "stock")
    (of_modes.settings.data / "stock/1.csv").write_text("day,item,pieces\n")
    with pytest.raises(LoadConflictError, match=r"has no row, which would delete all 4"):
        load(of_modes, "stock")
    assert ask(of_modes, "select sum(pieces)::int from stock") == [(4,)]
    table = replace(of_modes.table("stock"), deletes=Deletes(full_extract=True, at_most=0.75))
    deliver(of_modes, "stock/1.csv", stock((1, "a", 7)))
    platform = open_platform(of_modes.settings, (table,))
    assert counts(load(platform, "stock")) == {"updated": 1, "deleted": 3}


def test_a_row_that_is_rejected_is_not_missing(of_modes: Platform) -> None:
    deliver(of_modes, "stock/1.csv", stock(*FULL))
    load(of_modes, "stock")
    deliver(of_modes, "stock/1.csv", stock((1, "a", 1), (1, "b", -1), (40, "a", 1)))
    assert counts(load(of_modes, "stock")) == {"unchanged": 2, "rejected": 1, "deleted": 1}
    assert ask(of_modes, "select item from stock where day < '2024-03-02' order by 1") == [
        ("a",),
        ("b",),
    ]


def test_nothing_is_missing_while_a_file_of_the_extract_cannot_be_read(of_modes: Platform) -> None:
    deliver(of_modes, "stock/1.csv", stock(*FULL[:3]))
    deliver(of_modes, "stock/2.csv", stock(FULL[3]))
    load(of_modes, "stock")
    (of_modes.settings.data / "stock/2.csv").write_text("day,item\n")
    report = load(of_modes, "stock")
    assert (report.load_id, len(report.refused)) == (None, 1)
    assert ask(of_modes, "select count(*) from stock") == [(4,)]
    (of_modes.settings.data / "stock/2.csv").write_text("day,item,pieces\nx,y,z\n")
    report = load(of_modes, "stock")
    assert (report.load_id, len(report.refused)) == (None, 1)
    assert ask(of_modes, "select count(*) from stock") == [(4,)]


def test_rows_of_others_are_deleted_too_as_the_extract_is_all_there_is(of_modes: Platform) -> None:
    deliver(of_modes, "stock/1.csv", stock(*FULL))
    load(of_modes, "stock")
    do(of_modes, "insert into stock values ('2024-03-01', 'by hand', 1)")
    deliver(of_modes, "stock/1.csv", stock(*FULL, (1, "c", 1)))
    assert counts(load(of_modes, "stock")) == {"inserted": 1, "unchanged": 4, "deleted": 1}
