"""An erasure ends only when no row is left, whatever others move, keep or damage meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lakebed.resources.patience import Patience
from lakebed.resources.settings import Settings
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import Platform
from lakebed.tiering import erase_rest
from lakebed.tiering.erase import Erased, erase
from lakebed.tiering.partition import Partition, PartitionBusyError
from lakebed.tiering.restore import restore
from tests.support.patience import with_patience
from tests.support.tiers import EACH, ask, do, fill, seen, settle

WHO = "sensor = 's3'"
OF_THEM = "select count(*) from readings where sensor = 's3'"
OPEN = "select count(*) from lakebed.erasure where finished_at is null"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Where nobody is waited for long."""
    return replace(settings, patience=Patience(for_readers=0.1, for_movers=0.1))


def erase_and_do(platform: Platform, step: str, work: Callable[[], object], **more: str) -> Erased:
    """Erase, and do something else once, when a step is first told."""
    todo = [work]

    def on_step(told: str) -> None:
        if told == step and todo:
            todo.pop()()

    name, where = more.get("name", "readings"), more.get("where", WHO)
    done = erase(platform, platform.table(name), where, on_step=on_step)
    assert not todo
    return done


def keep_busy(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Let another mover hold a partition."""
    lock = Partition.lock

    def taken(partition: Partition) -> None:
        if partition.window.key == key:
            raise PartitionBusyError(f"{partition}: another move of it is running")
        lock(partition)

    monkeypatch.setattr(Partition, "lock", taken)


def test_rows_that_a_move_settles_meanwhile_are_erased(platform: Platform) -> None:
    fill(platform)
    settle(platform, "readings", "2024-01")
    done = erase_and_do(platform, "committed", lambda: settle(platform, "readings", "2024-02"))
    assert (done.failed, seen(platform, OF_THEM), ask(platform, OPEN)) == ((), [(0,)], [(0,)])


def test_rows_that_a_restore_brings_back_meanwhile_are_erased(platform: Platform) -> None:
    fill(platform)
    settle(platform, "readings", "2024-01", "2024-02")
    table = platform.table("readings")
    window = window_for_key(table.require_partitioning.grain, "2024-02")

    def back() -> None:
        settle(platform, "readings", "2024-03")
        restore(platform.postgres, platform.lake, table, window, now=platform.clock.now())

    done = erase_and_do(platform, "committed", back)
    assert (done.failed, seen(platform, OF_THEM)) == ((), [(0,)])


def test_a_row_that_overrides_a_settled_one_meanwhile_does_not_bring_it_back(
    platform: Platform,
) -> None:
    fill(platform, "accounts")
    settle(platform, "accounts", "2024-01")
    late = "insert into accounts values ('2024-01-01 00:07Z', 7, 'mine', -1, '2024-06-01Z')"
    done = erase_and_do(
        platform, "committed", lambda: do(platform, late), name="accounts", where="owner = 'mine'"
    )
    assert (done.hot_rows, done.cold_rows) == (1, 1)
    assert seen(platform, "select owner from accounts where id = 7") == []
    assert seen(platform, "select count(*) from accounts") == [(3 * EACH - 1,)]


def test_a_partition_that_is_busy_keeps_its_hot_rows(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(platform, "accounts")
    settle(platform, "accounts", "2024-01")
    do(
        platform,
        "insert into accounts values ('2024-01-01 00:07Z', 7, 'mine', -1, '2024-06-01Z'),"
        " ('2024-02-01 00:07Z', 7, 'mine', -1, '2024-06-01Z')",
    )
    table = platform.table("accounts")
    with monkeypatch.context() as patch:
        keep_busy(patch, "2024-01")
        done = erase(platform, table, "owner = 'mine'")
    assert ["another move of it" in why for why in done.failed] == [True]
    assert seen(platform, "select opened::varchar from accounts where id = 7") == [
        ("2024-01-01 00:07:00+00",)
    ]
    assert seen(platform, "select owner from accounts where id = 7") == [("mine",)]
    assert ask(platform, OPEN) == [(1,)]
    again = erase(platform, table, "owner = 'mine'")
    assert (again.failed, again.hot_rows, again.cold_rows) == ((), 2, 1)
    assert seen(platform, "select count(*) from accounts where id = 7") == [(0,)]


@pytest.mark.parametrize("live", [True, False])
def test_a_damaged_file_is_not_believed_that_nothing_matches(
    platform: Platform, *, live: bool
) -> None:
    fill(platform)
    (path,) = settle(platform, "readings", "2024-01")
    if not live:
        do(platform, "insert into readings values ('2024-01-09', 'late', 1, 1)")
        settle(platform, "readings", "2024-01")
    file = platform.lake.files.root / path  # type: ignore[attr-defined]
    whole = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    done = erase(platform, platform.table("readings"), "sensor = 'nobody'")
    assert ["is not the file that was written" in why for why in done.failed] == [True]
    file.write_bytes(whole)
    assert erase(platform, platform.table("readings"), "sensor = 'nobody'").failed == ()


def test_others_who_bring_in_rows_all_the_while_leave_it_open(platform: Platform) -> None:
    platform = with_patience(platform, erase_passes=3)
    fill(platform)
    settle(platform, "readings", "2024-01")
    late = "insert into readings values ('2024-01-09', 's3', 1, 1)"

    def on_step(step: str) -> None:
        if step == "committed":
            do(platform, late)

    table = platform.table("readings")
    done = erase(platform, table, WHO, on_step=on_step)
    assert ["readings 2024-01: other sessions keep" in why for why in done.failed] == [True]
    assert ask(platform, OPEN) == [(1,)]


def test_a_trigger_that_keeps_rows_leaves_it_open(platform: Platform) -> None:
    fill(platform)
    do(
        platform,
        "create function keep() returns trigger language plpgsql as 'begin return null; end'",
        "create trigger keep before delete on readings for each row execute function keep()",
    )
    done = erase(platform, platform.table("readings"), WHO)
    assert ["by a trigger" in why for why in done.failed] == [True]
    assert ask(platform, OPEN) == [(1,)]


def test_rows_that_a_move_takes_from_under_the_rest_are_erased(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest has its snapshot, in which February is hot, and then February is settled."""
    fill(platform)
    delete, moved = erase_rest._delete, []

    def late(*arguments: Any) -> int:
        if not moved:
            moved.extend(settle(platform, "readings", "2024-02"))
        return delete(*arguments)

    monkeypatch.setattr(erase_rest, "_delete", late)
    done = erase(platform, platform.table("readings"), WHO)
    assert (done.failed, done.files, seen(platform, OF_THEM)) == ((), tuple(moved), [(0,)])


def test_keys_of_deleted_rows_are_searched(platform: Platform) -> None:
    fill(platform, "accounts")
    settle(platform, "accounts", "2024-01")
    keep = "jsonb_build_object('opened', '2024-{}-01T00:07Z', 'id', 7)"
    for month in ("02", "03"):
        do(platform, f"select lakebed.delete_row('accounts', {keep.format(month)})")
    table = platform.table("accounts")
    done = erase(platform, table, "owner = 'o1'")
    assert ["2 keys of deleted rows were not" in copy for copy in done.copies].count(True) == 1
    erase(platform, table, "id = 8")
    assert ask(platform, "select count(*) from lakebed.cold_delete") == [(2,)]
    done = erase(platform, table, "id = 7")
    assert ask(platform, "select count(*) from lakebed.cold_delete") == [(0,)]
    assert not [copy for copy in done.copies if "deleted rows" in copy]
