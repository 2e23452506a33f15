"""The torture of the tiers: everybody at once, and a monkey that kills, stops and cuts them off.

    python -m tests.reliability.torture --seconds 600 --seed 1

Writers, readers, movers, a restorer, an eraser and a housekeeper are processes of their own over
two tables of many small partitions. Each tells in a journal what it does; the oracle (oracle.py)
holds every answer of every reader against what the writers had begun and got acknowledged. Rounds
begin with empty tables and end with everything settled, counted, verified and swept.

The seed decides who is killed where and what is written; the machine decides who is faster. So the
same seed may need several runs to fail again; what a failure prints tells what happened in it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakebed.schema.ddl import ensure_table
from lakebed.store.platform import Platform, open_platform
from tests.conftest import open_folder, settings_for
from tests.reliability.aftermath import aftermath
from tests.reliability.faults import Plan, plan_of
from tests.reliability.journal import Listener
from tests.reliability.oracle import Oracle, explained
from tests.reliability.own_server import OwnServer, own_server
from tests.reliability.readers import as_read, count_on, read_on
from tests.reliability.tierers import work_on
from tests.reliability.writers import TABLES, make_leaves, write_on
from tests.support import processes

ROUND = 40.0
"""Seconds of a round, at most."""
TIERED = Path(__file__).parent / "tiered"
ROLES = (
    *("writer", "writer", "reader", "reader", "counter"),
    *("mover", "mover", "restorer", "eraser", "housekeeper"),
)
LIFE = 15.0
"""Seconds that a tierer lives where its plan does not come about."""
REST = 1.5
"""Seconds that a process is stopped: longer than every timeout of the server and of the movers."""
PACE = 0.1
LAST_EVENTS = 40
processes.CONTEXT.set_forkserver_preload(
    [
        "tests.support.processes",
        "tests.conftest",
        "tests.reliability.aftermath",
        "tests.reliability.tierers",
    ]
)


@dataclass
class Player:
    """A process, and what is to befall it."""

    name: str
    role: str
    plan: Plan
    process: Any
    ready_at: float | None = None
    stopped_at: float | None = None

    def is_stopped(self) -> bool:
        """Whether the process stands still."""
        try:
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state == "T"

    def has_lived(self, seconds: float) -> bool:
        """Whether it has been at work for so long."""
        return self.ready_at is not None and time.monotonic() > self.ready_at + seconds


@dataclass
class Tally:
    """What a whole run has seen. violations: each with what led to it."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(n for name, n in self.counts.items() if name.startswith("killed "))

    def __str__(self) -> str:
        """Return everything, for people."""
        lines = [f"seed {self.seed}", f"kills: {self.kills}"]
        lines += [f"{name}: {count:,}" for name, count in sorted(self.counts.items())]
        lines += [f"violations: {len(self.violations)}", *self.violations]
        return "\n".join(lines)


