"""The command rollback: undo loads of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.completion import complete_tables
from lakebed.cli.confirm import confirm
from lakebed.cli.context import open_for_reading
from lakebed.cli.lake_copies import write_lake_copies
from lakebed.cli.output import as_json
from lakebed.errors import PartlyFailedError

if TYPE_CHECKING:
    from lakebed.recovery.rollback_candidates import RollbackCandidate
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform

LISTED = 50


NAMED = 3
"""So many of several files are named."""


@click.command()
@click.argument("name", metavar="TABLE", shell_complete=complete_tables)
@click.option("--load", "load_id", metavar="ID", help="Undo this load and all that came after it.")
@click.option("--list", "listed", is_flag=True, help="Show the loads that can be undone.")
@click.option("--reload", is_flag=True, help="Let the next load read the same files again.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def rollback(
    name: str,
    load_id: str | None,
    listed: bool,
    reload: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Undo the last load of a table, or go back further.

    All in one transaction. It says what would happen and asks; without a terminal it needs --yes.
    If other writers changed rows of the loads, or partitions of them have moved, it changes
    nothing. A file whose load is undone is loaded again only after it changes: see --reload.
    `lakebed backup restore` restores a table from a backup.
    """
    platform = open_for_reading()
    table = platform.table(name)
    if listed:
        _list(platform, table, as_json)
    else:
        _undo(platform, table, load_id, reload, yes, as_json)


def _undo(
    platform: Platform,
    table: SourceTable,
    load_id: str | None,
    reload: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from lakebed.recovery.rollback import rollback as roll_back
    from lakebed.recovery.rollback_candidates import loads_to_undo

    with platform.postgres.connect() as connection:
        loads = loads_to_undo(connection, table, load_id)
    click.echo(f"{table.name}: to be undone, the newest first:", err=True)
    for load in loads:
        click.echo(f"  {_line(load)}", err=True)
    confirm(yes)
    done = roll_back(
        platform.postgres,
        platform.lake.files,
        table,
        load_id,
        expected=[load.load_id for load in loads],
        reload=reload,
    )
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2))
    else:
        click.echo(
            f"{table.name}: {_loads(len(done.loads))} undone, {done.removed:,} rows removed, "
            f"{done.restored:,} as they were before"
        )
    finish_rollback(platform, table, done.loads, reload=reload, quiet=as_json)


def finish_rollback(
    platform: Platform, table: SourceTable, loads: Sequence[str], *, reload: bool, quiet: bool
) -> None:
    """Say what the next load reads, unless quiet; let the lake show the table as it is now."""
    if not quiet:
        _print_next_load(platform, table, loads, reload)
    problems = write_lake_copies(platform, table, changed=True)
    if problems:
        raise PartlyFailedError("\n".join(problems))


def _list(platform: Platform, table: SourceTable, as_json: bool) -> None:
    from lakebed.recovery.rollback_candidates import loads_of

    with platform.postgres.connect() as connection:
        loads = loads_of(connection, table)
    if as_json:
        click.echo(json.dumps([_shown(load) for load in loads], indent=2))
        return
    for load in loads[:LISTED]:
        click.echo(_line(load))
        if load.problem is not None:
            click.echo(f"{load.problem}. Loads before it cannot be undone either")
            return
    if not loads:
        click.echo(f"{table.name}: no load of it stands")
    elif len(loads) > LISTED:
        click.echo(f"{len(loads) - LISTED:,} older ones can be undone too; see --json", err=True)


def _line(load: RollbackCandidate) -> str:
    return (
        f"{load.load_id}  {load.committed_at:%Y-%m-%d %H:%M:%S}  {load.inserted:,} inserted, "
        f"{load.updated:,} updated, {load.deleted:,} deleted, from {load.files:,} files"
    )


def _loads(number: int) -> str:
    return "1 load" if number == 1 else f"{number} loads"


def _shown(load: RollbackCandidate) -> dict[str, Any]:
    columns: Sequence[str] = ("load_id", "inserted", "updated", "deleted", "files", "problem")
    values: dict[str, Any] = {name: getattr(load, name) for name in columns}
    return values | {"committed_at": load.committed_at.isoformat()}


def _print_next_load(
    platform: Platform, table: SourceTable, loads: Sequence[str], reload: bool
) -> None:
    """Say what the next load does with the files of what was undone, as they are now."""
    from lakebed.ingest.sources.reader import SourceError

    try:
        then = _what_is_next(platform, table, loads, reload)
    except SourceError as error:
        then = [f"The source cannot be asked now: {error}"]
    click.echo(". ".join([*then, "Cold and model assets follow with their next run"]), err=True)


def _what_is_next(
    platform: Platform, table: SourceTable, loads: Sequence[str], reload: bool
) -> list[str]:
    from lakebed.ingest.sources.readers import reader_of
    from lakebed.recovery.rolled_back_files import rolled_back_files

    if table.source is None:
        return []
    if table.load_by == "window":
        return ["A load of the same windows reads the source again"]
    found = reader_of(table, platform.settings).glance()
    with platform.postgres.connect() as connection:
        files = rolled_back_files(connection, table, loads, found)
    if table.source.resumes == "query":
        if files.again:
            return ["The next load asks the source for its rows again: mend it there first"]
        return ["Its rows are asked for again when the source changes; see --reload"]
    # Whoever did not say --reload did so before for the same file, or it is another one now.
    why = "" if reload else ": it was undone with --reload before, or has changed"
    said = {
        f"The next load reads again what was undone of {{}}, as it is now{why}": files.again,
        "What was undone of {} waits until it changes": files.out,
        "What was undone of {} is not read again: it is gone": files.gone,
        "What an earlier rollback without --reload undid of {} waits until it changes": (
            files.earlier
        ),
    }
    return [text.format(_files(names)) for text, names in said.items() if names]


def _files(names: Sequence[str]) -> str:
    """Name a file, or some of many."""
    if len(names) == 1:
        return names[0]
    more = "" if len(names) <= NAMED else ", ..."
    return f"{len(names):,} files ({', '.join(names[:NAMED])}{more})"
