"""Ask before a command makes a change that cannot be undone."""

from __future__ import annotations

import sys

import click


def confirm(yes: bool) -> None:
    """Ask on a terminal; elsewhere --yes is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(
            "This changes the table, and there is no terminal to ask on. Add --yes"
        )
    click.confirm("Go on?", abort=True, err=True)