@dataclass
class Round:
    """A round: one database, one lake, the players and the oracles of both tables."""

    server: OwnServer
    platform: Platform
    folder: Path
    chance: random.Random
    tally: Tally
    oracles: dict[str, Oracle] = field(default_factory=lambda: {t: Oracle() for t in TABLES})
    players: list[Player] = field(default_factory=list)
    faults: list[tuple[float, float]] = field(default_factory=list)
    destructions: list[tuple[float, float]] = field(default_factory=list)
    destroying: dict[str, float] = field(default_factory=dict)
    events: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_EVENTS))
    born: int = 0

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.stop = self.folder / "stop"
        self._listener = Listener(self.folder)
        self._next_fault = self.began + 1.0
        self._crash_at = self.began + self.chance.uniform(4, 12)

    def play(self, until: Callable[[], bool]) -> None:
        """Let everybody play until it is time, then look at what is left."""
        with self.platform.postgres.connect(autocommit=True) as connection:
            for name in TABLES:
                ensure_table(connection, self.platform.table(name))
                make_leaves(self.platform, connection, name)
        for role in ROLES:
            self._start(role)
        try:
            while not until() and not self.tally.violations:
                self._tend()
                self._disturb()
                self.hear()
                time.sleep(0.05)
        finally:
            self._end()
        self.hear()
        for text in aftermath(self.platform, self.oracles, self.tally.counts):
            self.violation(text)

    def _start(self, role: str) -> None:
        """Start a player of a role, with what is to befall it."""
        self.born += 1
        name, seed = f"{role}-{self.born:04}", self.chance.getrandbits(32)
        journal = self.folder / f"{name}.journal"
        settings, plan = self.platform.settings, Plan()
        target: Callable[..., None]
        match role:
            case "writer":
                target, args = write_on, (settings, self.born, seed, journal, self.stop, PACE)
            case "reader":
                target, args = read_on, (settings, seed, journal, self.stop)
            case "counter":
                target, args = count_on, (settings, seed, journal, self.stop)
            case _:
                plan = plan_of(role, self.chance)
                target, args = work_on, (settings, role, self.born, seed, plan, journal, self.stop)
        process = processes.CONTEXT.Process(target=target, args=args)
        process.start()
        self.players.append(Player(name, role, plan, process))

    def _tend(self) -> None:
        """Bury the dead and replace them; wake who has rested; end who outlives its plan."""
        for player in list(self.players):
            code = player.process.exitcode
            if code is not None:
                self.players.remove(player)
                self._bury(player, code)
                self._start(player.role)
            elif player.stopped_at is not None:
                if time.monotonic() > player.stopped_at + REST:
                    self._wake(player)
            elif player.plan.what == "stop" and player.is_stopped():
                player.stopped_at = time.monotonic()
                self._note(f"{player.name} stopped at {player.plan.step}")
                self.tally.counts[f"stopped {player.role} at {player.plan.step}"] += 1
                if self.chance.random() < 0.5:
                    self._cut("state = 'idle in transaction'")
            elif player.plan != Plan() and player.has_lived(LIFE):
                player.plan = Plan("late")
                player.process.kill()

    def _wake(self, player: Player) -> None:
        player.stopped_at, player.plan = None, Plan("late")
        os.kill(player.process.pid, signal.SIGCONT)
        self._note(f"{player.name} goes on")

    def _bury(self, player: Player, code: int) -> None:
        self.hear()
        if player.name in self.destroying:
            # Whoever removes its files later: none that reads from now on needs them.
            self.destructions.append((self.destroying.pop(player.name), time.monotonic()))
        if code == -signal.SIGKILL:
            where = player.plan.step if player.plan.what == "kill" else "any moment"
            self.tally.counts[f"killed {player.role} at {where}"] += 1
            self._note(f"{player.name} was killed at {where}")
        elif code != 0:
            self.violation(f"{player.name} ended with {code} ({player.plan})")

    def _disturb(self) -> None:
        """Do something bad from outside, from time to time."""
        now = time.monotonic()
        if now > self._crash_at:
            self._crash_at = now + self.chance.uniform(15, 40)
            self._crash()
        elif now > self._next_fault:
            self._next_fault = now + self.chance.uniform(0.3, 2.0)
            if self.chance.random() < 0.5:
                self._cut("random() < 0.2")
            else:
                role = self.chance.choice(["writer", "reader", "counter"])
                victims = [p for p in self.players if p.role == role and p.has_lived(0.0)]
                for victim in victims[:1]:
                    victim.process.kill()

    def _cut(self, which: str) -> None:
        """Terminate sessions of others."""
        began = time.monotonic()
        with self.platform.postgres.connect(autocommit=True) as connection:
            ((filter,),) = connection.execute(
                "select count(*) from (select pg_terminate_backend(pid, 5000)"  # noqa: S608
                " from pg_stat_activity where datname = current_database()"
                f" and pid <> pg_backend_pid() and {which}) t".encode()
            ).fetchall()
        self.faults.append((began, time.monotonic()))
        self.tally.counts["sessions terminated"] += filter
        self._note(f"{filter} sessions terminated")

    def _crash(self) -> None:
        began = time.monotonic()
        self.server.crash()
        self.faults.append((began, time.monotonic()))
        self.tally.counts["crashes of the server"] += 1
        self._note("the server crashed")

    def hear(self) -> None:
        """Take what the players told, the writers first: an answer is judged by all they began."""
        lines = list(self._listener.hear())
        # An answer that was told just now may show a write whose begin is told in the next file.
        late = list(self._listener.hear())
        for name, line in sorted(lines + late, key=lambda told: told[1]["kind"] in _ANSWERS):
            self._take(name, line)

    def _take(self, player: str, line: dict[str, Any]) -> None:
        counts = self.tally.counts
        match line:
            case {"kind": "ready"}:
                for each in self.players:
                    if each.name == player:
                        each.ready_at = time.monotonic()
            case {"kind": "begin", "table": table, "register": register, "version": version}:
                self.oracles[table].begin(
                    register, version, line["at"], line.get("piecewise", False)
                )
            case {"kind": "acknowledged", "table": table, "register": register, "at": at}:
                self.oracles[table].acknowledge(register, at)
                counts["writes acknowledged"] += 1
            case {"kind": "undone", "table": table, "register": register}:
                self.oracles[table].undo(register)
            case {"kind": "kept from", "why": why}:
                counts[f"writes rolled back: {why}"] += 1
            case {"kind": "read", "table": table, "rows": rows}:
                counts["reads"] += 1
                read = as_read(line["began"], line["ended"], rows)
                self._judge(player, table, self.oracles[table].check(read))
            case {"kind": "total", "began": began, "ended": ended, "rows": rows}:
                counts["reads by psql"] += 1
                self._judge(
                    player, "keyless", self.oracles["keyless"].check_total(began, ended, rows)
                )
            case {"kind": "unrepeatable"}:
                self.violation(f"{player}: hot rows changed in a snapshot: {line}")
            case {"kind": "violation", "text": text}:
                self.violation(f"{player}: {text}")
            case {"kind": "done", "what": what}:
                counts[f"done: {what}"] += 1
            case {"kind": "destroying", "at": at}:
                self.destroying.setdefault(player, at)  # one that failed is tried again
            case {"kind": "destroyed", "at": at}:
                self.destructions.append((self.destroying.pop(player), at))
            case {"kind": "error", "text": text, "began": began, "ended": ended}:
                if self._is_explained(text, (began, ended)):
                    counts["errors after a fault"] += 1
                else:
                    self.violation(f"{player}: an error without a fault: {text}")

    def _is_explained(self, text: str, when: tuple[float, float]) -> bool:
        """Whether something bad befell it, or it read files that an erasure destroys at once."""
        if explained(when, self.faults):
            return True
        now = time.monotonic()
        going = [*self.destructions, *((began, now) for began in self.destroying.values())]
        lost = "IO Error" in text or text.startswith("ErasedError")
        return lost and explained(when, going)

    def _judge(self, player: str, table: str, wrong: list[str]) -> None:
        for text in wrong[:3]:
            self.violation(f"{player}: {table}: {text}")

    def violation(self, text: str) -> None:
        """Note what may not be, with what went before."""
        history = "\n    ".join(self.events)
        self.tally.violations.append(f"{text}\n  before it:\n    {history}")

    def _note(self, text: str) -> None:
        self.events.append(f"{time.monotonic() - self.began:7.2f} {text}")

    def _end(self) -> None:
        """Have everybody come to an end, whatever was to befall them."""
        self.stop.touch()
        for player in self.players:
            if player.stopped_at is not None or player.is_stopped():
                self._wake(player)
        deadline = time.monotonic() + processes.PATIENCE
        while self.players:
            player = self.players[0]
            player.process.join(0.1)
            if player.process.exitcode is None and player.is_stopped():
                self._wake(player)
            elif player.process.exitcode is not None:
                self.players.pop(0)
                self._bury(player, player.process.exitcode)
            elif time.monotonic() > deadline:
                player.process.kill()
                self.violation(f"{player.name} did not end")
                self.players.pop(0)


