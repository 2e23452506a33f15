"""The doctor finds on a real server what is wrong with the tiers, and names it."""

from __future__ import annotations

from platform_assets.platform import Platform
from platform_assets.tiering import diagnosis
from platform_assets.tiering.doctor import examine
from tests.integration.tiers import do, fill, settle


def told(platform: Platform) -> set[str]:
    """Return what is wrong with tables and lake; the tests' server itself runs without fsync."""
    return {f"{f.where}: {f.what}" for f in examine(platform).findings if f.where != "server"}


def test_what_is_wrong_is_found_on_a_real_server(platform: Platform) -> None:
    fill(platform)
    paths = settle(platform, "readings", "2024-01", "2024-02")
    assert told(platform) == {
        "readings: due and not moved: 2024-03",
    }
    settle(platform, "readings", "2024-03")
    assert told(platform) == set()
    do(
        platform,
        "alter table readings detach partition readings_2024_03",
        "create table readings_rest partition of readings default",
    )
    (platform.lake.files.root / paths[0]).unlink()  # type: ignore[attr-defined]
    found = "\n".join(sorted(told(platform)))
    assert "readings_2024_03 has the name of a leaf and is none" in found
    assert "readings_rest is a DEFAULT partition" in found
    assert f"1 files of the lake are not what the manifest says: {paths[0]}" in found


def test_an_old_transaction_is_named_without_its_query(platform: Platform, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(diagnosis, "HOLDS_TOO_LONG", diagnosis.timedelta(0))
    with platform.postgres.connect() as old:
        old.execute("set transaction isolation level repeatable read")
        old.execute("select 'a secret'")
        pid = old.info.backend_pid
        found = [f for f in examine(platform).findings if f"session {pid} (lakebed" in f.what]
        assert len(found) == 1
        assert "secret" not in found[0].what
