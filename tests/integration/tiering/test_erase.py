"""An erasure takes rows out of hot and cold for good, and nothing else, however it dies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lakebed.errors import VerificationError
from lakebed.recovery.backup import take_backup
from lakebed.recovery.restore_backup import restore
from lakebed.resources.patience import Patience
from lakebed.resources.settings import Settings
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering import erase as erasing
from lakebed.tiering import erase_partition as partitions
from lakebed.tiering import erase_rest as rests
from lakebed.tiering.erase import Erased, erase, would_erase
from lakebed.tiering.literals import PredicateError
from lakebed.tiering.verify import verify
from tests.support import processes
from tests.support.modes import customer, day, deliver, load
from tests.support.patience import with_patience
from tests.support.tiers import EACH, ask, do, files, fill, named, seen, settle

WHO = "sensor = 's3'"
OF_THEM = "select count(*) from readings where sensor = 's3'"
OTHERS = "select count(*), sum(number)::int from readings where sensor <> 's3'"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Where nobody is waited for long."""
    return replace(settings, patience=Patience(for_readers=0.5))


@pytest.fixture
def mixed(platform: Platform) -> Platform:
    """Readings: January and February cold, with late rows in both, March hot."""
    fill(platform)
    settle(platform, "readings", "2024-01", "2024-02")
    do(
        platform,
        "insert into readings values ('2024-01-09', 's3', 1, 1), ('2024-02-09', 's4', 1, 1)",
    )
    return platform


def erased(platform: Platform, where: str = WHO, name: str = "readings", **more: Any) -> Erased:
    done = erase(platform, platform.table(name), where, **more)
    assert done.failed == ()
    assert files(platform) == named(platform)
    assert not [f for f in verify(platform, platform.table(name), deep=True) if f.problem]
    return done


def bytes_of_lake(platform: Platform) -> Iterator[bytes]:
    for path in platform.lake.files.root.rglob("*.parquet*"):  # type: ignore[attr-defined]
        yield path.read_bytes()


def test_rows_leave_hot_and_cold_and_the_files_that_held_them_are_gone(mixed: Platform) -> None:
    ((theirs,),), others = seen(mixed, OF_THEM), seen(mixed, OTHERS)
    before = files(mixed)
    told = would_erase(mixed, mixed.table("readings"), WHO)
    assert (told.hot_rows + told.cold_rows, told.dry_run) == (theirs, True)
    assert files(mixed) == before
    done = erased(mixed)
    assert done.hot_rows + done.cold_rows == theirs == told.hot_rows + told.cold_rows
    assert done.hot_rows == told.hot_rows
    assert set(done.files) == before
    assert seen(mixed, OF_THEM) == [(0,)]
    assert seen(mixed, OTHERS) == others
    assert ask(mixed, OF_THEM) == [(0,)]
    ledger = "select hot_rows, cold_rows, predicate, finished_at is not null from lakebed.erasure"
    assert ask(mixed, ledger) == [(done.hot_rows, done.cold_rows, None, True)]


def test_nothing_of_what_was_erased_stays_in_the_manifest(mixed: Platform) -> None:
    """The fingerprint of a file less that of the next one would tell the rows in between."""
    erased(mixed)
    gone = "select fingerprint::text, time_min from lakebed.cold_file where removed_at is not null"
    assert set(ask(mixed, gone)) == {("{}", None)}


def test_a_partition_of_which_nothing_is_left_has_no_file(mixed: Platform) -> None:
    erased(mixed, "at < '2024-02-01'")
    assert ask(
        mixed, "select partition_key from lakebed.cold_file where superseded_at is null"
    ) == [("2024-02",)]
    assert seen(mixed, "select count(*) from readings") == [(2 * EACH + 1,)]


def test_what_matches_nothing_changes_nothing(mixed: Platform) -> None:
    before = files(mixed)
    done = erased(mixed, "sensor = 'nobody'", keep_text=True)
    assert (done.hot_rows, done.cold_rows, done.files) == (0, 0, ())
    assert files(mixed) == before
    assert ask(mixed, "select predicate from lakebed.erasure") == [("sensor = 'nobody'",)]


def test_older_generations_that_hold_them_are_destroyed_and_others_wait(mixed: Platform) -> None:
    do(mixed, "insert into readings values ('2024-01-10', 'only', 1, 1)")
    settle(mixed, "readings", "2024-01")
    do(mixed, "insert into readings values ('2024-01-11', 'later', 1, 1)")
    settle(mixed, "readings", "2024-01")
    done = erased(mixed, "sensor = 'only'")
    assert done.cold_rows == 1
    assert [path.rsplit("_", 1)[1] for path in done.files] == ["g0002.parquet", "g0003.parquet"]
    kept = (
        "select generation from lakebed.cold_file"
        " where removed_at is null and partition_key = '2024-01' order by 1"
    )
    assert ask(mixed, kept) == [(1,), (4,)], "the first one never held the row"


