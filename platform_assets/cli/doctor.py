"""The command doctor: what is wrong with the tiers, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from lakebed.cli.context import open_for_reading
from lakebed.cli.output import as_json
from lakebed.errors import PartlyFailedError


@click.command()
@as_json
def doctor(as_json: bool) -> None:
    """Say what is wrong with tables, tiers and server, and what to do about it. Changes nothing.

    Sources that are missing or refused, rows that wait in the quarantine, stale tables; who holds
    the snapshot horizon, moves and drops that wait too long, partitions that are missing, files
    that are missing or superseded, settings of the server that hurt. The exit code is 1 where
    anything is wrong; warnings and notes leave it 0.
    """
    from lakebed.monitoring.doctor import examine
    from lakebed.monitoring.findings import counted

    found = examine(open_for_reading())
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        click.echo(f"PostgreSQL {found.server}")
        for finding in found.findings:
            click.echo(f"{finding.level:7}  {finding.where}: {finding.what}")
            click.echo(f"         {finding.todo}")
    if not found.is_well:
        raise PartlyFailedError(counted(found.findings))
    click.echo(counted(found.findings), err=True)
