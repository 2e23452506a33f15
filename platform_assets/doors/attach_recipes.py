"""What a user types to read both tiers from a program that is not Lakebed's."""

from __future__ import annotations

import re

from psycopg import sql
from psycopg.conninfo import make_conninfo

from lakebed.doors.control_views import SCHEMA
from lakebed.resources.keywords import names_to_quote
from lakebed.store.platform import Platform

NAME = "lake"
"""What the statements call the attached catalog."""

_NOT_SHOWN = {"password", "options", "connect_timeout", "application_name"}


def connection_string(platform: Platform) -> str:
    """Return how a client reaches PostgreSQL, without a password."""
    server = platform.postgres.server
    return make_conninfo("", **{k: v for k, v in server.items() if k not in _NOT_SHOWN})


def attach_statement(connection: str) -> str:
    """Return the statement that attaches the catalog in any DuckDB, on one line."""
    return (
        sql.SQL("ATTACH {} AS {} (METADATA_SCHEMA {}, READ_ONLY);")
        .format(
            sql.Literal(f"ducklake:postgres:{connection}"),
            sql.SQL(NAME),
            sql.Literal(SCHEMA),
        )
        .as_string()
    )


def recipes(platform: Platform, table: str) -> str:
    """Return short examples for clients, and how they get the password and the lake's keys.

    table: a table that the examples read.
    """
    connection = connection_string(platform)
    statement = attach_statement(connection)
    query = sql.SQL("FROM {} LIMIT 10").format(sql.Identifier(NAME, table)).as_string()
    if re.fullmatch("[a-z_][a-z0-9_]*", table) and not names_to_quote([table]):
        query = query.replace('"', "")
    in_shell = f"{statement} {query}".replace("\\", "\\\\").replace('"', '\\"')
    in_shell = in_shell.replace("$", "\\$").replace("`", "\\`")
    in_java = statement.replace("\\", "\\\\").replace('"', '\\"')
    path = f"ducklake:postgres:{connection}".replace("\\", "\\\\").replace('"', '\\"')
    java_query = query.replace('"', '\\"')
    parts = [
        f'DuckDB CLI\n  duckdb -c "{in_shell}"',
        "Python (pip install duckdb)\n"
        "  import duckdb\n"
        "  con = duckdb.connect()\n"
        f'  con.execute("""{in_java}""")\n'
        f'  con.sql("""{java_query}""").show()',
        'R (install.packages("duckdb"))\n'
        "  con <- DBI::dbConnect(duckdb::duckdb())\n"
        f'  DBI::dbExecute(con, "{in_java}")\n'
        f'  DBI::dbGetQuery(con, "{java_query}")',
        "Node (npm install @duckdb/node-api)\n"
        "  import { DuckDBInstance } from '@duckdb/node-api'\n"
        "  const con = await (await DuckDBInstance.create()).connect()\n"
        f'  await con.run("{in_java}")\n'
        f'  const rows = (await con.runAndReadAll("{java_query}")).getRows()',
        "Java (org.duckdb:duckdb_jdbc)\n"
        '  var con = DriverManager.getConnection("jdbc:duckdb:");\n'
        f'  con.createStatement().execute("{in_java}");\n'
        f'  var rows = con.createStatement().executeQuery("{java_query}");',
        "dbt-duckdb (profiles.yml)\n"
        "  type: duckdb\n"
        "  attach:\n"
        f'    - path: "{path}"\n'
        f"      alias: {NAME}\n"
        "      read_only: true\n"
        f"      options: {{metadata_schema: {SCHEMA}}}",
    ]
    return "\n\n".join([*parts, *_hints(platform)])


def _hints(platform: Platform) -> list[str]:
    server = platform.postgres.server
    hints = []
    if "password" in server:
        place = ":".join(
            [
                server.get("host", "localhost"),
                server.get("port", "5432"),
                server.get("dbname", "*"),
                server.get("user", "*"),
            ]
        )
        hints.append(
            "Password: a line in ~/.pgpass (mode 0600), which every client above reads\n"
            f"  {place}:PASSWORD"
        )
    if platform.settings.postgres_url is None:
        hints.append(
            "The embedded PostgreSQL runs while a Lakebed process does: keep `lakebed up` running\n"
            "and run the client as the user who owns the data"
        )
    if platform.lake.files.extensions:
        hints.append(
            f"The lake is {platform.lake.files}: give the client its keys first\n"
            "  CREATE SECRET (TYPE s3, KEY_ID '...', SECRET '...', REGION '...');"
        )
    return hints
