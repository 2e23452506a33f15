"""The command rejects: the quarantine of a table listed, exported, and loaded again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.completion import complete_tables
from lakebed.cli.context import open_for_reading
from lakebed.cli.lake_copies import write_lake_copies
from lakebed.errors import PartlyFailedError

if TYPE_CHECKING:
    from lakebed.ingest.waiting import Selection
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform


@click.command()
@click.argument("name", metavar="TABLE", shell_complete=complete_tables)
@click.option("--load", "load_id", metavar="ID", help="Only those that this load rejected.")
@click.option("--column", metavar="NAME", help="Only rows that are bad in this column.")
@click.option("--resolved", is_flag=True, help="Those that were loaded by a retry, or superseded.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many are shown, the newest first.",
)
@click.option(
    "--export",
    "output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all of them to a file: .csv, .jsonl or .parquet.",
)
@click.option("--retry", is_flag=True, help="Load them again, after a fix of table file or rows.")
@click.option(
    "--set", "changes", multiple=True, metavar="COLUMN=VALUE", help="Change the rows; repeatable."
)
@click.option(
    "--where", "conditions", multiple=True, metavar="COLUMN=VALUE", help="With --set: which rows."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def rejects(
    name: str,
    load_id: str | None,
    column: str | None,
    resolved: bool,
    limit: int,
    output: Path | None,
    retry: bool,
    changes: Sequence[str],
    conditions: Sequence[str],
    as_json: bool,
) -> None:
    """Show rows that broke the contract, or load them again.

    Shows how many rows each reason rejected, then the newest rows with file, row number and reason.
    --set changes columns of the source in waiting rows, all or those that --where, --load and
    --column choose. --retry then loads the rows that are good in one transaction; the others stay,
    with their new reason. A load that reads a file again supersedes what it had rejected.
    """
    from lakebed.ingest.waiting import Selection

    if retry and (output is not None or resolved):
        raise click.UsageError("--retry goes with --load and --column only")
    if changes and (retry or resolved or output is not None):
        raise click.UsageError("--set goes with --where, --load and --column; then say --retry")
    if conditions and not changes:
        raise click.UsageError("--where goes with --set COLUMN=VALUE")
    if output is not None:
        _check_output(output)
    platform = open_for_reading()
    table = platform.table(name)
    chosen = Selection(table.name, load_id, column, resolved)
    if changes:
        _set(platform, table, chosen, changes, conditions)
    elif retry:
        _retry(platform, table, chosen, as_json)
    elif output is not None:
        _export(platform, table, chosen, output)
    else:
        _list(platform, chosen, limit, as_json)


def _check_output(output: Path) -> None:
    from lakebed.ingest.waiting import FORMATS

    if output.suffix.lower() not in FORMATS:
        raise click.BadParameter(
            f"{output.name} ends with none of {', '.join(FORMATS)}", param_hint="--export"
        )
    if not output.absolute().parent.is_dir():
        raise click.BadParameter(
            f"there is no folder {output.absolute().parent}", param_hint="--export"
        )


def _list(platform: Platform, chosen: Any, limit: int, as_json: bool) -> None:
    from lakebed.ingest.waiting import count_by_reason, newest

    with platform.postgres.connect() as connection:
        rows, of_rows = newest(connection, chosen, limit)
        reasons = count_by_reason(connection, chosen)
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        narrowed = chosen.load_id or chosen.column or chosen.resolved
        said = "no such row in the quarantine" if narrowed else "the quarantine is empty"
        click.echo(f"{chosen.table}: {said}")
    for kind, rule, column, count in reasons if of_rows > 1 else ():
        about = " ".join(filter(None, (kind, rule, column and f"in {column}")))
        click.echo(f"{count:>9,}  {about}")
    for row in rows:
        place = f"{row['source_file']}, row {row['row_number']}"
        click.echo(f"{place}: {row['message']} (rejected_row_id {row['rejected_row_id']})")
        click.echo(f"    {json.dumps(row['source_row'], ensure_ascii=False)}")
    if of_rows > len(rows):
        click.echo(f"{of_rows - len(rows):,} more; see --limit and --export", err=True)


def _set(
    platform: Platform,
    table: SourceTable,
    chosen: Selection,
    changes: Sequence[str],
    conditions: Sequence[str],
) -> None:
    """Change columns of rows in the quarantine, and say how to load them."""
    from lakebed.ingest.waiting import set_values

    values = _assignments(table, changes, "--set")
    where = _assignments(table, conditions, "--where")
    with platform.postgres.connect() as connection:
        rows = set_values(connection, table, chosen, values, where)
    click.echo(f"{table.name}: {rows:,} rows changed in the quarantine")
    if rows:
        click.echo(f"load them with: lakebed rejects {table.name} --retry", err=True)


def _assignments(table: SourceTable, texts: Sequence[str], option: str) -> dict[str, str]:
    """Return the value of each source column from texts such as country=FR."""
    found = {}
    for text in texts:
        column, equals, value = text.partition("=")
        if not equals or column not in table.source_columns:
            known = ", ".join(table.source_columns)
            raise click.BadParameter(
                f"{text!r} is not COLUMN=VALUE. Expected a column of the source: {known}",
                param_hint=option,
            )
        found[column] = value
    return found


def _export(platform: Platform, table: SourceTable, chosen: Any, output: Path) -> None:
    from lakebed.cli.progress import working
    from lakebed.ingest.waiting import export

    with working(f"writing {output.name}") as work, platform.postgres.connect() as connection:
        rows = export(connection, table, chosen, output, work.rows)
    click.echo(f"{rows:,} rows in {output}", err=True)


def _retry(platform: Platform, table: SourceTable, chosen: Any, as_json: bool) -> None:
    from lakebed.cli.progress import working
    from lakebed.ingest.retry import retry_rejects
    from lakebed.ingest.waiting import newest

    with working(f"{table.name}: loading rejected rows again") as work:
        report = retry_rejects(
            platform.settings,
            platform.postgres,
            platform.clock,
            table,
            load_id=chosen.load_id,
            column=chosen.column,
            on_rows=work.rows,
        )
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    elif report.load_id is None:
        click.echo(f"{table.name}: nothing to load again")
    else:
        with platform.postgres.connect() as connection:
            _, waiting = newest(connection, chosen, 1)
        click.echo(
            f"{table.name}: {report.rows_read:,} rows read again, "
            f"{report.rows_read - report.rejected:,} left the quarantine "
            f"({report.inserted:,} inserted, {report.updated:,} updated, "
            f"{report.unchanged:,} unchanged, {report.superseded:,} superseded), "
            f"{waiting:,} wait in it"
        )
    problems = write_lake_copies(platform, table)
    if report.refused:
        refused = [f"{r.path}: {r.problem}" for r in report.refused]
        raise PartlyFailedError(
            f"{len(refused)} groups of rows not loaded:\n  " + "\n  ".join(refused + problems)
        )
    if problems:
        raise PartlyFailedError("\n".join(problems))
