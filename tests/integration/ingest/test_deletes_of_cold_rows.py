"""A load deletes rows that have settled: by a marker, or as a full extract lacks them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lakebed.ingest import cold_conflicts as settled
from lakebed.ingest.writers import LoadConflictError, merge
from lakebed.recovery import rollback as undoing
from lakebed.recovery.backup import take_backup
from lakebed.recovery.restore_backup import restore
from lakebed.recovery.rollback import rollback
from lakebed.recovery.rollback_candidates import RollbackError
from lakebed.spec.table import Deletes, Tiering
from lakebed.store.platform import Platform, open_platform
from tests.support.modes import ask, counts, day, deliver, load, seen
from tests.support.processes import move_key

KEY = "2024-03"
SETTLES = Tiering(hot_for=timedelta(days=1))


@pytest.fixture
def marking(platform: Platform) -> Platform:
    """Accounts with a marker; 1 to 4 of March are cold, changed on the 10th, and 5 is hot."""
    table = replace(platform.table("accounts"), deletes=Deletes(marker="gone"))
    platform = open_platform(platform.settings, (table,))
    deliver(platform, "accounts/1.csv", [account(i, "kept", 10) for i in (1, 2, 3, 4)])
    load(platform, "accounts")
    move_key(platform, "accounts", KEY)
    deliver(platform, "accounts/2.csv", [account(5, "kept", 10)])
    load(platform, "accounts")
    return platform


def account(id: int, owner: str | None, changed: int, gone: str | None = None) -> dict[str, Any]:
    return {
        "opened": day(1),
        "id": id,
        "owner": owner,
        "balance": None if gone else 1,
        "changed": day(changed),
        "gone": gone,
    }


def owners(platform: Platform) -> dict[int, str]:
    return dict(seen(platform, "select id, owner from accounts"))


def tombstones(platform: Platform) -> int:
    return int(ask(platform, "select count(*) from lakebed.cold_delete")[0][0])


def undo(platform: Platform, name: str) -> None:
    rollback(platform.postgres, platform.lake.files, platform.table(name))


def test_a_marked_row_deletes_the_settled_one_that_is_not_newer(marking: Platform) -> None:
    deliver(
        marking,
        "accounts/3.csv",
        [
            account(1, None, 11, "true"),
            account(2, None, 10, "true"),
            account(3, None, 9, "true"),
            account(4, None, 11, "true"),
            account(4, "back", 12),
            account(5, None, 11, "true"),
            account(6, None, 11, "true"),
        ],
    )
    before = owners(marking)
    report = load(marking, "accounts")
    assert (report.marked, report.deleted, report.inserted) == (4, 3, 1)
    after = {3: "kept", 4: "back"}
    assert (owners(marking), tombstones(marking)) == (after, 2)
    undo(marking, "accounts")
    assert (owners(marking), tombstones(marking)) == (before, 0)
    deliver(marking, "accounts/4.csv", [account(1, None, 11, "true"), account(4, "back", 12)])
    load(marking, "accounts")
    assert move_key(marking, "accounts", KEY).overridden == 2
    assert owners(marking) == {2: "kept", 3: "kept", 4: "back", 5: "kept"}


def test_a_hot_row_and_the_cold_one_below_it_are_deleted_as_one(marking: Platform) -> None:
    deliver(marking, "accounts/3.csv", [account(1, "newer", 12)])
    load(marking, "accounts")
    deliver(marking, "accounts/4.csv", [account(1, None, 13, "true"), account(2, None, 1, "true")])
    assert load(marking, "accounts").deleted == 1
    assert owners(marking) == {2: "kept", 3: "kept", 4: "kept", 5: "kept"}
    assert tombstones(marking) == 1


def test_a_row_may_come_back_older_than_the_settled_one_that_was_deleted(marking: Platform) -> None:
    deliver(marking, "accounts/3.csv", [account(1, None, 11, "true")])
    load(marking, "accounts")
    deliver(marking, "accounts/4.csv", [account(1, "older", 2), account(2, "older", 2)])
    assert load(marking, "accounts").inserted == 1
    assert owners(marking)[1] == "older"


def test_a_move_between_the_look_and_the_delete_is_seen(
    marking: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Account 5 settles while the load that deletes it is at work."""
    copy, looks = settled._copy_cold, []

    def move_meanwhile(*args: Any) -> int:
        rows = copy(*args)
        looks.append(rows)
        if len(looks) == 1:
            move_key(marking, "accounts", KEY)
        return rows

    monkeypatch.setattr(settled, "_copy_cold", move_meanwhile)
    deliver(marking, "accounts/3.csv", [account(5, None, 11, "true"), account(1, None, 11, "true")])
    assert load(marking, "accounts").deleted == 2
    assert looks == [4, 5]
    assert owners(marking) == {2: "kept", 3: "kept", 4: "kept"}


