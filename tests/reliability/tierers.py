"""Those who carry rows between the tiers in the torture, each in a process that a plan befalls."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from lakebed.errors import TieringError, VerificationError
from lakebed.resources.lake_files import LakeFileError
from lakebed.resources.postgres import LockWaitError, PostgresUnavailableError
from lakebed.resources.session import LakeReadError
from lakebed.resources.settings import Settings
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.housekeep import housekeep
from lakebed.tiering.move import move
from lakebed.tiering.partition import PartitionBusyError
from lakebed.tiering.restore import restore
from tests.reliability.eraser import Eraser
from tests.reliability.faults import Doom, Plan
from tests.reliability.journal import Journal
from tests.reliability.writers import TABLES

_KEPT_CHANGING = "during each of"
"""Whatever gives up because others always were faster says so."""

_ERRORS = (
    TieringError,
    LakeFileError,
    LakeReadError,
    LockWaitError,
    PostgresUnavailableError,
    psycopg.Error,
    duckdb.Error,
    OSError,
)


def a_window(platform: Platform, chance: random.Random) -> tuple[SourceTable, Window]:
    """Choose a partition of a table."""
    table = platform.table(chance.choice(TABLES))
    return table, chance.choice(list(table.windows(platform.clock.now())))


def move_one(platform: Platform, chance: random.Random, doom: Doom) -> str:
    """Move a partition, or fold into it."""
    table, window = a_window(platform, chance)
    done = move(platform.lake, table, window, on_step=doom.on_step)
    if not done.rows and not done.moved:
        return "nothing to move"
    return "fold" if done.generation > 1 or done.deletes else "move"


def restore_one(platform: Platform, chance: random.Random, doom: Doom) -> str:
    """Bring a partition back to hot that is cold."""
    with platform.postgres.connect() as connection:
        cold = connection.execute(
            "select table_name, lower_bound from lakebed.cold_file where superseded_at is null"
        ).fetchall()
    if not cold:
        time.sleep(0.2)
        return "nothing to restore"
    name, lower = chance.choice(cold)
    table = platform.table(name)
    window, now = table.window(lower), platform.clock.now()
    done = restore(platform.postgres, platform.lake, table, window, now, on_step=doom.on_step)
    time.sleep(chance.uniform(0, 0.5))
    return "restore" if done.generation else "nothing to restore"


def keep_house(platform: Platform, chance: random.Random, doom: Doom) -> str:
    """Keep house, with no grace for any file."""
    done = housekeep(platform, on_step=doom.on_step)
    wrong = [text for text in done.failed if "pg_locks" not in text]
    if wrong:
        raise TieringError("; ".join(wrong))
    time.sleep(chance.uniform(0, 0.3))
    dropped = any(note.what == "dropped" for note in done.partition_tables)
    return "housekeeping that dropped leaves" if dropped else "housekeeping"


ROLES: dict[str, Callable[[Platform, random.Random, Doom], str]] = {
    "mover": move_one,
    "restorer": restore_one,
    "housekeeper": keep_house,
}


def work_on(
    settings: Settings, role: str, number: int, seed: int, plan: Plan, journal: Path, stop: Path
) -> None:
    """Do what a role does again and again, until told to stop or the plan is fulfilled."""
    platform, told, chance = open_platform(settings), Journal(journal), random.Random(seed)
    doom = Doom(plan)
    eraser = Eraser(platform, told, number)
    tasks = ROLES | {"eraser": eraser.erase_one}
    told.write("ready")
    while not stop.exists():
        began = time.monotonic()
        full = False
        try:
            with doom.disk() as full:
                outcome = tasks[role](platform, chance, doom)
            told.write("done", what=outcome)
        except PartitionBusyError:
            told.write("done", what="busy")
        except VerificationError as error:
            told.write("violation", text=f"{role}: {error}")
        except _ERRORS as error:
            told.write(**_told(role, began, error, full))
        time.sleep(chance.uniform(0, 0.05))


def _told(role: str, began: float, error: Exception, full: bool) -> dict[str, Any]:
    text = f"{role}: {type(error).__name__}: {error}".strip()
    if isinstance(error, LockWaitError) or _KEPT_CHANGING in text:
        return {"kind": "done", "what": "gave up"}
    if full:
        return {"kind": "done", "what": "disk full"}
    return {"kind": "error", "began": began, "ended": time.monotonic(), "text": text}
