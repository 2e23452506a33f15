"""The command new: a project that runs at once."""

from __future__ import annotations

import shlex
from pathlib import Path

import click


@click.command()
@click.argument("name", required=False)
def new(name: str | None) -> None:
    """Write a new project that works at once.

    It goes into the folder NAME, or without a name into the working folder if that is empty. The
    project has a table, models, a few rows of data, a test, and what Dagster needs. An existing
    file is never overwritten.
    """
    from lakebed.scaffolding.project_files import write_project

    folder = Path.cwd() if name is None else Path(name)
    for file in write_project(folder):
        click.echo(str(file.relative_to(folder.resolve())))
    lines = ["next:", *([f"  cd {shlex.quote(str(folder))}"] if name else [])]
    lines += ["  lakebed load --all", "  lakebed move readings --due"]
    lines += ["  lakebed build", '  lakebed sql "from daily_temperature"', "  lakebed up"]
    click.echo("\n".join(lines), err=True)
