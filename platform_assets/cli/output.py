"""How commands show what they did: tables of figures, one document of JSON, failures at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lakebed.errors import PartlyFailedError

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.spec.table import SourceTable

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def numbers(first: str, *others: str) -> Table:
    """Return a table for figures: a first column of names, the others on the right."""
    from rich.table import Table

    table = Table(first, box=None)
    for name in others:
        table.add_column(name, justify="right")
    return table


def speed(rows: int, seconds: float) -> tuple[str, str]:
    """Return seconds and rows a second, as columns of such a table."""
    return f"{seconds:.2f}", f"{rows / seconds:,.0f}" if seconds else ""


def show(table: Table) -> None:
    """Print a table to stdout as wide as it is: a narrow terminal folds it, nothing is cut off."""
    from rich.console import Console

    console = Console()
    natural = console.measure(table, options=console.options.update(width=1000)).maximum
    console.width = max(console.width, natural)
    console.print(table)


def say_what_needs_quotes(table: SourceTable) -> None:
    """Note on stderr which columns a query must write in double quotes."""
    from lakebed.resources.keywords import quoting_note

    note = quoting_note(table.column_names)
    if note is not None:
        click.echo(f"{table.name}: note: {note}", err=True)


def fail(failures: Sequence[str], what: str) -> None:
    """Raise PartlyFailedError where there are failures."""
    if failures:
        raise PartlyFailedError(f"{len(failures)} {what}:\n  " + "\n  ".join(failures))
