"""The command lake: which database the lake belongs to."""

from __future__ import annotations

import click

from lakebed.cli.confirm import confirm
from lakebed.cli.context import open_for_reading
from lakebed.cli.lake_copies import refresh_catalog


@click.group()
def lake() -> None:
    """Claim the lake for this database."""


@lake.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def claim(yes: bool) -> None:
    """Make the lake this database's, after a restore, a fail-over or a copy.

    A lake belongs to one database: no other one moves, restores, erases or removes anything in it.
    From here on the database that had it is refused. Stop its processes first: files that only that
    database names are removed by `lakebed housekeep` as files that no database names.
    """
    platform = open_for_reading()
    owner, files = platform.lake.owner.owner(), platform.lake.files
    named, missing = platform.lake.owner.count_named()
    had = (
        f"{owner.name}, last written {owner.written:%Y-%m-%d %H:%M} UTC" if owner else "not claimed"
    )
    click.echo(f"lake      {files}", err=True)
    click.echo(f"was       {had}", err=True)
    click.echo(f"will be   {platform.postgres.name}", err=True)
    click.echo(f"files     {named:,} are named by this database, {missing:,} are missing", err=True)
    confirm(yes)
    platform.lake.owner.claim()
    click.echo(f"{files} belongs to {platform.postgres.name}")
    for problem in refresh_catalog(platform):
        click.echo(problem, err=True)
