"""A game of loads that are killed: deliver, load, kill, look, again.

The oracle is what was delivered. Each way to write has a `Case`: how new data arrive, and what the
table must hold when a load of them has ended. Between two successful loads a table may hold the
state before or the state after, and nothing else; files that are loaded apart count one by one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from psycopg import sql

from lakebed.ingest import stream
from lakebed.ingest.load import load_table, load_window
from lakebed.ingest.sources import parquet
from lakebed.resources.settings import Settings
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import Platform, open_platform
from tests.support import processes

STEPS = ("extracted", "began", "copied", "written", "recorded", "committed")
START = datetime(2024, 2, 1, tzinfo=UTC)
ROWS = 400
WINDOW = "2024-02"
SCHEMA = {
    "at": pl.Datetime("us", "UTC"),
    "number": pl.Int64,
    "value": pl.Int64,
    "changed": pl.Datetime("us", "UTC"),
}

State = tuple[int, int, int, int]
"""Rows, distinct numbers, sum of the numbers, sum of the values."""


@dataclass
class Case:
    """One table: its deliveries so far, and the states that it may be in."""

    name: str
    folder: Path
    deliver: Callable[[Case, int], pl.DataFrame]
    turn: int = 0
    frames: list[pl.DataFrame] = field(default_factory=list)
    states: list[State] = field(default_factory=lambda: [(0, 0, 0, 0)])

    def next(self) -> None:
        """Deliver something new; the state that follows from it may now be seen."""
        self.turn += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        self.states.append(state_of(self.deliver(self, self.turn)))


def events(turn: int, *, numbers: range | None = None, value: int | None = None) -> pl.DataFrame:
    """Return the events of a turn, told of later than those of the turn before."""
    numbers = numbers or range(turn * ROWS, (turn + 1) * ROWS)
    return pl.DataFrame(
        {
            "at": [START + timedelta(minutes=number % 30_000) for number in numbers],
            "number": numbers,
            "value": [turn if value is None else value] * len(numbers),
            "changed": [START + timedelta(days=100 + turn)] * len(numbers),
        },
        schema=SCHEMA,
    )


def write(case: Case, frame: pl.DataFrame, name: str) -> None:
    """Deliver a file as users should: beside, then renamed."""
    hidden = case.folder / f".{name}"
    if name.endswith(".csv"):
        frame.write_csv(hidden)
    else:
        frame.write_parquet(hidden)
    hidden.rename(case.folder / name)


def deliver_new(case: Case, turn: int) -> pl.DataFrame:
    """A new file of new rows."""
    case.frames.append(events(turn))
    write(case, case.frames[-1], f"{turn}.parquet")
    return pl.concat(case.frames)


def deliver_grown(case: Case, turn: int) -> pl.DataFrame:
    """The one file, longer."""
    case.frames.append(events(turn))
    write(case, pl.concat(case.frames), "all.csv")
    return pl.concat(case.frames)


def deliver_changes(case: Case, turn: int) -> pl.DataFrame:
    """A new file whose rows replace the second half of those before, and add as many."""
    first = turn * ROWS // 2
    case.frames.append(events(turn, numbers=range(first, first + ROWS)))
    write(case, case.frames[-1], f"{turn}.csv")
    return pl.concat(case.frames).unique("number", keep="last")


def deliver_whole(case: Case, turn: int) -> pl.DataFrame:
    """The one file with other rows in place of those before, of which some are gone."""
    frame = events(turn, numbers=range(turn * 10, turn * 10 + ROWS))
    write(case, frame, "all.parquet")
    return frame


def deliver_versions(case: Case, turn: int) -> pl.DataFrame:
    """The same keys with other values, and some new keys: each change is a version."""
    case.frames.append(events(turn, numbers=range(ROWS // 2 + turn)))
    write(case, case.frames[-1], f"{turn}.parquet")
    return pl.concat(case.frames)


DELIVERIES: dict[str, Callable[[Case, int], pl.DataFrame]] = {
    "appended": deliver_new,
    "apart": deliver_new,
    "grown": deliver_grown,
    "merged": deliver_changes,
    "windowed": deliver_whole,
    "replaced": deliver_whole,
    "history": deliver_versions,
    "mirrored": deliver_whole,
}


def state_of(frame: pl.DataFrame) -> State:
    """Return the state of a table that holds these rows."""
    return (
        frame.height,
        frame["number"].n_unique(),
        int(frame["number"].sum()),
        int(frame["value"].sum()),
    )


def state_in(platform: Platform, name: str) -> State:
    """Return the state of a table in PostgreSQL."""
    with platform.postgres.connect() as connection:
        if connection.execute("select to_regclass(%s)", [f"public.{name}"]).fetchone() == (None,):
            return (0, 0, 0, 0)
        query = sql.SQL(
            "select count(*), count(distinct number), coalesce(sum(number), 0)::bigint,"
            " coalesce(sum(value), 0)::bigint from {}"
        )
        row = connection.execute(query.format(sql.Identifier(name))).fetchone()
    assert row is not None
    return (row[0], row[1], row[2], row[3])


def load(settings: Settings, name: str, step: str | None, visit: int) -> None:
    """Load a table in small packages; die at the nth visit of a step, if one is given."""
    stream.FIRST_PACKAGE_ROWS, stream.PACKAGE_ROWS, parquet.BATCH_ROWS = 50, 100, 50
    platform = open_platform(settings)
    table = platform.table(name)
    visits = 0

    def on_step(label: str) -> None:
        nonlocal visits
        visits += label == step
        if label == step and visits == visit:
            os.kill(os.getpid(), signal.SIGKILL)

    arguments = (settings, platform.postgres, platform.clock, table)
    if table.load_by == "window":
        load_window(
            *arguments, window_for_key(table.require_partitioning.grain, WINDOW), on_step=on_step
        )
    else:
        load_table(*arguments, on_step=on_step)


@dataclass
class Game:
    """Rounds of two loads of different tables at once, each killed at a step or at random."""

    platform: Platform
    random: random.Random
    cases: list[Case]
    kills: int = 0
    kills_at: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def round(self) -> None:
        """Start two loads, kill them, and look at what they left."""
        pair = self.random.sample(self.cases, 2)
        for case in pair:
            if self.random.random() < 0.3 or case.turn == 0:
                case.next()
        if self.random.random() < 0.2:
            shutil.rmtree(self.platform.settings.home / "dlt", ignore_errors=True)
        started = []
        for case in pair:
            label = self.random.choice([*STEPS, "copied", None, None])
            visit = self.random.choice([1, 1, 2, 3]) if label == "copied" else 1
            process = processes.CONTEXT.Process(
                target=load, args=(self.platform.settings, case.name, label, visit)
            )
            process.start()
            pause = self.random.uniform(0.05, 0.8) if label is None else None
            started.append((case, label, process, pause))
        for case, label, process, pause in started:
            if pause is not None:
                process.join(pause)
                process.kill()
            process.join(processes.PATIENCE)
            self._count(case, label, process.exitcode)
        for case in pair:
            self.look(case)

    def _count(self, case: Case, label: str | None, code: int | None) -> None:
        if code == -signal.SIGKILL:
            self.kills += 1
            name = f"{case.name} at {label or 'random'}"
            self.kills_at[name] = self.kills_at.get(name, 0) + 1
        elif code != 0:
            self.violations.append(f"{case.name}: a load ended with {code}")

    def look(self, case: Case) -> None:
        """Note a state that the table may not be in; forget those that are past."""
        # The server may still be ending the session of the killed load.
        found = self._settled(case)
        allowed = case.states
        if case.name == "apart":
            allowed = [found]
            whole_files = found[0] % ROWS == 0 and found[0] == found[1]
            if not whole_files or found[0] > case.states[-1][0]:
                self.violations.append(f"apart: {found} is no number of whole files")
        if found not in allowed:
            self.violations.append(f"{case.name}: {found} is none of {case.states}")
        elif found in case.states:
            case.states = case.states[case.states.index(found) :]

    def _settled(self, case: Case) -> State:
        deadline = time.monotonic() + 10
        with self.platform.postgres.connect(autocommit=True) as connection:
            while time.monotonic() < deadline:
                busy = connection.execute(
                    "select count(*) from pg_stat_activity where datname = current_database()"
                    " and pid <> pg_backend_pid() and backend_type = 'client backend'"
                ).fetchone()
                if busy == (0,):
                    break
                time.sleep(0.02)
        return state_in(self.platform, case.name)

    def end(self) -> None:
        """Load everything once more, undisturbed: each table must hold the last state."""
        for case in self.cases:
            if case.turn == 0:
                case.next()
            for _ in range(2):
                code = processes.run(load, self.platform.settings, case.name, None, 1)
                if code != 0:
                    self.violations.append(f"{case.name}: the last load ended with {code}")
            found = state_in(self.platform, case.name)
            if found != case.states[-1]:
                self.violations.append(f"{case.name}: ends with {found}, not {case.states[-1]}")


def play(platform: Platform, seed: int, kills: int, names: list[str] | None = None) -> Game:
    """Play until so many loads were killed; return the game with its counts and violations."""
    data = platform.settings.data
    cases = [
        Case(name, data / name, deliver)
        for name, deliver in DELIVERIES.items()
        if names is None or name in names
    ]
    game = Game(platform, random.Random(seed), cases)
    while game.kills < kills and not game.violations:
        game.round()
    game.end()
    return game


def describe(game: Game) -> dict[str, Any]:
    """Return the counts of a game, for people."""
    return {
        "kills": game.kills,
        "violations": game.violations,
        "kills at": dict(sorted(game.kills_at.items())),
    }
