"""The command import: a whole database, with its keys and indexes, compared at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.load import load_with_progress
from lakebed.cli.output import as_json, fail, numbers, show

if TYPE_CHECKING:
    from lakebed.importing.create_structure import StructureOutcome
    from lakebed.importing.import_database import ImportPlan, ImportReport


@click.command("import")
@click.argument("source", metavar="SOURCE")
@click.option("--include", multiple=True, metavar="PATTERN", help="Tables such as 'order*' alone.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out such tables.")
@click.option("--schema", metavar="SCHEMA", help="Of sql:SETTING, the schema of the tables.")
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@as_json
def import_(
    source: str,
    include: Sequence[str],
    exclude: Sequence[str],
    schema: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import a whole database, and compare both sides.

    Writes table files, and loads rows, keys, indexes and defaults.

    \b
    SOURCE is sqlite:shop.db or duckdb:shop.duckdb, in the folder data/ or as the shell names it;
    or sql:SHOP_URL, where SHOP_URL in .env holds the URL of PostgreSQL, MySQL or MariaDB.

    Writes a table file for each table that has none, loads parents before children, then creates
    primary, unique and foreign keys, indexes, identities, defaults and CHECKs. Counts, sums, least
    and greatest values of both sides are compared. Views and triggers are listed. The same command
    later brings what changed. The exit code is 1 where anything differs from the source.
    """  # noqa: D301
    from lakebed.importing.import_database import plan_import, run_import
    from lakebed.importing.sources import open_source
    from lakebed.resources.settings import read_settings

    if schema is not None and not source.startswith("sql:"):
        raise click.UsageError("--schema goes with sql:SETTING")
    settings = read_settings()
    plan = plan_import(settings, open_source(settings, source, schema), include, exclude)
    if dry_run:
        _show_plan(plan, as_json)
        return
    report = run_import(
        settings,
        plan,
        load=load_with_progress,
        on_load=lambda table, rows: click.echo(f"{table}: {rows:,} rows read", err=True),
        on_structure=_say_structure,
    )
    if as_json:
        click.echo(json.dumps(_document(report), indent=2, default=str, ensure_ascii=False))
    else:
        _show_report(report)
    fail(report.problems, "not as in the source")


def _say_structure(outcome: StructureOutcome) -> None:
    if outcome.state in ("failed", "left out"):
        click.echo(f"{outcome.table}: {outcome.kind} {outcome.name}: {outcome.state}", err=True)


def _show_plan(plan: ImportPlan, as_json: bool) -> None:
    new = {file.name for file in plan.files}
    if as_json:
        document = {
            "tables": [
                {
                    "source": one.source,
                    "table": one.table.name,
                    "file": "new" if one.table.name in new else "kept",
                    "columns": {c.name: c.postgres for c in one.table.columns},
                    "key": one.table.key,
                }
                for one in plan.tables
            ],
            "excluded": plan.excluded,
            "failures": plan.failures,
            **asdict(plan.structure),
        }
        click.echo(json.dumps(document, indent=2, default=_plain, ensure_ascii=False))
        return
    structure = {table.name: table for table in plan.structure.tables}
    for one in plan.tables:
        state = "new table file" if one.table.name in new else "table file kept"
        click.echo(f"{one.source} -> {one.table.name} ({state})")
        for column in one.table.columns:
            null = "" if column.nullable else " not null"
            click.echo(f"    {column.name} {column.postgres}{null}")
        found = structure[one.source]
        if found.primary_key:
            click.echo(f"  primary key ({', '.join(found.primary_key)})")
        if found.identity:
            click.echo(f"  identity {found.identity}")
        for name, text in found.defaults.items():
            click.echo(f"  default {name} = {text}")
        for index in found.indexes:
            kind = "unique key" if index.unique else "index"
            where = f" where {index.where}" if index.where else ""
            parts = ", ".join(index.columns or index.expressions)
            click.echo(f"  {kind} {index.name} ({parts}){where}".replace("  (", " ("))
        for check in found.checks:
            click.echo(f"  check {check.expression}")
        for key in found.foreign_keys:
            columns, theirs = ", ".join(key.columns), ", ".join(key.parent_columns)
            click.echo(f"  foreign key ({columns}) references {key.parent} ({theirs})")
        for left in found.left_out:
            click.echo(f"  left out: {left.kind} {left.name}: {left.why}\n      {left.text}")
    for left in plan.structure.left_out:
        click.echo(f"left out: {left.kind} {left.name}: {left.why}\n    {left.text}")
    for text in plan.failures.values():
        click.echo(text)
    for name in plan.excluded:
        click.echo(f"excluded: {name}")


def _show_report(report: ImportReport) -> None:
    rows = _by_table(report)
    table = numbers("table", "read", "loaded", "rejected", "rows", "source", "checked", "seconds")
    for name, row in rows.items():
        table.add_row(
            name,
            *(f"{row[key]:,}" for key in ("read", "loaded", "rejected", "rows", "source_rows")),
            row["checked"],
            f"{row['seconds']:.2f}",
        )
    totals = [sum(row[key] for row in rows.values()) for key in _SUMMED]
    seconds = sum(row["seconds"] for row in rows.values())
    table.add_row("total", *(f"{total:,}" for total in totals), "", f"{seconds:.2f}")
    show(table)
    kinds = list(dict.fromkeys(one.kind for one in report.structure))
    if kinds:
        states = ("created", "exists", "failed", "left out")
        objects = numbers("structure", *states)
        for kind in kinds:
            counts = [
                sum(one.kind == kind and one.state == state for one in report.structure)
                for state in states
            ]
            objects.add_row(kind, *map(str, counts))
        show(objects)
    for one in report.structure:
        if one.state == "left out":
            click.echo(f"left out: {one.table}: {one.kind} {one.name}: {one.why}")
    for left in report.left_out:
        click.echo(f"left out: {left.kind} {left.name}: {left.why}\n    {left.text}")


_SUMMED = ("read", "loaded", "rejected", "rows", "source_rows")


def _by_table(report: ImportReport) -> dict[str, dict[str, Any]]:
    """Return the figures of the last table, by table."""
    checks = {one.table: one for one in report.checks}
    names = dict.fromkeys([*(load.table for load in report.loads), *checks, *report.failures])
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        loads = [load for load in report.loads if load.table == name]
        check = checks.get(name)
        built = sum(one.seconds for one in report.structure if one.table == name)
        found[name] = {
            "read": sum(load.rows_read for load in loads),
            "loaded": sum(load.inserted + load.updated for load in loads),
            "rejected": 0 if check is None else check.rejected,
            "rows": 0 if check is None else check.rows,
            "source_rows": 0 if check is None else check.source_rows or 0,
            "checked": _checked(report, name),
            "seconds": sum(load.seconds for load in loads) + built,
        }
    return found


def _checked(report: ImportReport, name: str) -> str:
    check = next((one for one in report.checks if one.table == name), None)
    if name in report.failures or check is None:
        return "not loaded"
    if check.differences:
        return "differs"
    passed = f", {len(check.not_compared)} not compared" if check.not_compared else ""
    return f"same: {check.columns} columns{passed}"


def _document(report: ImportReport) -> dict[str, Any]:
    return {
        "same": not report.problems,
        "tables": [{"table": name, **row} for name, row in _by_table(report).items()],
        "checks": [asdict(one) for one in report.checks],
        "structure": [asdict(one) for one in report.structure],
        "left_out": [asdict(one) for one in report.left_out],
        "problems": report.problems,
    }


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)
