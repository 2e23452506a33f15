"""The command plan: what the table files would change in PostgreSQL."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lakebed.cli.completion import complete_tables
from lakebed.cli.context import open_for_writing, say_that_no_table_is_declared
from lakebed.cli.output import as_json, say_what_needs_quotes
from lakebed.errors import FAILED

if TYPE_CHECKING:
    from lakebed.schema.plan import Plan
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform

table_names = click.argument(
    "names", metavar="[TABLE]...", nargs=-1, shell_complete=complete_tables
)


@click.command()
@table_names
@click.option("--check", is_flag=True, help="Exit with 1 if there is anything to change.")
@as_json
def plan(names: Sequence[str], check: bool, as_json: bool) -> None:
    """Show what the table files would change in PostgreSQL.

    Prints the SQL and changes nothing. Without a name, all tables are compared. A change is
    instant (milliseconds), checked (made if the rows allow it), blocking (locks the table while it
    reads the rows) or refused (left to you, with the reason).
    """
    platform = open_for_writing()
    if not platform.tables and not names:
        say_that_no_table_is_declared(platform)
    planned = read_plans(platform, names)
    plans = [made for _, made in planned]
    if as_json:
        click.echo(json.dumps([made.to_json() for made in plans], indent=2, ensure_ascii=False))
    else:
        for made in plans:
            show_plan(made)
        for table, _ in planned:
            say_what_needs_quotes(table)
    if check and any(made.changes for made in plans):
        sys.exit(FAILED)


def read_plans(platform: Platform, names: Sequence[str]) -> list[tuple[SourceTable, Plan]]:
    """Return the plan of each named table, or of all tables."""
    from lakebed.schema.apply import read_plan

    tables = [platform.table(name) for name in dict.fromkeys(names)] or list(platform.tables)
    with platform.postgres.connect(autocommit=True) as connection:
        now = platform.clock.now()
        return [(table, read_plan(connection, table, now)) for table in tables]


def show_plan(made: Plan) -> None:
    """Print a plan with its SQL."""
    if not made.changes:
        click.echo(f"{made.table}: nothing to change")
    else:
        click.echo(f"{made.table}:")
    for change in made.changes:
        click.echo(f"  {change.safety:<9} {change.what}")
        if change.safety == "refused":
            click.echo(f"            {change.why}")
        if change.lock:
            click.echo(f"            {change.rows:,} rows, {change.bytes:,} bytes: {change.lock}")
        for statement in change.sql:
            click.echo(f"              {statement};")
    if made.fields:
        click.echo("  fields for the model:")
        for line in made.fields:
            click.echo(f"      {line}")
