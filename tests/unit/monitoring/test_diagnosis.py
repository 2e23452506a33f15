"""What the doctor finds is judged from facts alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakebed.monitoring.diagnosis import (
    LockWait,
    OpenErasure,
    ServerFacts,
    TableFacts,
    of_erasures,
    of_lake,
    of_server,
    of_table,
    of_undeclared,
)
from lakebed.monitoring.findings import Code, Finding
from lakebed.spec.partitions import Grain, window_for_key
from lakebed.store.grain_mismatch import Bounds
from lakebed.tiering.horizon import Holder, Horizon, StayReason
from lakebed.tiering.superseded import KeptFile
from lakebed.tiering.sweep import Swept
from lakebed.tiering.verify import CheckedFile

NOW = datetime(2024, 7, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GOOD = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
WELL = ServerFacts(NOW, Horizon(()), (), GOOD | {"client_connection_check_interval": "500"})
TABLE = TableFacts("events", NOW, hot_for=30 * DAY)
JANUARY, MAY = (window_for_key(Grain.MONTH, key) for key in ("2024-01", "2024-05"))


def held(kind: Any, since: datetime | None, pid: int | None = 7) -> ServerFacts:
    return replace(WELL, horizon=Horizon((Holder(kind, pid, "psql", 1, since),)))


def one(findings: Any) -> Finding:
    (finding,) = findings
    assert isinstance(finding, Finding)
    return finding


def test_nothing_is_wrong_where_nothing_is() -> None:
    assert list(of_server(WELL)) == list(of_table(TABLE)) == list(of_lake((), ())) == []


def test_a_transaction_that_holds_the_horizon_for_long_is_named() -> None:
    assert list(of_server(held("session", NOW - HOUR))) == []
    found = one(of_server(held("session", NOW - HOUR - timedelta(seconds=1))))
    assert "session 7 (psql, since 2024-06-30 22:59:59 UTC)" in found.what
    assert "pg_terminate_backend" in found.todo
    assert "ROLLBACK PREPARED" in one(of_server(held("prepared", NOW - DAY, None))).todo
    assert "pg_drop_replication_slot" in one(of_server(held("slot", None, None))).todo
    assert list(of_server(held("slot", None))) == []


def test_what_may_not_be_seen_is_wrong() -> None:
    found = one(of_server(replace(WELL, horizon=Horizon((), hidden=2))))
    assert (found.level, "pg_read_all_stats" in found.todo) == ("wrong", True)


def test_a_long_wait_for_a_lock_is_found() -> None:
    wait = LockWait(7, "app", NOW - timedelta(seconds=11), (8, 9))
    found = one(of_server(replace(WELL, waits=[wait])))
    assert (found.code, "Sessions 8, 9" in found.what) == (Code.LOCK_WAIT, True)
    assert list(of_server(replace(WELL, waits=[replace(wait, since=NOW)]))) == []


@pytest.mark.parametrize("name", GOOD)
def test_a_setting_that_hurts_is_wrong(name: str) -> None:
    found = one(of_server(replace(WELL, settings=WELL.settings | {name: "off"})))
    assert (found.level, found.todo) == ("wrong", f"ALTER SYSTEM SET {name} = on")


def test_a_move_is_overdue_a_day_after_it_was_due() -> None:
    just = replace(TABLE, waiting=[MAY], now=MAY.upper + 31 * DAY)
    assert list(of_table(just)) == []
    found = one(of_table(replace(just, now=just.now + timedelta(seconds=1))))
    assert (found.code, found.what.endswith(": 2024-05")) == (Code.MOVE_OVERDUE, True)
    assert "lakebed move events --due" in found.todo
    late = replace(just, now=just.now + DAY, late=[MAY])
    assert [found.level for found in of_table(late)] == ["note"], "it may have come just now"


def test_late_rows_are_wrong_where_they_come_later_than_the_policy_has_it() -> None:
    late = replace(TABLE, late=[JANUARY, MAY])
    assert one(of_table(late)).level == "note"
    (_, wrong) = of_table(replace(late, late_for=60 * DAY))
    assert (wrong.level, "2024-01" in wrong.what) == ("wrong", True)


def test_a_drop_that_waits_for_days_is_wrong() -> None:
    stuck = replace(TABLE, emptied=[JANUARY], drop_after=149 * DAY)
    assert list(of_table(stuck)) == [], "151 days old, and housekeeping may take two"
    assert "2024-01" in one(of_table(replace(stuck, drop_after=148 * DAY))).what


@pytest.mark.parametrize(
    ("facts", "code", "what"),
    [
        ({"default": ["events_default"]}, Code.DEFAULT_PARTITION, "events_default"),
        ({"detaching": ["events_2024_01"]}, Code.PARTITION_HALF_DETACHED, "events_2024_01"),
        ({"detached": ["events_2024_01"]}, Code.PARTITION_DETACHED, "events_2024_01"),
        (
            {"files": [CheckedFile("events", "k", 1, "p", 1, 1, "gone")]},
            Code.LAKE_FILE_WRONG,
            "p: gone",
        ),
    ],
)
def test_partition_tables_and_files_that_are_wrong_are_named(
    facts: dict[str, Any], code: Code, what: str
) -> None:
    found = one(of_table(replace(TABLE, **facts)))
    assert (found.code, found.level, found.where) == (code, "wrong", "events")
    assert what in found.what
    assert found.todo


def test_cold_partitions_of_another_grain_are_wrong_and_the_fix_is_named() -> None:
    months = [Bounds(w.key, w.lower, w.upper) for w in (JANUARY, MAY)]
    odd = Bounds("2024-01-09", NOW - 3 * HOUR, NOW + DAY)
    found = one(of_table(replace(TABLE, grain=Grain.DAY, other_grain=[*months, odd, odd])))
    assert (found.level, found.where) == ("wrong", "events")
    assert "2024-01 (month), 2024-05 (month), 2024-01-09 (2024-06-30 21:00" in found.what
    assert "and 1 more, and the table file says day now" in found.what
    assert found.todo.startswith("Put grain=Grain.MONTH back into the table file; or, with")
    assert "lakebed restore events --partition 2024-01 --partition 2024-05" in found.todo


def test_partitions_of_a_table_without_tiering_are_wrong() -> None:
    assert list(of_undeclared("events", [])) == []
    found = one(of_undeclared("events", ["2024-01", "2024-02", "2024-03", "2024-04"]))
    assert (found.level, found.where) == ("wrong", "events")
    assert "partitions are cold (2024-01, 2024-02, 2024-03 and 1 more)" in found.what
    assert "lakebed restore" in found.todo


def test_an_erasure_that_has_not_ended_is_wrong() -> None:
    assert list(of_erasures([])) == []
    found = one(of_erasures([OpenErasure("events", NOW, 1234)]))
    assert (found.code, found.level) == (Code.ERASURE_OPEN, "wrong")
    assert found.where == "events"
    assert "began at 2024-07-01 00:00:00 UTC" in found.what
    assert "1,234 rows" in found.what
    assert "lakebed erase events --where ..." in found.todo


def test_a_gap_between_partition_tables_is_noted() -> None:
    found = one(of_table(replace(TABLE, gaps=[JANUARY])))
    assert (found.level, found.code) == ("note", Code.PARTITION_MISSING)


def test_files_that_can_be_deleted_are_noted() -> None:
    found = one(of_lake([Swept("events", "p", 1234, "orphan")], ()))
    assert (found.level, "1 files, 1,234 bytes" in found.what) == ("note", True)
    waits = KeptFile("events", "p", 1, StayReason.SNAPSHOT, "session 7 (psql) may still need it")
    assert "session 7" in one(of_lake((), [waits])).what
