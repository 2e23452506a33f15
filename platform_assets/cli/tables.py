"""The command tables: the tables and models that a query can name."""

from __future__ import annotations

import json

import click

from lakebed.cli.completion import complete_relations
from lakebed.cli.context import open_lake_for_reading
from lakebed.cli.output import as_json, show


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_relations)
@as_json
def tables(name: str | None, as_json: bool) -> None:
    """List the tables and models, or the columns of one.

    These are the names that a query can use, with DuckDB's types, as `lakebed sql` has them.
    `lakebed status` shows the rows and the partitions.
    """
    from lakebed.cli import relations
    from lakebed.cli.sql import clear_errors

    with open_lake_for_reading().session() as session, clear_errors(session):
        if name is None:
            found = [vars(relation) for relation in relations.list_relations(session)]
            table = relations.relations_table(session)
        else:
            found = [vars(column) for column in relations.columns_of(session, name)]
            table = relations.columns_table(session, name)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        show(table)
    else:
        click.echo(
            "No table is declared. Write a table file, or let `lakebed add` write one", err=True
        )
