"""Killed loads, two at once, in every way to write: each row is there once.

KILLS says how many; CI kills 200.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lakebed.ingest import transaction
from lakebed.resources.settings import Settings
from lakebed.store.platform import Platform
from tests.conftest import settings_for
from tests.reliability import killed_loads
from tests.reliability.killed_loads import DELIVERIES, Case, play, state_in
from tests.support import processes

ALL_KINDS = 100
"""So many kills surely hit every table and every step."""
KILLS = int(os.environ.get("KILLS", "25"))


@pytest.fixture
def settings(tmp_path: Path, database: str) -> Settings:
    """The tables are those that are tortured."""
    tables = Path(__file__).parent / "tables"
    settings = settings_for(tmp_path, database, LAKEBED_TABLES=str(tables))
    settings.data.mkdir()
    return settings


@pytest.mark.slow
@pytest.mark.thorough
def test_what_was_delivered_is_there_once_however_its_loads_died(platform: Platform) -> None:
    game = play(platform, seed=1, kills=KILLS)
    assert game.violations == [], killed_loads.describe(game)
    assert game.kills >= KILLS
    if game.kills >= ALL_KINDS:
        kinds = {tuple(name.split(" at ")) for name in game.kills_at}
        assert {name for name, _ in kinds} == set(DELIVERIES)
        assert {step for _, step in kinds} >= {*killed_loads.STEPS, "random"}


def test_the_game_is_lost_without_the_fence(platform: Platform) -> None:
    """Sabotage: loads forget which files they loaded."""
    data = platform.settings.data
    case = Case("appended", data / "appended", DELIVERIES["appended"])
    case.next()
    for _ in range(2):
        assert processes.run(load_forgetfully, platform.settings, case.name) == 0
    assert state_in(platform, case.name) not in case.states


def load_forgetfully(settings: object, name: str) -> None:
    transaction._enter_files = lambda connection, package: None
    killed_loads.load(settings, name, None, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("appended", "merged") else pytest.mark.thorough)
        for name in DELIVERIES
    ],
)
def test_the_same_load_twice_at_once_loads_once(platform: Platform, name: str) -> None:
    case = Case(name, platform.settings.data / name, DELIVERIES[name])
    load: Callable[..., None] = killed_loads.load
    for _ in range(2):
        case.next()
        started = [
            processes.CONTEXT.Process(target=load, args=(platform.settings, name, None, 1))
            for _ in range(3)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(processes.PATIENCE)
        assert [process.exitcode for process in started] == [0, 0, 0]
        assert state_in(platform, name) == case.states[-1]
