"""The command export: tables and models as files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakebed.cli.check import words_of
from lakebed.cli.completion import complete_relations
from lakebed.cli.context import open_for_reading
from lakebed.cli.output import as_json, fail

if TYPE_CHECKING:
    from lakebed.exports.write import Exported
    from lakebed.spec.export import Export
    from lakebed.store.platform import Platform

FORMATS = ("csv", "csv.gz", "parquet", "duckdb")


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_relations)
@click.option("--all", "everything", is_flag=True, help="Every table and model, or every export.")
@click.option("--output", metavar="PATH", help="A file, a URL, or - for standard output (CSV).")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="By default, the ending of the output."
)
@click.option("--where", metavar="SQL", help="A condition, such as \"origin = 'JFK'\".")
@click.option("--columns", metavar="A,B", help="By default all, in their order.")
@click.option("--order-by", metavar="A,B", help="Columns; desc may follow a name.")
@click.option("--no-order", is_flag=True, help="Do not sort the rows; faster.")
@click.option("--delimiter", metavar="CHAR", help="Of CSV, by default a comma; \\t is a tab.")
@click.option("--null", metavar="TEXT", help="The text for null in CSV, by default nothing.")
@click.option("--no-header", is_flag=True, help="CSV without the line of names.")
@as_json
def export(
    names: Sequence[str],
    everything: bool,
    output: str | None,
    form: str | None,
    where: str | None,
    columns: str | None,
    order_by: str | None,
    no_order: bool,
    delimiter: str | None,
    null: str | None,
    no_header: bool,
    as_json: bool,
) -> None:
    """Write a table or a model to a file.

    All rows come from one snapshot. With --output, NAME is a table or a model; several go into one
    DuckDB file. Without it, NAME is an export that a table file declares. The file appears under
    its name when it is complete.
    """
    if bool(names) == everything:
        raise click.UsageError("Name what to export, or say --all")
    options = [form, where, columns, order_by, delimiter, null, no_order, no_header]
    if output is None and any(options):
        raise click.UsageError("say --output PATH; a declared export has its options declared")
    platform = open_for_reading()
    if output is None:
        exports = _declared(platform, names)
    else:
        from lakebed.spec.export import Csv, Export

        shown = {"header": not no_header, "delimiter": delimiter, "null": null}
        shown["delimiter"] = "\t" if delimiter == "\\t" else delimiter
        exports = [
            Export(
                name="export",
                of=tuple(names) or _all(platform),
                path=_place(output),
                format=form or ("csv" if output == "-" else None),  # type: ignore[arg-type]
                where=where,
                columns=_split(columns),
                order_by=_split(order_by),
                ordered=not no_order,
                csv=Csv(**{k: v for k, v in shown.items() if v is not None}),  # type: ignore[arg-type]
            )
        ]
    if output == "-":
        _stream(platform, exports[0])
        return
    done = [_write(platform, each) for each in exports]
    if as_json:
        click.echo(json.dumps([asdict(each) for each in done], indent=2))
    fail([words_of(item) for item in platform.broken] if everything else [], "not exported")


def _declared(platform: Platform, names: Sequence[str]) -> list[Export]:
    from lakebed.spec.export import ExportError, unknown

    known = {each.name: each for each in platform.exports}
    for name in names:
        if name not in known:
            raise ExportError(
                f"{unknown(name, known, 'declared export')}. "
                "To export a table or a model say --output PATH"
            )
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


def _all(platform: Platform) -> tuple[str, ...]:
    from lakebed.exports.query import known_names

    with platform.lake.session() as session:
        return tuple(known_names(session))


def _place(output: str) -> str:
    return output if "://" in output or output == "-" else str(Path(output).absolute())


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def _stream(platform: Platform, export: Export) -> None:
    from lakebed.exports.write import stream_export

    rows = stream_export(platform, export, sys.stdout.buffer)
    click.echo(f"{rows:,} rows", err=True)


def _write(platform: Platform, export: Export) -> Exported:
    from lakebed.cli.progress import working
    from lakebed.exports.write import write_export

    what = ", ".join(export.names[:3]) + (", ..." if len(export.names) > 3 else "")
    with working(f"writing {what}") as work:
        done = write_export(
            platform,
            export,
            on_bytes=lambda total: work.now(f"writing {what}, {total / 1e6:,.0f} MB"),
        )
    click.echo(
        f"{what}: {done.rows:,} rows, {done.bytes:,} bytes in {done.target} ({done.seconds:.2f} s)",
        err=True,
    )
    return done