def test_a_hot_row_that_overrode_a_cold_one_takes_it_along(platform: Platform) -> None:
    fill(platform, "accounts")
    settle(platform, "accounts")
    do(
        platform,
        "insert into accounts values ('2024-01-01 00:07Z', 7, 'erase me', -1, '2024-06-01Z'),"
        " ('2024-01-01 00:08Z', 8, 'keep me', -1, '2024-06-01Z')",
    )
    assert seen(platform, "select count(*) from accounts") == [(3 * EACH,)]
    done = erased(platform, "owner = 'erase me'", "accounts")
    assert (done.hot_rows, done.cold_rows) == (1, 1)
    assert seen(platform, "select owner from accounts where id = 7") == []
    assert seen(platform, "select owner from accounts where id = 8") == [("keep me",)]
    assert seen(platform, "select count(*) from accounts") == [(3 * EACH - 1,)]
    # The old owner of what others overrode goes too, though nobody sees it any more.
    erased(platform, "id = 8 and owner = 'o3'", "accounts")
    assert seen(platform, "select owner from accounts where id = 8") == [("keep me",)]


def test_a_row_that_a_tombstone_hides_does_not_come_back(platform: Platform) -> None:
    fill(platform, "accounts")
    settle(platform, "accounts")
    do(
        platform,
        "select lakebed.delete_row('accounts', jsonb_build_object('opened', '2024-01-01T00:07Z',"
        " 'id', 7))",
    )
    assert seen(platform, "select count(*) from accounts where id = 7") == [(0,)]
    erased(platform, "id = 9", "accounts")
    assert ask(platform, "select count(*) from lakebed.cold_delete") == [(0,)]
    assert seen(platform, "select count(*) from accounts where id in (7, 9)") == [(0,)]
    assert seen(platform, "select count(*) from accounts") == [(3 * EACH - 2,)]


def test_what_a_backup_names_is_written_anew_and_the_backup_can_be_put_back(
    platform: Platform,
) -> None:
    fill(platform)
    settle(platform)
    table = platform.table("readings")
    backup = take_backup(platform.settings.home, platform.postgres, platform.lake, table)
    do(platform, "insert into readings values ('2024-01-09', 'late', 1, 1)")
    settle(platform, "readings", "2024-01")
    others = seen(platform, OTHERS)
    done = erased(platform)
    assert any(backup.backup_id in copy for copy in done.copies)
    restore(platform.settings.home, platform.postgres, platform.lake.files, table, backup.backup_id)
    assert seen(platform, OF_THEM) == [(0,)]
    assert seen(platform, OTHERS) == [(others[0][0] - 1, others[0][1] - 1)]


def test_what_loads_keep_and_the_quarantine_are_searched(of_modes: Platform) -> None:
    deliver(of_modes, "customers/1.csv", [customer(1, "Ulm", 1), customer(2, "Bonn", 1)])
    load(of_modes, "customers")
    deliver(of_modes, "customers/2.csv", [customer(1, "Kiel", 5)])
    load(of_modes, "customers")
    do(
        of_modes,
        "insert into lakebed.rejected_row (table_name, load_id, source_file, row_number, kind,"
        " rule, message, source_row) select 'customers', min(load_id), 'f', n, 'rule', 'r', 'bad',"
        " jsonb_build_object('id', ' ' || n)"
        " from lakebed.load, generate_series(1, 3) n group by n",
    )
    kept = [
        name
        for (name,) in ask(
            of_modes,
            "select relname::text from pg_class where relnamespace = 'lakebed_undo'::regnamespace",
        )
    ]
    assert len(kept) == 1
    done = erased(of_modes, "id = 1", "customers")
    assert (done.hot_rows, done.undo_rows, done.rejected_rows) == (2, 1, 1)
    assert ask(of_modes, f'select count(*) from lakebed_undo."{kept[0]}"') == [(0,)]  # noqa: S608
    assert ask(of_modes, "select source_row ->> 'id' from lakebed.rejected_row order by 1") == [
        (" 2",),
        (" 3",),
    ]
    assert seen(of_modes, "select distinct id from customers") == [(2,)]
    assert day(1) is not None


