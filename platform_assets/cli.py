"""The entry point of the command `lakebed`: its group, its errors and its exit codes."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import version

import click

from platform_assets.commands.errors import EXPECTED, exit_code
from platform_assets.commands.run import build, demo, load, move, up
from platform_assets.commands.show import rejects, sql, status

HELP = """Load tables into PostgreSQL, let old partitions settle as Parquet, query both as one.

\b
  lakebed demo                                      real flights through all of it
  lakebed load --all                                what is new in every source
  lakebed move flights --due                        old partitions to the lake
  lakebed sql "select count(*) from flights"        over both tiers
  lakebed up                                        the Dagster UI and its sensors

\b
Exit codes: 0 done, 1 it failed or a part of it did, 2 wrong usage or settings,
3 PostgreSQL cannot be reached, 130 stopped by Ctrl-C.
"""


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("lakebed"), package_name="lakebed", prog_name="lakebed")
def group() -> None:
    """Hold the commands together."""


for command in (demo, up, load, move, build, sql, status, rejects):
    group.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit; expected errors are one line on stderr, without a traceback."""
    # SIGTERM ends like Ctrl-C, so that the embedded server is stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        group.main(arguments, prog_name="lakebed", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped; what was not committed did not happen", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Who read our output has seen enough (lakebed sql ... | head).
        sys.stderr.close()
        sys.exit(0)
    except EXPECTED as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
