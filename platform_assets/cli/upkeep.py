"""The commands that keep the tiers in order: verify, housekeep, doctor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lakebed.cli.home import opened, windows_of
from lakebed.cli.output import as_json, numbers, show
from lakebed.errors import PartlyFailedError

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform
    from lakebed.tiering.housekeep import Housekept
    from lakebed.tiering.verify import CheckedFile

SHOWN_PROBLEMS = 20


@click.command()
@click.argument("name", metavar="[TABLE]", required=False)
@click.option("--partition", "keys", multiple=True, help="A partition such as 2013-01; repeatable.")
@click.option("--deep", is_flag=True, help="Read every file: its SHA-256 and its rows.")
@as_json
def verify(name: str | None, keys: Sequence[str], deep: bool, as_json: bool) -> None:
    """Check the files of the lake against the manifest: each is there, and has its size.

    --deep reads them whole: SHA-256, count and fingerprint of every column are those of the day the
    file was written. The exit code is 1 where anything is wrong.
    """
    from lakebed.cli.progress import working
    from lakebed.tiering.verify import verify as verify_files

    platform = opened()
    tables = in_the_lake(platform, name)
    if keys and name is None:
        raise click.UsageError("--partition goes with one table")
    wanted = {window.key for window in windows_of(tables[0], keys)} if keys else None
    found: list[CheckedFile] = []
    with working("verifying") as work:
        for table in tables:
            work.now(f"verifying {table.name}")
            found += verify_files(platform, table, wanted, deep=deep, on_file=work.now)
    wrong = [file for file in found if file.problem]
    if as_json:
        click.echo(json.dumps([asdict(file) for file in found], indent=2))
    elif found:
        show(_verified(tables, found))
    if not found:
        click.echo("no file is live", err=True)
    if wrong:
        lines = [f"{file.path}: {file.problem}" for file in wrong[:SHOWN_PROBLEMS]]
        raise PartlyFailedError(
            f"{len(wrong)} of {len(found)} files are not what the manifest says; bring them back "
            "from a backup of the lake:\n  " + "\n  ".join(lines)
        )


@click.command()
@click.argument("name", metavar="[TABLE]", required=False)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@as_json
def housekeep(name: str | None, dry_run: bool, as_json: bool) -> None:
    """Take away what nobody needs any more, and make the leaves of the near future.

    Superseded and orphaned files of the lake after LAKEBED_FILE_GRACE, cold partitions past
    keep_cold_for, leaves past drop_emptied_after; emptied leaves are vacuumed. What a reader, a
    backup or a load that can be undone may still need stays, and is named with the reason.
    """
    from lakebed.cli.progress import working
    from lakebed.tiering.housekeep import housekeep as keep_house

    platform = opened()
    tables = None if name is None else [platform.table(name)]
    with working("keeping house") as work:
        done = keep_house(platform, tables, dry_run=dry_run, on_step=work.now)
    if as_json:
        click.echo(json.dumps(done.to_json(), indent=2, default=str))
    else:
        show(_housekept(done))
        for gap in done.gaps:
            click.echo(f"{gap}: there is no leaf, rows of it are refused", err=True)
        if dry_run:
            click.echo("this is what would be done; nothing was changed", err=True)
    if done.failed:
        raise PartlyFailedError("not done:\n  " + "\n  ".join(done.failed))


@click.command()
@as_json
def doctor(as_json: bool) -> None:
    """Say what is wrong with tables, tiers and server, and what to do about it. Changes nothing.

    Sources that are missing or refused, rows that wait in the quarantine, stale tables; who holds
    the snapshot horizon, moves and drops that wait too long, partitions that are missing, files
    that are missing or superseded, settings of the server that hurt. The exit code is 1 where
    anything is wrong; warnings and notes leave it 0.
    """
    from lakebed.monitoring.doctor import examine
    from lakebed.monitoring.findings import counted

    found = examine(opened())
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        click.echo(f"PostgreSQL {found.server}")
        for finding in found.findings:
            click.echo(f"{finding.level:7}  {finding.where}: {finding.what}")
            click.echo(f"         {finding.todo}")
    if not found.is_well:
        raise PartlyFailedError(counted(found.findings))
    click.echo(counted(found.findings), err=True)


def in_the_lake(platform: Platform, name: str | None) -> list[SourceTable]:
    """Return the named table, which must settle or be kept as snapshots, or all that are."""
    if name is not None and platform.table(name).kept_lake_copies:
        return [platform.table(name)]
    snapshots = [table for table in platform.tables if table.kept_lake_copies]
    return tiered(platform, name) + (snapshots if name is None else [])


def tiered(platform: Platform, name: str | None) -> list[SourceTable]:
    """Return the named table, which must have tiering, or all that have. Raises TableError."""
    if name is None:
        return [table for table in platform.tables if table.tiering is not None]
    table = platform.table(name)
    _ = table.require_tiering
    return [table]


def _verified(tables: Sequence[SourceTable], found: Sequence[CheckedFile]) -> Table:
    table = numbers("table", "files", "rows", "bytes", "wrong")
    for one in tables:
        files = [file for file in found if file.table == one.name]
        wrong = sum(file.problem is not None for file in files)
        rows, size = sum(file.rows for file in files), sum(file.bytes for file in files)
        table.add_row(one.name, f"{len(files):,}", f"{rows:,}", f"{size:,}", f"{wrong or ''}")
    return table


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
        add("", "made", f"{done.made} leaves", None, "of the near future")
    for file in done.swept:
        add(file.owner, "removed", file.path, file.bytes, file.why)
    for spared in done.spared:
        add(spared.owner, "waits", spared.path, spared.bytes, spared.why)
    if not table.rows:
        add("", "nothing to do", "", None, "")
    return table
