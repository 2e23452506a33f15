"""The command grant: what a role may do."""

from __future__ import annotations

import click

from lakebed.cli.context import open_for_reading


@click.group()
def grant() -> None:
    """Let roles of PostgreSQL read the tables."""


@grant.command()
@click.argument("role")
def reader(role: str) -> None:
    """Let ROLE read both tiers through the catalog of `lakebed attach`, and nothing else.

    The role needs no right on the tables themselves. Files of the lake are read by the client:
    it needs its own access to the folder or the bucket.
    """
    from lakebed.doors.control_views import SCHEMA
    from lakebed.doors.write import grant_reader

    grant_reader(open_for_reading(), role)
    click.echo(f"{role} may read the schema {SCHEMA}")