@pytest.mark.parametrize("way", [erase, would_erase])
def test_what_a_load_kept_may_go_while_an_erasure_looks(
    of_modes: Platform, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    """A load that ends drops it between the look at the names and the look at the rows."""
    for number in (1, 2):
        deliver(of_modes, f"customers/{number}.csv", [customer(1, "Ulm", number)])
        load(of_modes, "customers")
    kept = rests.kept_by_loads
    dropped: list[str] = []

    def drops(connection: Any, table: Any) -> Any:
        found = kept(connection, table)
        if not dropped:
            dropped.extend(load_id for load_id, _ in found)
            do(of_modes, *(f'drop table lakebed_undo."{load_id}"' for load_id in dropped))
        return found

    monkeypatch.setattr(rests, "kept_by_loads", drops)
    done = way(of_modes, of_modes.table("customers"), "id = 1")
    assert (len(dropped), done.failed, done.hot_rows, done.undo_rows) == (1, (), 2, 0)


def test_a_reader_that_has_begun_before_is_waited_for(mixed: Platform) -> None:
    mixed = with_patience(mixed, for_readers=60.0)
    truth = seen(mixed, "select count(*) from readings")
    (theirs,) = seen(mixed, OF_THEM)
    with processes.readers(
        mixed.settings, "select count(*) from readings", [(0.1, 0.1)]
    ) as answers:
        erased(mixed)
    # One partition after another; no reader met a file that was gone.
    counts = [count for found in answers for (count,) in found]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (truth[0][0], truth[0][0] - theirs[0])


def test_two_engines_that_do_not_agree_erase_nothing(
    mixed: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = erasing.predicate_of

    def careless(table: Any, text: str) -> Any:
        found = parse(table, text)
        return replace(found, duckdb=parse(table, "sensor = 's4'").duckdb)

    monkeypatch.setattr(erasing, "predicate_of", careless)
    cold = "select count(*) from readings where \"at\" < '2024-02-09' and sensor = 's3'"
    before = files(mixed)
    done = erase(mixed, mixed.table("readings"), WHO)
    assert [("match in PostgreSQL" in why) for why in done.failed] == [True, True]
    assert files(mixed) == before
    assert seen(mixed, cold)[0][0] > 0
    assert ask(mixed, "select finished_at from lakebed.erasure") == [(None,)]


def test_a_file_that_would_lose_rows_is_not_taken(
    mixed: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sabotage: what is kept is less than what does not match."""
    rows = partitions._rows

    def fewer(*arguments: Any, kept: bool, masked: bool) -> Any:
        query = rows(*arguments, kept=kept, masked=masked)
        return partitions.sql.SQL("({} limit 5)").format(query) if kept else query

    monkeypatch.setattr(partitions, "_rows", fewer)
    others = seen(mixed, OTHERS)
    done = erase(mixed, mixed.table("readings"), WHO)
    assert all("do not add up to the rows of the old file" in why for why in done.failed)
    assert len(done.failed) == 2
    assert issubclass(VerificationError, Exception)
    assert seen(mixed, OTHERS) == others


def test_a_condition_that_makes_no_sense_changes_nothing(mixed: Platform) -> None:
    with pytest.raises(PredicateError, match="not a column of readings"):
        erase(mixed, mixed.table("readings"), "user_id = 42")
    assert ask(mixed, "select count(*) from lakebed.erasure") == [(0,)]


def erase_and_die(settings: Any, step: str) -> None:
    """Erase, and die at the first visit of a step."""
    platform = open_platform(settings)
    erase(platform, platform.table("readings"), WHO, on_step=processes.kill_at(step))


STEPS = ("opened", "renamed", "deleted", "committed", "rest", "burnt", "removed", "closed")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.thorough_but("committed", "burnt")
def test_an_erasure_that_is_killed_at_a_step_ends_the_same_when_it_is_run_again(
    mixed: Platform, step: str
) -> None:
    settle(mixed, "readings", "2024-01")  # an older generation, too
    others = seen(mixed, OTHERS)
    ((theirs,),) = seen(mixed, OF_THEM)
    assert processes.run(erase_and_die, mixed.settings, step) == -9
    assert named(mixed) <= files(mixed), "the manifest names a file that is gone"
    assert seen(mixed, OTHERS) == others
    done = erased(mixed)
    assert seen(mixed, OF_THEM) == [(0,)]
    assert seen(mixed, OTHERS) == others
    assert len(named(mixed)) == 2
    total = (
        "select sum(hot_rows + cold_rows)::int, count(*), count(finished_at) from lakebed.erasure"
    )
    runs = 2 if step == "closed" else 1
    assert ask(mixed, total) == [(theirs, runs, runs)]
    assert done.dry_run is False
