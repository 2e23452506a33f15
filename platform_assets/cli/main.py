"""The entry point of the command `lakebed`: its group, its errors and its exit codes.

A command imports what it works with when it runs, so that `lakebed --help` is quick.
"""

from __future__ import annotations

import signal
import sys
from importlib.metadata import version

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
from lakebed.cli.explain import explain
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
from lakebed.cli.psql import psql
from lakebed.cli.rejects import rejects
from lakebed.cli.restore import restore
from lakebed.cli.rollback import rollback
from lakebed.cli.sections import SectionedGroup
from lakebed.cli.sql import sql
from lakebed.cli.status import status
from lakebed.cli.tables import tables
from lakebed.cli.up import up
from lakebed.cli.verify import verify
from lakebed.errors import exit_code
from lakebed.resources.private import keep_private

HELP = """Load tables into PostgreSQL, move old partitions to Parquet, query both as one.

\b
  lakebed new shop && cd shop                 a project that works at once
  lakebed load --all                          load what is new
  lakebed import sqlite:shop.db               import a whole database
  lakebed move --due                          move old partitions to the lake
  lakebed sql "from readings limit 5"         query both tiers
  lakebed status                              where the rows are
  lakebed up                                  the Dagster UI with its sensors

\b
Exit codes: 0 done, 1 all or a part of it failed, 2 wrong usage or settings,
3 PostgreSQL cannot be reached, 130 stopped by Ctrl-C or SIGTERM.
Tab completion: eval "$(_LAKEBED_COMPLETE=bash_source lakebed)"
"""

SECTIONS = {
    "Start": (new, add, import_, check, up, demo),
    "Load": (plan, apply, estimate, load, rejects, rollback),
    "Query": (tables, sql, explain, psql, attach, grant, export),
    "Tiers": (status, move, backfill, restore),
    "Models": (build, compile_models, ls),
    "Care": (doctor, verify, housekeep, backup, erase, lake, metrics),
}


@click.group(
    cls=SectionedGroup, help=HELP, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(version("lakebed"), package_name="lakebed", prog_name="lakebed")
def group() -> None:
    """Hold the commands together."""


group.add_sections(SECTIONS)


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
