"""Ask before a command changes what cannot be taken back."""

from __future__ import annotations

import sys

import click


def confirm(yes: bool) -> None:
    """Ask on a terminal; elsewhere --yes is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this changes the table; say --yes")
    click.confirm("Go on?", abort=True, err=True)
