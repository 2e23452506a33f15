"""Each safeguard is needed: without it a reader is wrong, and the oracle says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakebed.store.platform import Platform, open_platform
from tests.conftest import settings_for
from tests.reliability import gauntlet
from tests.reliability.gauntlet import SABOTAGES, Gauntlet, Sabotage
from tests.reliability.torture import TIERED


@pytest.fixture
def platform(tmp_path: Path, database: str) -> Platform:
    return open_platform(
        settings_for(tmp_path, database, LAKEBED_TABLES=str(TIERED), LAKEBED_FILE_GRACE="0s")
    )


def test_nobody_is_wrong_where_nothing_is_sabotaged(platform: Platform) -> None:
    run = Gauntlet(platform)
    run.run()
    assert (run.violations, run.refused) == ([], [])


@pytest.mark.parametrize("name", SABOTAGES)
@pytest.mark.thorough_but("no snapshot", "a horizon off by one")
def test_somebody_is_wrong_where_a_safeguard_is_taken_away(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sabotage, seen = SABOTAGES[name]
    sabotage(monkeypatch, platform)
    run = Gauntlet(platform)
    run.run()
    assert any(seen in violation for violation in run.violations), (run.violations, run.refused)


@pytest.mark.parametrize(
    ("sabotage", "why"),
    [
        (gauntlet.lossy_copy, "the file differs from the rows in PostgreSQL"),
        (gauntlet.no_lock, "were changed or locked during"),
    ],
)
@pytest.mark.thorough_but("lossy_copy")
def test_nobody_is_wrong_where_the_next_safeguard_holds(
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Sabotage,
    why: str,
) -> None:
    sabotage(monkeypatch, platform)
    run = Gauntlet(platform)
    run.run()
    assert run.violations == []
    assert any(why in text for text in run.refused), run.refused
