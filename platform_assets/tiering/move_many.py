"""Several partitions of a table moved: one after the other, or some at once.

Each is a transaction of its own with a DuckDB of its own; they share nothing but the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime

from lakebed.resources.lake import Lake
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnMoveStep
from lakebed.spec.table import SourceTable
from lakebed.tiering.move import move
from lakebed.tiering.report import Moved


def move_many(
    lake: Lake,
    table: SourceTable,
    windows: Sequence[Window],
    jobs: int = 1,
    on_start: Callable[[Window], OnMoveStep] = lambda window: lambda step: None,
    unless_held_at: datetime | None = None,
) -> Iterator[tuple[Window, Moved | Exception]]:
    """Move partitions, at most `jobs` at once; yield each result as it ends: a report or an error.

    With one job they come in order. If the caller stops early, running moves end and none begins.
    on_start: called as a move begins, returns its receiver of steps; perhaps in another thread.
    unless_held_at: the time of a move by policy, which leaves held partitions alone.
    """
    if jobs == 1:
        for window in windows:
            yield window, _outcome(lake, table, window, on_start, unless_held_at)
        return
    with ThreadPoolExecutor(jobs) as threads:
        running = {
            threads.submit(_outcome, lake, table, window, on_start, unless_held_at): window
            for window in windows
        }
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _outcome(
    lake: Lake,
    table: SourceTable,
    window: Window,
    on_start: Callable[[Window], OnMoveStep],
    unless_held_at: datetime | None,
) -> Moved | Exception:
    try:
        return move(lake, table, window, unless_held_at=unless_held_at, on_step=on_start(window))
    except Exception as error:
        return error
