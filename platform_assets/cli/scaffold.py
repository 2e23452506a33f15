"""The commands that write table files to begin with: scaffold and adopt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

GRAINS = ("hour", "day", "week", "month", "year")


@click.command()
@click.argument("source", metavar="sqlite:FILE")
@click.option("--tables", multiple=True, metavar="TABLE", help="Only this table; may be repeated.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the files; LAKEBED_TABLES where it is not given.",
)
def scaffold(source: str, tables: Sequence[str], into: Path | None) -> None:
    """Write a table file for each table of a SQLite database, to be edited.

    FILE is relative to LAKEBED_DATA unless absolute. Types come from what is declared and stored,
    keys from primary keys; nothing that exists is overwritten.
    """
    from lakebed.resources.settings import read_settings
    from lakebed.scaffolding.scaffold import write_table_files

    kind, _, database = source.partition(":")
    if kind != "sqlite" or not database:
        raise click.UsageError("the source is sqlite:FILE, such as sqlite:shop.db")
    settings = read_settings()
    files = write_table_files(settings.data / database, database, tables, into or settings.tables)
    for file in files:
        click.echo(str(file))
    click.echo(f"{len(files)} table files written; look at the types and name a cursor", err=True)


@click.command()
@click.argument("place", metavar="SCHEMA.TABLE")
@click.option("--time", metavar="COLUMN", help="When a row is from; found where only one can be.")
@click.option("--grain", type=click.Choice(GRAINS), help="As the leaves are long; else month.")
@click.option("--hot-for", default="90d", show_default=True, help="Stay hot for: 12h, 90d, 8w.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="The table file, - for stdout; TABLE.py in LAKEBED_TABLES where it is not given.",
)
def adopt(
    place: str, time: str | None, grain: str | None, hot_for: str, output: Path | None
) -> None:
    """Write the table file of a table that others made and write, so that its rows settle.

    Types, key, comments and partitions are read from PostgreSQL; nothing of the table is changed,
    and a file that exists is not overwritten. A table that cannot settle is refused with the
    reason.
    """
    from lakebed.resources.postgres import Postgres
    from lakebed.resources.settings import read_settings
    from lakebed.scaffolding.adoption import AdoptionError
    from lakebed.scaffolding.adoption import adopt as adopt_table
    from lakebed.spec.partitions import Grain
    from lakebed.spec.times import read_duration

    settings = read_settings()
    with Postgres(settings).connect(autocommit=True) as connection:
        adopted = adopt_table(
            connection,
            place,
            settings.clock.now(),
            time=time,
            grain=Grain(grain) if grain else None,
            hot_for=read_duration(hot_for),
        )
    for note in adopted.notes:
        click.echo(f"note: {note}", err=True)
    if output == Path("-"):
        click.echo(adopted.file.text, nl=False)
        return
    file = output or settings.tables / f"{adopted.file.name}.py"
    if file.exists():
        raise AdoptionError(f"{file} exists; name another with --output, or move it away")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(adopted.file.text)
    click.echo(str(file))
    click.echo(
        f"look at it, then: lakebed plan {adopted.file.name}; lakebed move {adopted.file.name} "
        "--due",
        err=True,
    )
