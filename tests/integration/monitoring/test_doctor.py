"""The doctor finds on a real server what is wrong with the tiers, and names it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lakebed.monitoring import diagnosis
from lakebed.monitoring.doctor import examine
from lakebed.monitoring.findings import Code, of_codes
from lakebed.monitoring.status import read_status
from lakebed.schema.apply import read_plan
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.erase import erase
from tests.support.tiers import do, fill, settle


def found_in(platform: Platform) -> dict[Code, str]:
    """Return the findings about the tiers and the lake, by code.

    The tests' server runs without fsync, and their tables have no source.
    """
    return {
        f.code: f"{f.where}: {f.what}"
        for f in examine(platform).findings
        if f.where != "server" and f.code != Code.SOURCE_MISSING
    }


def test_what_is_wrong_is_found_on_a_real_server(platform: Platform) -> None:
    fill(platform)
    paths = settle(platform, "readings", "2024-01", "2024-02")
    assert found_in(platform) == {
        Code.MOVE_OVERDUE: "readings: partitions are due and not moved: 2024-03",
    }
    settle(platform, "readings", "2024-03")
    assert found_in(platform) == {}
    do(
        platform,
        "alter table readings detach partition readings_2024_03",
        "create table readings_rest partition of readings default",
    )
    (platform.lake.files.root / paths[0]).unlink()  # type: ignore[attr-defined]
    found = found_in(platform)
    assert "readings_2024_03" in found[Code.PARTITION_DETACHED]
    assert "readings_rest" in found[Code.DEFAULT_PARTITION]
    assert paths[0] in found[Code.LAKE_FILE_WRONG]


def test_an_old_transaction_is_named_without_its_query(platform: Platform, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(diagnosis, "HOLDS_TOO_LONG", diagnosis.timedelta(0))
    with platform.postgres.connect() as old:
        old.execute("set transaction isolation level repeatable read")
        old.execute("select 'a secret'")
        pid = old.info.backend_pid
        found = [f for f in examine(platform).findings if f"session {pid} (lakebed" in f.what]
        assert len(found) == 1
        assert "secret" not in found[0].what


def test_an_erasure_that_was_cut_off_is_told_without_its_condition(platform: Platform) -> None:
    fill(platform)
    settle(platform)
    table, where = platform.table("readings"), "sensor = 's3'"

    def stop(step: str) -> None:
        if step == "rest":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erase(platform, table, where, keep_text=True, on_step=stop)
    (found,) = of_codes(examine(platform).findings, {Code.ERASURE_OPEN})
    assert (found.level, found.where) == ("wrong", "readings")
    assert "has not ended, after 129 rows" in found.what
    assert "s3" not in f"{found.what} {found.todo}"
    assert [s.open_erasures for s in read_status(platform).tables if s.name == "readings"] == [1]
    erase(platform, table, where)
    assert not of_codes(examine(platform).findings, {Code.ERASURE_OPEN})


@pytest.mark.parametrize("without", [{"tiering": None}, {"tiering": None, "partitioning": None}])
def test_cold_partitions_of_a_table_without_tiering_are_found(
    platform: Platform, without: dict[str, None]
) -> None:
    fill(platform)
    settle(platform)
    table = replace(platform.table("readings"), **without)  # type: ignore[arg-type]
    changed = open_platform(platform.settings, (table,))
    (found,) = of_codes(examine(changed).findings, {Code.COLD_BUT_UNDECLARED})
    assert found.level == "wrong"
    assert "2024-01, 2024-02, 2024-03" in found.what
    with platform.postgres.connect(autocommit=True) as connection:
        plan = read_plan(connection, table, platform.clock.now())
    assert [c.why for c in plan.changes if c.safety == "refused"] == [f"{found.what}. {found.todo}"]
