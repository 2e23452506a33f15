"""The command doctor: say what is wrong with the platform, and what to do about it."""

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
    """Say what is wrong with the platform, and what to do about it.

    Finds missing or refused sources, rows in the quarantine and stale tables; sessions that hold
    the snapshot horizon, moves and drops that wait too long, missing partitions and files, and
    harmful settings of the server. Changes nothing. The exit code is 1 if anything is wrong;
    warnings and notes leave it 0.
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
