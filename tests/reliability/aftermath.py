"""What must be true when the torture is over: nothing lost, nothing double, nothing left lying."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

from lakebed.store.platform import Platform
from lakebed.tiering.housekeep import housekeep
from lakebed.tiering.move import move
from lakebed.tiering.verify import verify
from tests.reliability.oracle import Oracle
from tests.reliability.readers import as_read, read
from tests.reliability.writers import TABLES
from tests.support.processes import all_rows

PATIENCE = 20.0


def aftermath(platform: Platform, oracles: dict[str, Oracle], counts: Counter[str]) -> list[str]:
    """Return what is wrong when everybody has stopped; leave everything settled and swept."""
    wait_for_silence(platform)
    wrong = _hold_against(platform, oracles, "at the end")
    before = {name: all_rows(platform, name) for name in TABLES}
    for name in TABLES:
        table = platform.table(name)
        for window in table.windows(platform.clock.now()):
            move(platform.lake, table, window)
    after = {name: all_rows(platform, name) for name in TABLES}
    wrong += [
        f"{name}: settling changed its rows" for name in TABLES if before[name] != after[name]
    ]
    wrong += _hold_against(platform, oracles, "when all has settled")
    wrong += _hot_rows(platform) + _damage(platform)
    wrong += _left_lying(platform)
    if not wrong:
        wrong += damages(platform, counts)
    return wrong


def wait_for_silence(platform: Platform) -> None:
    """Wait until the server has ended the sessions of the killed."""
    deadline = time.monotonic() + PATIENCE
    with platform.postgres.connect(autocommit=True) as connection:
        while time.monotonic() < deadline:
            ((others,),) = connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and backend_type = 'client backend'"
            ).fetchall()
            if not others:
                return
            time.sleep(0.05)
    raise TimeoutError(f"{others} sessions do not end")


def _hold_against(platform: Platform, oracles: dict[str, Oracle], when: str) -> list[str]:
    began = time.monotonic()
    wrong = []
    for name, rows in read(platform).items():
        answer = as_read(began, time.monotonic(), rows)
        wrong += [f"{when}: {name}: {text}" for text in oracles[name].check(answer)[:3]]
    return wrong


def _hot_rows(platform: Platform) -> list[str]:
    with platform.postgres.connect() as connection:
        counts = {
            name: connection.execute(f"select count(*) from {name}".encode()).fetchall()[0][0]  # noqa: S608
            for name in TABLES
        }
    return [f"{name}: {rows} rows did not settle" for name, rows in counts.items() if rows]


def _damage(platform: Platform) -> list[str]:
    """Return what is wrong with the cold files, by a deep verification."""
    return [
        f"{file.path}: {file.problem}"
        for name in TABLES
        for file in verify(platform, platform.table(name), deep=True)
        if file.problem
    ]


def _left_lying(platform: Platform) -> list[str]:
    """Keep house; return the files that lie in the lake and are not live."""
    housekeep(platform)
    with platform.postgres.connect() as connection:
        live = {
            path
            for (path,) in connection.execute(
                "select path from lakebed.cold_file where superseded_at is null"
            )
        }
    lying = {
        str(file.path) for file in platform.lake.files.listing() if file.path.parts[0] in TABLES
    }
    return [f"{path} lies in the lake and nobody names it" for path in sorted(lying - live)] + [
        f"{path} is named and not there" for path in sorted(live - lying)
    ]


def damages(platform: Platform, counts: Counter[str]) -> list[str]:
    """Flip a bit of a cold file, cut it, take it away: verify must find each, and nothing else."""
    live = [f for name in TABLES for f in verify(platform, platform.table(name))]
    if not live:
        return []
    chosen = random.Random(len(live)).choice(live)
    file = Path(platform.lake.files.address(chosen.path))
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    wrong = []
    for what, damaged in {"a flipped bit": flipped, "a cut file": whole[:middle]}.items():
        file.write_bytes(damaged)
        found = _damage(platform)
        if len(found) != 1 or not found[0].startswith(chosen.path):
            wrong.append(f"verify did not find {what} in {chosen.path}: {found}")
        counts[f"found: {what}"] += 1
    file.unlink()
    if len(_damage(platform)) != 1:
        wrong.append(f"verify did not find that {chosen.path} is gone")
    counts["found: a file that is gone"] += 1
    file.write_bytes(whole)
    return wrong + _damage(platform)
