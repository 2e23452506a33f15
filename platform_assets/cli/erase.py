"""The command that takes rows out of hot and cold for good: erase."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from lakebed.cli.completion import complete_tables
from lakebed.cli.confirm import confirm
from lakebed.cli.context import open_for_reading
from lakebed.cli.output import as_json, numbers, show
from lakebed.errors import PartlyFailedError

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.tiering.erase import Erased


@click.command()
@click.argument("name", metavar="TABLE", shell_complete=complete_tables)
@click.option("--where", required=True, help="Which rows, such as: user_id = 42")
@click.option("--dry-run", is_flag=True, help="Count the rows; change nothing.")
@click.option("--keep-text", is_flag=True, help="Keep the condition itself in lakebed.erasure.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def erase(name: str, where: str, dry_run: bool, keep_text: bool, yes: bool, as_json: bool) -> None:
    """Erase rows from both tiers for good.

    The files that held the rows are destroyed. The condition compares columns with literals: =, <,
    IN, BETWEEN, LIKE, IS NULL, AND, OR, NOT. Undo data and the quarantine are searched too; a line
    that could not be parsed is erased if it contains the values. The report names where else
    copies may be. If the command is killed, run it again. Erased rows cannot be brought back.
    """
    from lakebed.cli.progress import working
    from lakebed.tiering.erase import erase as erase_rows
    from lakebed.tiering.erase import would_erase

    platform = open_for_reading()
    table = platform.table(name)
    found = would_erase(platform, table, where)
    if dry_run:
        _tell(found, as_json)
        return
    click.echo(
        f"{name}: {found.hot_rows:,} hot and {found.cold_rows:,} cold rows are seen that match, "
        f"{found.rejected_rows:,} in the quarantine; they go for good",
        err=True,
    )
    confirm(yes)
    with working(f"erasing from {name}") as work:
        done = erase_rows(platform, table, where, keep_text=keep_text, on_step=work.now)
    _tell(done, as_json)
    if done.failed:
        raise PartlyFailedError(
            "not erased everywhere; run it again:\n  " + "\n  ".join(done.failed)
        )


def _tell(found: Erased, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    show(_table(found))
    for file in found.files:
        click.echo(f"destroyed: {file}")
    click.echo("copies may still be in:")
    for copy in found.copies:
        click.echo(f"  {copy}")


def _table(found: Erased) -> Table:
    table = numbers("table", "hot rows", "cold rows", "kept for rollback", "rejected", "files")
    counts = (found.hot_rows, found.cold_rows, found.undo_rows, found.rejected_rows)
    table.add_row(found.table, *(f"{count:,}" for count in counts), f"{len(found.files):,}")
    return table