_ANSWERS = ("read", "total", "error")


def play(folder: Path, seed: int, seconds: float, kills: int = 0) -> Tally:
    """Play rounds for some seconds, and on until so many were killed; stop at a violation.

    folder: short-named, and everybody may enter it; what is told stays there.
    """
    tally, chance = Tally(seed), random.Random(seed)
    processes.run(time.sleep, 0.0)  # the fork server imports everything once
    deadline = time.monotonic() + seconds
    with own_server(folder) as server:
        while not tally.violations and (time.monotonic() < deadline or tally.kills < kills):
            name = server.create()
            home = folder / name
            home.mkdir()
            settings = settings_for(
                home, server.url_of(name), LAKEBED_TABLES=str(TIERED), LAKEBED_FILE_GRACE="0s"
            )
            end = time.monotonic() + ROUND

            def over(end: float = end) -> bool:
                now = time.monotonic()
                return now > end or (now > deadline and tally.kills >= kills)

            this = Round(
                server, open_platform(settings), home, random.Random(chance.random()), tally
            )
            this.play(over)
            tally.counts["rounds"] += 1
            if not tally.violations:
                server.drop(name)
    return tally


def main() -> int:
    """Play as the command line says; return 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with open_folder() as folder:
        tally = play(folder, options.seed, options.seconds)
    print(tally)
    return bool(tally.violations)


if __name__ == "__main__":
    sys.exit(main())
