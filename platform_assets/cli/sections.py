"""The sections of `lakebed --help`: commands grouped by what one wants to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click


class SectionedGroup(click.Group):
    """A group that lists its commands in sections.

    It ends quietly when the reader of its output has seen enough (`lakebed sql ... | head`).
    """

    def add_sections(self, sections: Mapping[str, Sequence[click.Command]]) -> None:
        """Add the commands of each section; `--help` keeps this order."""
        self._sections = {
            title: [command.name or "" for command in commands]
            for title, commands in sections.items()
        }
        for commands in sections.values():
            for command in commands:
                self.add_command(command)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; stop without an error when the reader of stdout has gone."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section with one line a command."""
        for title, names in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(n, self.commands[n].get_short_help_str(66)) for n in names])
