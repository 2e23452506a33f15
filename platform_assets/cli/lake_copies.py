"""Write what the lake shows of a table after a load, and print it: its copy, and the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform


def write_lake_copies(
    platform: Platform, table: SourceTable, *, changed: bool = False
) -> list[str]:
    """Write the copies that are due after a load of a table; return what failed, and why.

    Args:
        platform: The platform.
        table: The table that was loaded.
        changed: Copy the table whatever the ledger says.
    """
    from lakebed.operations.load_tables import write_lake_copies as write

    written, problems = write(platform, table, changed=changed)
    for copy in written:
        click.echo(
            f"{copy.table}: copied {copy.rows:,} rows to the lake, "
            f"verified in {copy.seconds:.2f} s",
            err=True,
        )
    return problems


def refresh_catalog(platform: Platform) -> list[str]:
    """Write the catalog file; return why it could not be written, if it could not."""
    from lakebed.operations.load_tables import renew_catalog

    return renew_catalog(platform)
