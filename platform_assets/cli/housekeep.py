"""The command housekeep: delete what is superseded, apply retention, prepare partitions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from lakebed.cli.completion import complete_tables
from lakebed.cli.context import open_for_reading
from lakebed.cli.output import as_json, numbers, show
from lakebed.errors import PartlyFailedError

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.tiering.housekeep import Housekept


@click.command()
@click.argument("name", metavar="[TABLE]", required=False, shell_complete=complete_tables)
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@as_json
def housekeep(name: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete files that no reader needs; create coming partitions.

    Deletes superseded and orphaned files after LAKEBED_FILE_GRACE, cold partitions past
    keep_cold_for and partition tables past drop_emptied_after, and vacuums emptied ones. What a
    reader, a backup or an undoable load may still need stays, and is named with the reason.
    """
    from lakebed.cli.progress import working
    from lakebed.tiering.housekeep import housekeep as keep_house

    platform = open_for_reading()
    tables = None if name is None else [platform.table(name)]
    with working("keeping house") as work:
        done = keep_house(platform, tables, dry_run=dry_run, on_step=work.now)
    if as_json:
        click.echo(json.dumps(done.to_json(), indent=2, default=str))
    else:
        show(_housekept(done))
        for gap in done.gaps:
            click.echo(
                f"{gap}: there is no partition table, so PostgreSQL refuses its rows", err=True
            )
        if dry_run:
            click.echo("this is what would be done; nothing was changed", err=True)
    if done.failed:
        raise PartlyFailedError("not done:\n  " + "\n  ".join(done.failed))


_WOULD_BE = {
    "expired": "would expire",
    "vacuumed": "would be vacuumed",
    "dropped": "would be dropped",
    "removed": "would be removed",
}


def _housekept(done: Housekept) -> Table:
    table = numbers("table", "what", "which", "bytes")
    table.columns[1].justify = table.columns[2].justify = "left"
    table.add_column("why")

    def add(owner: str, what: str, which: str, size: int | None, why: str) -> None:
        said = _WOULD_BE.get(what, what) if done.dry_run else what
        table.add_row(owner, said, which, "" if size is None else f"{size:,}", why)

    for one in done.expired:
        add(one.table, "expired", one.partition_key, None, f"{one.rows + one.late:,} rows")
    for partition_table in done.partition_tables:
        add(
            partition_table.table,
            partition_table.what,
            partition_table.partition_table,
            partition_table.bytes,
            partition_table.why,
        )
    if done.made:
        add("", "made", f"{done.made} partition tables", None, "for coming partitions")
    for file in done.swept:
        add(file.owner, "removed", file.path, file.bytes, file.why)
    for spared in done.spared:
        add(spared.owner, "waits", spared.path, spared.bytes, spared.why)
    if not table.rows:
        add("", "nothing to do", "", None, "")
    return table
