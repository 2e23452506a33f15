"""What the commands that load a table leave of it in the lake: its snapshot, and the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lakebed.cli.errors import words
from lakebed.errors import FAILED, exit_code

if TYPE_CHECKING:
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform


def write_lake_copies(
    platform: Platform, table: SourceTable, *, changed: bool = False
) -> list[str]:
    """Take the snapshots that are due after a load of a table, and write the catalog file anew.

    changed: the table's own is due whatever the ledger says. Returns what failed, and why.
    """
    from lakebed.cli.home import refresh_catalog
    from lakebed.tiering.lake_copies import write_due_copies

    try:
        taken = write_due_copies(platform, table, changed=changed)
    except Exception as error:
        if exit_code(error) != FAILED:
            raise
        why = f"{table.name}: its rows are committed, its snapshot was not taken: {words(error)}"
        return [f"{why}. The next load takes it"]
    for copy in taken:
        click.echo(
            f"{copy.table}: snapshot of {copy.rows:,} rows in the lake, "
            f"verified in {copy.seconds:.2f} s",
            err=True,
        )
    return refresh_catalog(platform) if taken else []
