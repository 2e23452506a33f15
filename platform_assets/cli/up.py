"""The command up: PostgreSQL, the Dagster UI and its daemon."""

from __future__ import annotations

import click

from lakebed.cli.context import open_for_writing


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--read-only", is_flag=True, help="Let no user of the UI change anything.")
@click.option(
    "--only",
    type=click.Choice(["webserver", "daemon"]),
    help="Start one of the two, for a supervisor such as systemd.",
)
def up(host: str, port: int, read_only: bool, only: str | None) -> None:
    """Start PostgreSQL, the Dagster UI and its daemon.

    Every sensor is on. Ctrl-C stops all of them.
    """
    from rich.console import Console

    from lakebed.orchestration.up import Web, run_up

    if only == "daemon" and read_only:
        raise click.UsageError("--read-only goes with the webserver")
    web = None if only == "daemon" else Web(host, port, read_only)
    run_up(open_for_writing(), Console(), web, daemon=only != "webserver")
