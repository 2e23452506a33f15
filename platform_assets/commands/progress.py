"""Progress: a bar with rows and rows a second on a terminal, plain lines elsewhere; on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text


class _Rows(ProgressColumn):
    """How many rows are done, and how many a second."""

    def render(self, task: Task) -> Text:
        """Return the text of one line."""
        speed = task.finished_speed or task.speed or 0
        return Text(f"{int(task.completed):>12,} rows {int(speed):>11,} rows/s")


@contextmanager
def counting(console: Console, what: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told the rows of each batch, and show how many there were."""
    if not console.is_terminal:
        yield lambda rows: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), _Rows(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda rows: progress.advance(task, rows)
