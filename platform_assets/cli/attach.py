"""The command attach: let any DuckDB read both tiers through a DuckLake catalog."""

from __future__ import annotations

import json

import click

from lakebed.cli.context import open_for_reading
from lakebed.cli.output import as_json


@click.command()
@as_json
def attach(as_json: bool) -> None:
    """Print the statement that attaches both tiers to any DuckDB.

    It also writes the catalog that DuckLake clients read.

    Any DuckDB 1.5 with its extensions ducklake and postgres then reads hot and cold rows of every
    table as one, without Lakebed. The first line is the statement; recipes for the command line,
    Python, R, Node, Java and dbt follow. Tables that clients cannot read are named on stderr.
    """
    from lakebed.doors.attach_recipes import attach_statement, connection_string, recipes
    from lakebed.doors.write import write_catalog

    platform = open_for_reading()
    written = write_catalog(platform)
    statement = attach_statement(connection_string(platform))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "attach": statement,
                    "schema_version": written.version,
                    "tables": list(written.tables),
                    "left_out": written.left_out,
                },
                indent=2,
                ensure_ascii=False,
            )
        )
    else:
        click.echo(statement)
        if written.tables:
            click.echo(f"\n{recipes(platform, written.tables[0])}")
    for name, why in written.left_out.items():
        click.echo(f"{name}: clients do not see this table. {why}", err=True)
