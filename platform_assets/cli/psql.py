"""The command psql: PostgreSQL's own shell on the hot tier."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

import click

from lakebed.cli.context import open_for_reading


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", metavar="[ARGUMENT]...", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: Sequence[str]) -> None:
    """Open psql on the hot tier, in PostgreSQL's dialect.

    The arguments go to psql as they are: lakebed psql -c "select count(*) from lakebed.load". The
    embedded server runs for as long as psql does. Only the hot rows are there, and psql may change
    them: `lakebed sql` reads both tiers and changes nothing.

    Where psql is not installed, the address of the database is printed, without its password. On a
    terminal the embedded server then runs until Ctrl-C, so that another client can use it.
    """
    postgres = open_for_reading().postgres
    postgres.connect().close()
    program = shutil.which("psql")
    if program is None:
        _print_address(postgres.redact(postgres.url))
        return
    server = dict(postgres.server)
    environment = dict(os.environ)
    # Other users see the arguments of a process, and not its environment.
    if password := server.pop("password", None):
        environment["PGPASSWORD"] = password
    from psycopg.conninfo import make_conninfo

    # psql handles Ctrl-C itself: it stops the query, and the shell goes on.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        sys.stdout.flush()
        command = [program, make_conninfo("", **server), *arguments]
        ended = subprocess.run(command, env=environment, check=False)
    finally:
        signal.signal(signal.SIGINT, before)
    sys.exit(ended.returncode)


def _print_address(address: str) -> None:
    click.echo(address)
    if not sys.stdin.isatty():
        click.echo("psql is not installed; this is the address for another client", err=True)
        return
    click.echo(
        "psql is not installed. Open this address with another client; an embedded server runs "
        "until you press Ctrl-C here",
        err=True,
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
