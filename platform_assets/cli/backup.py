"""The commands of backups: create, list, restore, delete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lakebed.cli.completion import complete_tables
from lakebed.cli.confirm import confirm
from lakebed.cli.context import open_for_reading
from lakebed.cli.output import as_json
from lakebed.cli.rollback import finish_rollback

if TYPE_CHECKING:
    from lakebed.recovery.backup import Backup

_table = click.argument("name", metavar="TABLE", shell_complete=complete_tables)
_backup = click.argument("backup_id", metavar="BACKUP")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group()
def backup() -> None:
    """Back up one table, and restore it from a backup."""


@backup.command()
@_table
@as_json
def create(name: str, as_json: bool) -> None:
    """Back up a table: its hot rows to a verified file, its cold files by reference.

    The file is below LAKEBED_HOME/backups. Loads of the table wait for the backup, readers and
    other writers do not.
    """
    from lakebed.cli.progress import working
    from lakebed.recovery.backup import take_backup

    platform = open_for_reading()
    table = platform.table(name)
    with working(f"{name}: counting") as work:
        taken = take_backup(
            platform.settings.home,
            platform.postgres,
            platform.lake,
            table,
            on_step=lambda step: work.now(f"{name}: {step}"),
        )
    _show(name, [taken], as_json)


@backup.command(name="list")
@_table
@as_json
def list_backups(name: str, as_json: bool) -> None:
    """List the backups of a table, the newest first."""
    from lakebed.recovery.backup import backups_of

    platform = open_for_reading()
    table = platform.table(name)
    with platform.postgres.connect() as connection:
        found = backups_of(connection, table)
    _show(name, found, as_json)


@backup.command()
@_table
@_backup
@click.option("--reload", is_flag=True, help="Let the next load read the same files again.")
@_yes
@as_json
def restore(name: str, backup_id: str, reload: bool, yes: bool, as_json: bool) -> None:
    """Put a backup back: the table becomes what it was, hot and cold, in one transaction.

    Says what would happen and asks; without a terminal it needs --yes. A single partition comes
    back to PostgreSQL with `lakebed restore`.
    """
    from lakebed.recovery.restore_backup import find_backup
    from lakebed.recovery.restore_backup import restore as put_back

    platform = open_for_reading()
    table = platform.table(name)
    with platform.postgres.connect() as connection:
        found = find_backup(connection, table, backup_id)
    click.echo(
        f"{name}: becomes what it was at {found.taken_at:%Y-%m-%d %H:%M:%S} UTC, with "
        f"{found.rows:,} hot rows. Rows that loads or applications wrote since then are removed",
        err=True,
    )
    confirm(yes)
    done = put_back(
        platform.settings.home,
        platform.postgres,
        platform.lake.files,
        table,
        backup_id,
        reload=reload,
    )
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2, default=str))
    else:
        loads = "1 load" if len(done.loads) == 1 else f"{len(done.loads)} loads"
        click.echo(
            f"{name}: {done.removed:,} rows removed, {done.updated:,} changed, "
            f"{done.inserted:,} inserted; {loads} rolled back"
        )
    finish_rollback(platform, table, done.loads, reload=reload, quiet=as_json)


@backup.command()
@_table
@_backup
@_yes
def delete(name: str, backup_id: str, yes: bool) -> None:
    """Delete a backup and its file. Cold files that only it needed go with the next housekeeping.

    Asks first; without a terminal it needs --yes.
    """
    from lakebed.recovery.backup import delete_backup
    from lakebed.recovery.restore_backup import find_backup

    platform = open_for_reading()
    table = platform.table(name)
    with platform.postgres.connect() as connection:
        found = find_backup(connection, table, backup_id)
    click.echo(
        f"{name}: the backup of {found.taken_at:%Y-%m-%d %H:%M:%S} UTC with {found.rows:,} hot "
        "rows is deleted for good",
        err=True,
    )
    confirm(yes)
    delete_backup(platform.settings.home, platform.postgres, found)
    click.echo(f"{name}: backup {backup_id} deleted")


def _show(name: str, found: Sequence[Backup], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(item) for item in found], indent=2, default=str))
        return
    for item in found:
        click.echo(
            f"{item.backup_id}  {item.taken_at:%Y-%m-%d %H:%M:%S}  {item.rows:,} hot rows, "
            f"{item.bytes:,} bytes, {len(item.generations)} cold partitions"
        )
    if not found:
        click.echo(f"{name} has no backup")
