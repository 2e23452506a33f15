"""The commands that take a table back to what it was: backup and rollback."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.home import opened
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
@click.argument("name", metavar="TABLE")
@click.option("--list", "listed", is_flag=True, help="Show the backups that there are.")
@as_json
def backup(name: str, listed: bool, as_json: bool) -> None:
    """Keep a table as it is, hot and cold; `lakebed rollback TABLE --backup ID` puts it back.

    The hot rows go to a file below the home, which is verified; of the cold files, which never
    change, their names are kept. Loads of the table wait meanwhile, readers and writers do not.
    """
    from lakebed.recovery.backup import backups_of, take_backup

    platform = opened()
    table = platform.table(name)
    if listed:
        with platform.postgres.connect() as connection:
            found = backups_of(connection, table)
    else:
        from lakebed.cli.progress import working

        with working(f"{name}: counting") as work:
            found = [
                take_backup(
                    platform.settings.home,
                    platform.postgres,
                    platform.lake,
                    table,
                    on_step=lambda step: work.now(f"{name}: {step}"),
                )
            ]
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


@click.command()
@click.argument("name", metavar="TABLE")
@click.option("--load", "load_id", metavar="ID", help="Undo this load and all that came after it.")
@click.option("--backup", "backup_id", metavar="ID", help="Put this backup back.")
@click.option("--list", "listed", is_flag=True, help="Show the loads that can be undone.")
@click.option("--reload", is_flag=True, help="Let the next load read the same files again.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def rollback(
    name: str,
    load_id: str | None,
    backup_id: str | None,
    listed: bool,
    reload: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Undo the last load of a table, or go back further, in one transaction.

    Says what would happen and asks; without a terminal it needs --yes. Where rows of the loads were
    changed by others, or have settled, nothing is changed. A file that was undone is not loaded
    again by itself until it changes: see --reload.
    """
    if load_id is not None and backup_id is not None:
        raise click.UsageError("--load or --backup, one of the two")
    platform = opened()
    table = platform.table(name)
    if listed:
        _list(platform, table, as_json)
    elif backup_id is not None:
        _restore(platform, table, backup_id, reload, yes, as_json)
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
        _print_next_load(platform, table, done.loads, reload)
    _write_lake_copies(platform, table)


def _restore(
    platform: Platform, table: SourceTable, backup_id: str, reload: bool, yes: bool, as_json: bool
) -> None:
    from lakebed.recovery.restore_backup import find_backup, restore

    with platform.postgres.connect() as connection:
        found = find_backup(connection, table, backup_id)
    click.echo(
        f"{table.name}: becomes what it was at {found.taken_at:%Y-%m-%d %H:%M:%S} UTC, with "
        f"{found.rows:,} hot rows; what was written since, by loads or by others, goes",
        err=True,
    )
    confirm(yes)
    done = restore(
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
        click.echo(
            f"{table.name}: {done.removed:,} rows removed, {done.updated:,} changed, "
            f"{done.inserted:,} inserted; {_loads(len(done.loads))} rolled back"
        )
        _print_next_load(platform, table, done.loads, reload)
    _write_lake_copies(platform, table)


def _write_lake_copies(platform: Platform, table: SourceTable) -> None:
    """Let the lake show the table as it is now."""
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


def confirm(yes: bool) -> None:
    """Ask on a terminal; elsewhere --yes is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this changes the table; say --yes")
    click.confirm("Go on?", abort=True, err=True)


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
