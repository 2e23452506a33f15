"""What a reader may see, told by what writers began and acknowledged. Pure.

A *register* is what writers write: a few rows, in partitions of their own, that one transaction
puts, changes or deletes together. Each write gives it a version that is never used again. So a
reader must find each register whole, in one version, or not at all; and which one is told by the
times:

    begun  ....................  acknowledged
           either, old or new                 new, and nothing older

A write whose end nobody knows (its writer was killed) may have happened or not. But once a reader
has seen it, every reader that begins afterwards must see it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

PARTS = 3
"""The rows of a register."""
GONE = -1
"""The version of a register that is not there."""

Seen = tuple[int, int, int, int]
"""Of a register: rows, distinct parts, the oldest version and the newest."""


@dataclass
class State:
    """A version of a register, and between which moments it came to be.

    piecewise: not in one transaction; an erasure is one for each partition.
    """

    version: int
    begun: float = -inf
    acknowledged: float = inf
    piecewise: bool = False


@dataclass(frozen=True)
class Read:
    """One answer: what was seen of which register, and between which moments."""

    began: float
    ended: float
    registers: Mapping[int, Seen]


@dataclass
class Oracle:
    """The history of each register of one table."""

    histories: dict[int, list[State]] = field(default_factory=dict)

    def begin(self, register: int, version: int, at: float, piecewise: bool = False) -> None:
        """Note that a write begins. The one before it has ended."""
        first = State(GONE, acknowledged=-inf)
        self.histories.setdefault(register, [first]).append(State(version, at, piecewise=piecewise))

    def acknowledge(self, register: int, at: float) -> None:
        """Note that the last write has happened."""
        state = self.histories[register][-1]
        state.acknowledged = min(state.acknowledged, at)

    def undo(self, register: int) -> None:
        """Note that the last write has not happened, and will not."""
        self.histories[register].pop()

    def check(self, read: Read) -> list[str]:
        """Return what is wrong with an answer, and learn from it what has surely happened."""
        wrong = [
            f"register {register}: {_shown(seen)}, and nobody wrote it"
            for register, seen in read.registers.items()
            if register not in self.histories
        ]
        for register, history in self.histories.items():
            seen = read.registers.get(register)
            version = GONE if seen is None else _version(seen)
            possible = _possible(history, read.began, read.ended)
            found = [state for state in possible if state.version == version]
            if not found and not _is_piece(seen, possible):
                wrong.append(
                    f"register {register}: {_shown(seen)}, must be"
                    f" {' or '.join(_named(state.version) for state in possible)}"
                )
            elif len(found) == 1:
                found[0].acknowledged = min(found[0].acknowledged, read.ended)
        return wrong

    def check_total(self, began: float, ended: float, rows: int) -> list[str]:
        """Return what is wrong with a count of all rows."""
        fewest = most = 0
        whole = True
        for history in self.histories.values():
            possible = _possible(history, began, ended)
            there = [state.version != GONE for state in possible]
            fewest += PARTS * all(there)
            most += PARTS * any(there)
            whole = whole and not any(state.piecewise for state in possible[1:])
        if (whole and rows % PARTS) or not fewest <= rows <= most:
            return [f"{rows} rows counted, must be {fewest} to {most} and whole registers"]
        return []


def explained(error: tuple[float, float], faults: Iterable[tuple[float, float]]) -> bool:
    """Whether a fault was there while the thing that failed was done."""
    return any(error[0] <= fault[1] and fault[0] <= error[1] for fault in faults)


def _possible(history: list[State], began: float, ended: float) -> list[State]:
    """Return the states that a read may find: from the last that was surely there when it began."""
    first = max(i for i, state in enumerate(history) if state.acknowledged < began)
    return [state for state in history[first:] if state.begun <= ended]


def _version(seen: Seen) -> int | None:
    """Return the version of a register that is whole, None where it is not."""
    rows, parts, oldest, newest = seen
    return newest if rows == parts == PARTS and oldest == newest else None


def _is_piece(seen: Seen | None, possible: list[State]) -> bool:
    """Whether this is what a piecewise delete that may be under way leaves of a register."""
    if seen is None or not any(state.piecewise for state in possible[1:]):
        return False
    rows, parts, oldest, newest = seen
    return rows == parts <= PARTS and oldest == newest == possible[0].version


def _shown(seen: Seen | None) -> str:
    if seen is None:
        return "is gone"
    version = _version(seen)
    if version is not None:
        return f"has version {version}"
    rows, parts, oldest, newest = seen
    return f"has {rows} rows, {parts} of its {PARTS} parts, versions {oldest} to {newest}"


def _named(version: int) -> str:
    return "gone" if version == GONE else f"version {version}"
