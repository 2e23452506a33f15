"""Seconds by phase: where the time of a load or of a move goes, as its steps tell it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

LOAD_PHASES: Mapping[str, str] = {
    "extracted": "extract",
    "began": "copy",
    "copied": "copy",
    "written": "write",
    "recorded": "commit",
    "committed": "commit",
}
"""extract: until the first rows are there, or the last where nothing is copied meanwhile; copy:
reading on and COPY, side by side; write: into the table; commit: ledger and commit."""

MOVE_PHASES: Mapping[str, str] = {
    "locked": "lock",
    "counted": "count",
    "copied": "copy",
    "verified": "verify",
    "renamed": "publish",
    "recorded": "delete",
    "deleted": "delete",
    "committed": "commit",
}
"""count: the fingerprint in PostgreSQL, beyond the copy that it runs beside; publish: SHA-256, the
final name, made durable."""


class Phases:
    """Called with each step when it is done; the time since the step before belongs to its phase.

    Several threads may report steps: the phases of one thread add up to its whole time.
    """

    def __init__(
        self, phase_of: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start now. phase_of: the phase of each step; a step without one is ignored."""
        self._phase_of = phase_of
        self._clock = clock
        self._seconds: dict[str, float] = {}
        self._last = clock()
        self._lock = threading.Lock()

    def __call__(self, step: str) -> None:
        """Note that a step is done."""
        phase = self._phase_of.get(step)
        if phase is None:
            return
        with self._lock:
            now = self._clock()
            self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._last
            self._last = now

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each phase that there was, in the order of the phases."""
        with self._lock:
            found = dict(self._seconds)
        return {
            phase: found[phase]
            for phase in dict.fromkeys(self._phase_of.values())
            if phase in found
        }
