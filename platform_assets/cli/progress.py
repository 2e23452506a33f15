"""Progress: a bar with rows and rows a second on a terminal, nothing elsewhere; on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text


class Work:
    """Something long of which rows are counted and, where the number is known, parts."""

    def __init__(self, progress: Progress, what: str, parts: int | None) -> None:
        """Begin at nothing."""
        self._progress = progress
        self._task = progress.add_task(what, total=parts, rows=0)
        self._rows = 0

    def now(self, what: str) -> None:
        """Say what is being done."""
        self._progress.update(self._task, description=what)

    def rows(self, rows: int) -> None:
        """Count rows that are done."""
        self._rows += rows
        self._progress.update(self._task, rows=self._rows)

    def part(self) -> None:
        """Count a part that is done."""
        self._progress.advance(self._task)


class _Rows(ProgressColumn):
    """How many rows are done, and how many a second."""

    def render(self, task: Task) -> Text:
        """Return the text of one line."""
        rows = task.fields["rows"]
        if not rows:
            return Text("")
        speed = rows / task.elapsed if task.elapsed else 0
        return Text(f"{rows:>11,} rows {speed:>9,.0f} rows/s")


@contextmanager
def working(what: str, parts: int | None = None) -> Iterator[Work]:
    """Show the progress of a work for as long as the block runs."""
    console = Console(stderr=True)
    first = SpinnerColumn() if parts is None else BarColumn(bar_width=14)
    columns = (first, TextColumn("{task.description}"), _Rows(), TimeElapsedColumn())
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,
    ) as progress:
        yield Work(progress, what, parts)
