"""How a player of the torture fails: killed or stopped at a step, killed at a moment, disk full."""

from __future__ import annotations

import os
import random
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STEPS = {
    "mover": (
        "locked",
        "counted",
        "copied",
        "verified",
        "renamed",
        "recorded",
        "deleted",
        "committed",
    ),
    "restorer": (
        "locked",
        "checked",
        "copied",
        "written",
        "verified",
        "recorded",
        "closed",
        "committed",
    ),
    "eraser": (
        "opened",
        "counted",
        "copied",
        "renamed",
        "recorded",
        "deleted",
        "committed",
        "rest",
        "burnt",
        "removed",
        "closed",
    ),
    "housekeeper": ("vacuumed", "dropped", "given up", "burnt", "removed"),
}
FULL = 600
"""Bytes that a file may have where the disk is full: less than any Parquet file has."""


@dataclass(frozen=True)
class Plan:
    """What befalls a player.

    kill, stop: at the nth visit of a step.  late: killed so many seconds after it began.  full: it
    can write no file, at the nth partition that it takes.
    """

    what: str = "nothing"
    step: str = ""
    visit: int = 1
    delay: float = 0.0

    def __str__(self) -> str:
        return f"{self.what} {self.step}".strip()


def plan_of(role: str, chance: random.Random) -> Plan:
    """Choose what befalls a player of a role."""
    what = chance.choices(["kill", "late", "stop", "full"], [8, 3, 2, 2 * (role == "mover")])[0]
    step = chance.choice(STEPS[role]) if what in ("kill", "stop") else ""
    return Plan(what, step, chance.choice([1, 1, 2, 4]), chance.uniform(0.1, 1.5))


class Doom:
    """Brings a plan about, in the process that it is for."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._visits = 0
        self._parts = 0
        if plan.what == "late":
            threading.Timer(plan.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    def on_step(self, step: str) -> None:
        """Kill or stop this process, where it is its time."""
        self._visits += step == self._plan.step
        if step == self._plan.step and self._visits == self._plan.visit:
            os.kill(os.getpid(), signal.SIGKILL if self._plan.what == "kill" else signal.SIGSTOP)

    @contextmanager
    def disk(self) -> Iterator[bool]:
        """Let the disk be full in the block, where it is its time; yield whether it is."""
        self._parts += 1
        if self._plan.what != "full" or self._parts != self._plan.visit:
            yield False
            return
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, before[1]))
        try:
            yield True
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
