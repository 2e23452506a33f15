"""The command that brings settled partitions back to PostgreSQL: restore."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.completion import complete_partitions, complete_tables
from lakebed.cli.context import open_for_reading
from lakebed.cli.errors import words
from lakebed.cli.lake_copies import refresh_catalog
from lakebed.cli.output import as_json
from lakebed.errors import FAILED, PartlyFailedError, exit_code

if TYPE_CHECKING:
    from lakebed.spec.partitions import Window
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform
    from lakebed.tiering.restore import Restored


@click.command()
@click.argument("name", metavar="TABLE", shell_complete=complete_tables)
@click.option(
    "--partition",
    "keys",
    multiple=True,
    shell_complete=complete_partitions,
    help="A partition such as 2013-01; repeatable.",
)
@click.option("--from", "since", metavar="TIME", help="All moved partitions from this time on ...")
@click.option("--to", "until", metavar="TIME", help="... that begin before this time.")
@click.option(
    "--hold", default="7d", show_default=True, help="Stay hot for so long: 12h, 30d, 4w, 0d."
)
@as_json
def restore(
    name: str,
    keys: Sequence[str],
    since: str | None,
    until: str | None,
    hold: str,
    as_json: bool,
) -> None:
    """Bring moved partitions back to PostgreSQL.

    They are verified, and no policy moves them again until --hold is over. Partitions are restored
    in order, each in a transaction of its own. If one fails, the others are restored all the same,
    and the exit code is 1. `lakebed backup restore` restores a table from a backup.
    """
    from lakebed.tiering.restorable import chosen, hold_of

    platform = open_for_reading()
    table = platform.table(name)
    _ = table.require_tiering
    held_for = hold_of(hold)
    with platform.postgres.connect() as connection:
        windows = chosen(connection, table, keys, since, until)
    done, failed = _restore(platform, table, windows, held_for)
    if as_json:
        click.echo(json.dumps([*map(asdict, done), *failed], indent=2, default=str))
    if not windows:
        click.echo(f"{name}: nothing has settled there", err=True)
    failures = [_failure(f) for f in failed]
    if any(item.generation for item in done):
        failures += refresh_catalog(platform)
    if failures:
        raise PartlyFailedError(f"{len(failures)} not restored:\n  " + "\n  ".join(failures))


def _failure(failed: dict[str, Any]) -> str:
    where = f"{failed['table']} {failed['partition_key']}"
    return f"{where}: {failed['error'].removeprefix(f'{where}: ')}"


def _restore(
    platform: Platform, table: SourceTable, windows: Sequence[Window], hold: timedelta
) -> tuple[list[Restored], list[dict[str, Any]]]:
    from lakebed.cli.progress import working
    from lakebed.tiering.restore import restore as restore_window

    done: list[Restored] = []
    failed: list[dict[str, Any]] = []
    with working(f"restoring {table.name}", parts=len(windows)) as work:
        for window in windows:
            work.now(f"restoring {table.name} {window.key}")
            try:
                item = restore_window(
                    *(platform.postgres, platform.lake, table, window, platform.clock.now()),
                    hold=hold,
                )
            except Exception as error:
                if exit_code(error) != FAILED:
                    raise
                failed.append(
                    {"table": table.name, "partition_key": window.key, "error": words(error)}
                )
                continue
            done.append(item)
            work.rows(item.rows)
            work.part()
            click.echo(item.line, err=True)
    return done, failed