def test_a_load_is_undone_only_while_its_deletes_wait(marking: Platform) -> None:
    deliver(marking, "accounts/3.csv", [account(1, None, 11, "true")])
    load(marking, "accounts")
    move_key(marking, "accounts", KEY)
    with pytest.raises(
        RollbackError, match=r"of 1 cold rows that the loads deleted, a move has since removed 1"
    ):
        undo(marking, "accounts")
    assert owners(marking) == {2: "kept", 3: "kept", 4: "kept", 5: "kept"}


def test_rows_stay_deleted_where_a_rollback_forgets_the_tombstones(
    marking: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undoing._Rollback, "_take_back_deletes", lambda self: None)
    deliver(marking, "accounts/3.csv", [account(1, None, 11, "true")])
    load(marking, "accounts")
    undo(marking, "accounts")
    assert 1 not in owners(marking)


def test_a_backup_brings_the_tombstones_of_its_time_back(marking: Platform) -> None:
    def gone(id: int, file: str) -> None:
        deliver(marking, f"accounts/{file}.csv", [account(id, None, 11, "true")])
        load(marking, "accounts")

    gone(1, "3")
    table, home = marking.table("accounts"), marking.settings.home
    backup = take_backup(home, marking.postgres, marking.lake, table)
    then = owners(marking)
    gone(2, "4")
    move_key(marking, "accounts", KEY)
    gone(3, "5")
    assert owners(marking) == {4: "kept", 5: "kept"}
    restore(home, marking.postgres, marking.lake.files, table, backup.backup_id)
    assert owners(marking) == then == {2: "kept", 3: "kept", 4: "kept", 5: "kept"}
    move_key(marking, "accounts", KEY)
    assert owners(marking) == then


FULL = [(1, "a", 1), (1, "b", 1), (1, "c", 1), (40, "a", 1), (40, "b", 1)]


def stock(*rows: tuple[int, str, int]) -> list[dict[str, Any]]:
    return [{"day": day(d), "item": item, "pieces": pieces} for d, item, pieces in rows]


@pytest.fixture(params=[False, True], ids=["before 18", "18"])
def extracts(
    of_modes: Platform, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Platform:
    """Stock by full extracts, of which March has settled."""
    with of_modes.postgres.connect() as connection:
        version = connection.info.server_version
    if request.param and version < merge.RETURNING_OLD_NEW_VERSION:
        pytest.skip(f"the server is {version}")
    monkeypatch.setattr(merge, "RETURNING_OLD_NEW_VERSION", version + (0 if request.param else 1))
    table = replace(of_modes.table("stock"), tiering=SETTLES)
    platform = open_platform(of_modes.settings, (table,))
    deliver(platform, "stock/1.csv", stock(*FULL))
    load(platform, "stock")
    move_key(platform, "stock", KEY)
    return platform


def test_settled_rows_that_an_extract_lacks_go_and_those_that_it_has_stay_cold(
    extracts: Platform,
) -> None:
    deliver(extracts, "stock/1.csv", stock((1, "a", 1), (1, "b", 2), (40, "a", 1), (41, "n", 1)))
    assert counts(load(extracts, "stock")) == {
        "inserted": 2,
        "unchanged": 2,
        "deleted": 2,
    }
    everything = "select item, pieces from stock order by day, item"
    after = [("a", 1), ("b", 2), ("a", 1), ("n", 1)]
    assert seen(extracts, everything) == after
    assert ask(extracts, "select item from stock where day < '2024-04-01'") == [("b",)]
    undo(extracts, "stock")
    assert len(seen(extracts, everything)) == 5
    deliver(extracts, "stock/2.csv", stock((50, "n", 1)))
    assert counts(load(extracts, "stock"))["deleted"] == 2
    move_key(extracts, "stock", KEY)
    assert seen(extracts, everything) == [*after, ("n", 1)]
    assert tombstones(extracts) == 0
    deliver(extracts, "stock/3.csv", stock((51, "n", 1)))
    assert counts(load(extracts, "stock")) == {"inserted": 1, "unchanged": 5}


def test_settled_rows_count_for_how_much_an_extract_may_lack(extracts: Platform) -> None:
    deliver(extracts, "stock/1.csv", stock((40, "a", 1), (40, "b", 1)))
    with pytest.raises(LoadConflictError, match=r"3 of the 5 rows are missing"):
        load(extracts, "stock")
    assert tombstones(extracts) == 0


def test_a_move_while_an_extract_is_loaded_is_seen(
    extracts: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, moves = settled._copy_cold, iter(["2024-04"])

    def move_meanwhile(*args: Any) -> int:
        rows = copy(*args)
        if key := next(moves, None):
            move_key(extracts, "stock", key)
        return rows

    monkeypatch.setattr(settled, "_copy_cold", move_meanwhile)
    deliver(extracts, "stock/1.csv", stock(*FULL[:3], (40, "a", 1)))
    assert counts(load(extracts, "stock")) == {"unchanged": 4, "deleted": 1}
    assert len(seen(extracts, "from stock")) == 4
