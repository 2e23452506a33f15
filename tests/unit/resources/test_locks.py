"""Advisory locks: both sides of a fence take the same one, and only one module names them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lakebed.resources import locks
from lakebed.resources.locks import AdvisoryLock
from lakebed.spec.partitions import Grain, window_for_key

ROOT = Path(__file__).parents[3]
MONTHS = [window_for_key(Grain.MONTH, key) for key in ("2024-01", "2024-02")]


def test_nobody_else_makes_a_lock() -> None:
    with pytest.raises(TypeError, match="makes an AdvisoryLock"):
        AdvisoryLock("lakebed.load:readings", object())


def test_each_lock_has_a_name_of_its_own() -> None:
    named = (
        locks.load_lock,
        locks.evolve_lock,
        locks.cursor_lock,
        locks.lake_copy_lock,
        locks.build_lock,
    )
    windowed = (locks.move_lock, locks.window_lock)
    made = [lock(name) for lock in named for name in ("readings", "members")]
    made += [lock("readings", window) for lock in windowed for window in MONTHS]
    made += [locks.catalog_lock(), locks.lake_lock(), locks.migration_lock()]
    assert len(set(made)) == len(made) == 17
    assert locks.move_lock("readings", MONTHS[0]) == locks.move_lock("readings", MONTHS[0])


def test_only_the_module_of_locks_calls_postgresql_s_functions() -> None:
    called = re.compile(r"pg_(?:try_)?advisory|hashtextextended")
    files = [*(ROOT / "platform_assets").rglob("*.py"), *(ROOT / "resources").rglob("*.py")]
    found = {
        file.relative_to(ROOT).as_posix()
        for file in files
        if "platform_assets/resources" not in file.as_posix() and called.search(file.read_text())
    }
    assert found == {"resources/locks.py"}
