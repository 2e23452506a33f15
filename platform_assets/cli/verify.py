"""The command verify: hold the files of the lake against the manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lakebed.cli.completion import complete_partitions, complete_tables
from lakebed.cli.context import open_for_reading
from lakebed.cli.output import as_json, numbers, show
from lakebed.errors import PartlyFailedError

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform
    from lakebed.tiering.verify import CheckedFile

SHOWN_PROBLEMS = 20


@click.command()
@click.argument("name", metavar="[TABLE]", required=False, shell_complete=complete_tables)
@click.option(
    "--partition",
    "keys",
    multiple=True,
    shell_complete=complete_partitions,
    help="A partition such as 2013-01; repeatable.",
)
@click.option("--deep", is_flag=True, help="Read every file: its SHA-256 and its rows.")
@as_json
def verify(name: str | None, keys: Sequence[str], deep: bool, as_json: bool) -> None:
    """Check the files of the lake against the manifest.

    Each file must exist and have its size. --deep reads the files: SHA-256, row count and the
    fingerprint of every column must be those of the day the file was written. The exit code is 1
    if anything is wrong.
    """
    from lakebed.cli.progress import working
    from lakebed.operations.load_tables import windows_of
    from lakebed.tiering.verify import verify as verify_files

    platform = open_for_reading()
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
