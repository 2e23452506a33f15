"""The entry point of the command `lakebed`: its group, its errors and its exit codes.

What the commands work with is imported when one of them runs, so that `lakebed --help` is quick.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.metadata import version
from typing import Any

import click

from lakebed.cli.add import add
from lakebed.cli.apply import apply
from lakebed.cli.attach import attach
from lakebed.cli.backfill import backfill
from lakebed.cli.backup import backup
from lakebed.cli.build import build
from lakebed.cli.check import check
from lakebed.cli.compile import compile_models
from lakebed.cli.demo import demo
from lakebed.cli.doctor import doctor
from lakebed.cli.erase import erase
from lakebed.cli.errors import STOPPED, words
from lakebed.cli.estimate import estimate
from lakebed.cli.export import export
from lakebed.cli.grant import grant
from lakebed.cli.housekeep import housekeep
from lakebed.cli.import_ import import_
from lakebed.cli.lake import lake
from lakebed.cli.load import load
from lakebed.cli.ls import ls
from lakebed.cli.metrics import metrics
from lakebed.cli.move import move
from lakebed.cli.new import new
from lakebed.cli.plan import plan
from lakebed.cli.rejects import rejects
from lakebed.cli.restore import restore
from lakebed.cli.rollback import rollback
from lakebed.cli.sql import sql
from lakebed.cli.status import status
from lakebed.cli.up import up
from lakebed.cli.verify import verify
from lakebed.errors import exit_code
from lakebed.resources.private import keep_private

HELP = """Load tables into PostgreSQL, let old partitions settle as Parquet, query both as one.

\b
  lakebed new shop                                  a project that runs at once
  lakebed demo                                      real flights through all of it
  lakebed load --all                                what is new in every source
  lakebed import sqlite:shop.db                     a whole database, keys and all, compared
  lakebed move flights --due                        old partitions to the lake
  lakebed sql "select count(*) from flights"        over both tiers
  lakebed export flights --output flights.csv.gz    any table or model as a file
  lakebed status                                    where the rows are
  lakebed up                                        the Dagster UI and its sensors

\b
Exit codes: 0 done, 1 it failed or a part of it did, 2 wrong usage or settings,
3 PostgreSQL cannot be reached, 130 stopped by Ctrl-C or SIGTERM.
"""


class _Commands(click.Group):
    """A group that is content when its reader has seen enough (lakebed sql ... | head)."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        return result


@click.group(cls=_Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("lakebed"), package_name="lakebed", prog_name="lakebed")
def group() -> None:
    """Hold the commands together."""


for command in (
    *(
        new,
        demo,
        up,
        load,
        move,
        backfill,
        build,
        compile_models,
        ls,
        sql,
        status,
        metrics,
        rejects,
    ),
    *(plan, apply, add, import_, backup, rollback, estimate, verify, housekeep, export),
    *(restore, erase, doctor, lake, check, attach, grant),
):
    group.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit; expected errors are one line on stderr, without a traceback."""
    keep_private()
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    # SIGTERM ends like Ctrl-C, so that the embedded server is stopped on the way out.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        group.main(arguments, prog_name="lakebed", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _say_stopped()
    except Exception as error:
        if stopped:  # DuckDB and dlt turn an interrupt into errors of their own
            _say_stopped()
        code = exit_code(error)
        if code is None:
            raise
        click.echo(f"error: {words(error)}", err=True)
        sys.exit(code)


def _say_stopped() -> None:
    click.echo("stopped; what was not committed did not happen", err=True)
    sys.exit(STOPPED)
