"""A backup is put back exactly, over hot and cold, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from lakebed.recovery.backup import Backup, BackupError, backups_of, take_backup
from lakebed.recovery.restore_backup import Restored, restore
from lakebed.recovery.rollback_candidates import RollbackError, loads_of
from lakebed.store.platform import Platform, open_platform
from tests.integration.recovery.test_rollback import DELIVERIES, readings, rows, undo
from tests.support import processes
from tests.support.modes import ask, deliver, do, load


def back_up(platform: Platform, name: str, **more: Any) -> Backup:
    table = platform.table(name)
    return take_backup(platform.settings.home, platform.postgres, platform.lake, table, **more)


def put_back(platform: Platform, name: str, backup_id: str, **more: Any) -> Restored:
    table = platform.table(name)
    home = platform.settings.home
    return restore(home, platform.postgres, platform.lake.files, table, backup_id, **more)


@pytest.mark.parametrize("name", DELIVERIES)
def test_a_table_is_put_back_as_it_was(platform: Platform, of_modes: Platform, name: str) -> None:
    if name not in ("readings", "accounts"):
        platform = of_modes
    states, loads, backups = [], [], []
    for file, frame in DELIVERIES[name]:
        deliver(platform, f"{name}/{file}", frame)
        loads.append(load(platform, name).load_id)
        states.append(rows(platform, name))
        backups.append(back_up(platform, name).backup_id)
    assert put_back(platform, name, backups[1]).loads == (loads[3], loads[2])
    assert rows(platform, name) == states[1]
    assert load(platform, name).load_id is None
    with pytest.raises(RollbackError, match="a backup was put back"):
        undo(platform, name)
    put_back(platform, name, backups[3])
    assert rows(platform, name) == states[3]
    put_back(platform, name, backups[0], reload=True)
    assert rows(platform, name) == states[0]


@pytest.mark.parametrize("again", ["kept", "forgotten", "forgotten and read again"])
def test_a_load_that_was_rolled_back_stands_again_with_the_backup_that_holds_it(
    platform: Platform, again: str
) -> None:
    deliver(platform, "readings/1.parquet", readings(*range(10)))
    load(platform, "readings")
    deliver(platform, "readings/2.parquet", readings(*range(10, 20)))
    load(platform, "readings")
    backup = back_up(platform, "readings")
    undo(platform, "readings", reload=again != "kept")
    assert len(rows(platform, "readings")) == 10
    if again == "forgotten and read again":
        assert load(platform, "readings").inserted == 10
    put_back(platform, "readings", backup.backup_id)
    assert load(platform, "readings").load_id is None
    deliver(platform, "readings/2.parquet", readings(*range(10, 25)))
    load(platform, "readings")
    found = ask(platform, "select count(*)::int, count(distinct at)::int from readings")
    assert found == [(25, 25)]


def test_hot_and_cold_come_back_together(platform: Platform) -> None:
    hours = range(0, 2000, 7)
    deliver(platform, "readings/1.parquet", readings(*hours))
    load(platform, "readings")
    processes.move_key(platform, "readings", "2024-02")
    do(platform, "insert into readings values ('2024-02-03', 'late', 7, 7)")
    before = processes.all_rows(platform, "readings")
    hot = rows(platform, "readings")
    backup = back_up(platform, "readings")
    assert backup.generations == {"2024-02": 1}
    assert backup.rows == len(hot)
    processes.move_key(platform, "readings", "2024-02")
    processes.move_key(platform, "readings", "2024-03")
    deliver(platform, "readings/2.parquet", readings(1, 2, 3))
    load(platform, "readings")
    do(platform, "delete from readings where number = 1")
    put_back(platform, "readings", backup.backup_id)
    assert rows(platform, "readings") == hot
    assert processes.all_rows(platform, "readings") == before
    assert ask(
        platform,
        "select partition_key, generation from lakebed.cold_file where superseded_at is null",
    ) == [("2024-02", 1)]
    moved = processes.move_key(platform, "readings", "2024-02")
    assert moved.generation == 3, "the number of a generation is used once"
    assert processes.all_rows(platform, "readings") == before


def test_values_of_every_kind_and_columns_of_nobody_come_back(platform: Platform) -> None:
    deliver(platform, "accounts/1.csv", DELIVERIES["accounts"][0][1])
    load(platform, "accounts")
    do(
        platform,
        "alter table accounts add n numeric, add f float8, add i interval, add b bytea, add j json",
        "alter table accounts add a text[], add z timetz, add t timestamp,"
        " add g bigint generated always as (id) stored",
        "update accounts set n = '1e-400', f = '-0', i = '-1 mon +3 days -04:05:06.000007',"
        """ b = '\\x00ff', j = '{"a":  1}', a = array[['a', null], ['', '"']],"""
        " z = '23:59:59.999999+15', t = '4713-01-01 BC' where id = 1",
        "update accounts set n = 'NaN', f = 'NaN', t = 'infinity', owner = E'\\t\\n' where id = 2",
    )
    before = rows(platform, "accounts")
    backup = back_up(platform, "accounts")
    do(platform, "update accounts set n = 0, j = '{}'", "delete from accounts where id = 2")
    do(platform, "alter role current_user set datestyle = 'German'")
    done = put_back(platform, "accounts", backup.backup_id)
    assert (done.updated, done.inserted) == (2, 1)
    do(platform, "alter role current_user reset datestyle")
    assert rows(platform, "accounts") == before


def test_what_is_not_there_or_was_changed_is_not_put_back(platform: Platform) -> None:
    with pytest.raises(BackupError, match="not there yet"):
        back_up(platform, "readings")
    deliver(platform, "readings/1.parquet", readings(1, 2))
    load(platform, "readings")
    backup = back_up(platform, "readings")
    with pytest.raises(BackupError, match="`lakebed backup list readings`"):
        put_back(platform, "readings", "other")
    do(
        platform,
        "alter table readings add column more int not null default 1",
        "alter table readings alter column more drop default",
        "alter table readings alter column number type int, drop column sensor",
    )
    with pytest.raises(BackupError, match="other columns than when") as told:
        put_back(platform, "readings", backup.backup_id)
    assert str(told.value) == (
        "readings: the table has other columns than when the backup was taken; nothing was "
        'changed. number was bigint and is integer: ALTER TABLE "public"."readings" ALTER COLUMN '
        '"number" TYPE bigint; more integer is new, NOT NULL and without a default: ALTER TABLE '
        '"public"."readings" ALTER COLUMN "more" SET DEFAULT ..., or DROP NOT NULL; sensor text is '
        'gone: ALTER TABLE "public"."readings" ADD COLUMN "sensor" text. Then put the backup back'
    )
    do(
        platform,
        "alter table readings drop column more, alter column number type bigint",
        "alter table readings add column sensor text",
    )
    file = platform.settings.home / backup.path
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BackupError, match="gone or changed"):
        put_back(platform, "readings", backup.backup_id)


def test_rows_that_others_refer_to_stay(of_modes: Platform) -> None:
    deliver(of_modes, "airports/1.csv", [{"order": "a", "name": "1"}])
    load(of_modes, "airports")
    backup = back_up(of_modes, "airports")
    do(
        of_modes,
        'create table lands (o text references airports ("order") on delete cascade)',
        "insert into lands values ('a')",
        "update airports set name = 'other'",
    )
    put_back(of_modes, "airports", backup.backup_id)
    assert ask(of_modes, 'select name, o from airports join lands on o = "order"') == [("1", "a")]


@pytest.mark.parametrize("step", ["counted", "copied", "verified", "recorded", "committed"])
@pytest.mark.thorough_but("recorded", "committed")
def test_a_backup_that_is_killed_is_whole_or_not_there(platform: Platform, step: str) -> None:
    deliver(platform, "readings/1.parquet", readings(1, 2, 3))
    load(platform, "readings")
    assert processes.run(keep, platform.settings, step) == -9
    with platform.postgres.connect() as connection:
        found = backups_of(connection, platform.table("readings"))
    assert len(found) == (step == "committed")
    kept = back_up(platform, "readings")
    do(platform, "delete from readings")
    put_back(platform, "readings", kept.backup_id)
    assert len(rows(platform, "readings")) == 3


def keep(settings: Any, kill: str) -> None:
    back_up(open_platform(settings), "readings", on_step=processes.kill_at(kill))


@pytest.mark.parametrize("step", ["staged", "written", "verified", "recorded", "committed"])
@pytest.mark.thorough_but("recorded", "committed")
def test_a_restore_that_is_killed_happened_or_did_not(platform: Platform, step: str) -> None:
    deliver(platform, "readings/1.parquet", readings(1, 2, 3))
    load(platform, "readings")
    backup = back_up(platform, "readings")
    deliver(platform, "readings/2.parquet", readings(4))
    load(platform, "readings")
    assert processes.run(bring_back, platform.settings, backup.backup_id, step) == -9
    happened = step == "committed"
    assert len(rows(platform, "readings")) == (3 if happened else 4)
    with platform.postgres.connect() as connection:
        assert len(loads_of(connection, platform.table("readings"))) == (1 if happened else 2)


def bring_back(settings: Any, backup_id: str, kill: str) -> None:
    put_back(open_platform(settings), "readings", backup_id, on_step=processes.kill_at(kill))


def test_what_a_trigger_changes_on_the_way_back_is_seen(platform: Platform) -> None:
    deliver(platform, "readings/1.parquet", readings(1, 2))
    load(platform, "readings")
    backup = back_up(platform, "readings")
    do(
        platform,
        "create function spoil() returns trigger language plpgsql as"
        " $$ begin new.value := 0; return new; end $$",
        "create trigger spoil before insert on readings for each row execute function spoil()",
        "delete from readings where number = 1",
    )
    with pytest.raises(BackupError, match="would not hold what the backup holds"):
        put_back(platform, "readings", backup.backup_id)
    assert len(rows(platform, "readings")) == 1


@pytest.mark.parametrize("name", ["readings", "accounts"])
def test_a_backup_is_put_back_into_a_table_that_got_columns_and_wider_types(
    platform: Platform, name: str
) -> None:
    deliver(platform, f"{name}/{DELIVERIES[name][0][0]}", DELIVERIES[name][0][1])
    load(platform, name)
    do(
        platform,
        f"alter table {name} add column i int, add column r real, add column d date,"
        " add column n numeric(6,2), add column v varchar(9)",
        f"update {name} set i = 7, r = 0.1, d = '2024-02-29', n = 1.5, v = 'x'",  # noqa: S608
    )
    backup = back_up(platform, name)
    before = rows(platform, name)
    do(
        platform,
        f"alter table {name} alter i type bigint, alter r type float8, alter d type timestamp,"
        " alter n type numeric(12,4), alter v type text",
        f"alter table {name} add column later text default 'd', add column must int not null"
        " default 3",
    )
    wider = rows(platform, name)
    assert wider != before
    do(platform, f"update {name} set i = 2 ^ 40, later = null, must = 9")  # noqa: S608
    do(platform, f"delete from {name} where ctid = (select min(ctid) from {name})")  # noqa: S608
    put_back(platform, name, backup.backup_id)
    assert rows(platform, name) == [row.replace(",d,3)", ",,3)") for row in wider]
    again = put_back(platform, name, backup.backup_id)
    assert (again.updated, again.inserted) in ((0, 0), (0, backup.rows))
