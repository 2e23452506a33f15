"""The command estimate: the time and space that a load would take."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from lakebed.cli.completion import complete_tables
from lakebed.cli.output import as_json


@click.command()
@click.argument("name", metavar="TABLE", shell_complete=complete_tables)
@click.option(
    "--rows",
    default=100_000,
    show_default=True,
    type=click.IntRange(1, 2_000_000),
    help="The number of rows in the sample.",
)
@as_json
def estimate(name: str, rows: int, as_json: bool) -> None:
    """Estimate the time and space that a full load would take.

    Loads the first rows of the source into a temporary table, and leaves nothing behind.
    """
    from lakebed.cli.progress import working
    from lakebed.ingest.estimate import estimate as estimate_load
    from lakebed.resources.settings import read_settings
    from lakebed.store.platform import open_platform

    platform = open_platform(read_settings())
    table = platform.table(name)
    with working(f"{name}: loading a sample"):
        found = estimate_load(platform.settings, platform.postgres, platform.clock, table, rows)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    about = "" if found.rows_exact else "about "
    total = "an unknown number of" if found.rows is None else f"{about}{found.rows:,}"
    lines = [
        f"source      {found.files:,} files, {found.bytes:,} bytes, {total} rows",
        f"sample      {found.sampled:,} rows in {found.sample_seconds:.2f} s",
        f"rejects     {found.rejected:,} of the sample, {found.rejected / found.sampled:.2%}"
        f" ({table.reject_share:.2%} are allowed)",
        *(f"            {count:,} x {reason}" for reason, count in found.reasons),
    ]
    others = found.rejected - sum(count for _, count in found.reasons)
    if others:
        lines.append(f"            {others:,} for other reasons")
    if found.seconds is not None:
        lines.append(f"time        about {found.seconds:,.1f} s for all of it")
    if found.hot_bytes is not None:
        lines.append(f"PostgreSQL  about {found.hot_bytes:,} bytes with indexes")
    if found.cold_bytes is not None:
        lines.append(
            f"lake        about {found.cold_bytes:,} bytes after all partitions have moved"
        )
    click.echo("\n".join([name, *lines]))
