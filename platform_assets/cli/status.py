"""The command status: where the rows are."""

from __future__ import annotations

import json
import sys

import click

from lakebed.cli.context import open_for_reading, say_that_no_table_is_declared


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def status(as_json: bool) -> None:
    """Show where the rows are: hot, due, cold or late.

    The heat map has a letter for each partition. Below it: the last load of each table, and what
    is wrong with sources, loads and rows. `lakebed doctor` also checks the tiers and the server.
    """
    from rich.console import Console

    from lakebed.monitoring.status import read_status
    from lakebed.monitoring.status_tables import details, findings_table, heat_map

    platform = open_for_reading()
    if not platform.tables and not platform.broken:
        say_that_no_table_is_declared(platform)
    found = read_status(platform)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    if not platform.tables:
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(heat_map(found))
    console.print()
    console.print(details(found))
    if found.findings:
        console.print()
        console.print(findings_table(found.findings))
