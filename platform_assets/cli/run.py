"""The commands that run the platform: demo, up."""

from __future__ import annotations

import click

from lakebed.cli.home import open_home


@click.command()
@click.option("--prepare", is_flag=True, help="Only write the source files and set the clock.")
def demo(prepare: bool) -> None:
    """Take 336,776 real flights through the whole platform."""
    from rich.console import Console

    from lakebed.demo import run_demo as the_demo
    from lakebed.demo.demo_folders import demo_settings

    settings = demo_settings()
    if prepare:
        files = the_demo.prepare(settings)
        click.echo(f"{len(files)} files in {settings.data}")
    else:
        the_demo.run_demo(settings, Console())


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--read-only", is_flag=True, help="In the UI nobody can change anything.")
@click.option(
    "--only",
    type=click.Choice(["webserver", "daemon"]),
    help="Start one of the two, for a supervisor such as systemd; the other is started apart.",
)
def up(host: str, port: int, read_only: bool, only: str | None) -> None:
    """Start PostgreSQL, the Dagster UI and its daemon, with every sensor on; Ctrl-C stops them."""
    from rich.console import Console

    from lakebed.orchestration.up import Web, run_up

    if only == "daemon" and read_only:
        raise click.UsageError("--read-only goes with the webserver")
    web = None if only == "daemon" else Web(host, port, read_only)
    run_up(open_home(), Console(), web, daemon=only != "webserver")
