"""The command demo: real flights through the whole platform."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--prepare", is_flag=True, help="Only write the source files, and set the home's clock."
)
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
