"""The command build: SQL models and seeds, and their tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lakebed.cli.check import words_of
from lakebed.cli.context import open_for_writing
from lakebed.cli.lake_copies import refresh_catalog
from lakebed.cli.model_selection import selected_models, selecting
from lakebed.cli.output import as_json, fail, numbers, show

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.models.materialize import BuildRange
    from lakebed.models.runner import BuildResult


@click.command()
@selecting
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    help="Models at a time; by default one per core, up to 4.",
)
@click.option(
    "--full-refresh", is_flag=True, help="Build incremental models in full, not only new rows."
)
@click.option(
    "--event-time-start",
    "since",
    metavar="TIME",
    help="Where the windows of microbatch models start: 2024-01-01.",
)
@click.option(
    "--event-time-end", "until", metavar="TIME", help="Where the windows end; by default now."
)
@as_json
def build(
    names: Sequence[str],
    select: Sequence[str],
    exclude: Sequence[str],
    variables: str | None,
    threads: int | None,
    full_refresh: bool,
    since: str | None,
    until: str | None,
    as_json: bool,
) -> None:
    """Build SQL models and seeds, and run their tests.

    Builds all of them, or those selected, in order. If a model or one of its tests with severity
    error fails, the models that read it are skipped, and the rest are built.
    """
    from rich.console import Console

    from lakebed.models import runner

    stretch = _stretch(since, until)
    if full_refresh and stretch.since is not None:
        raise click.UsageError("--full-refresh builds every window: leave --event-time-start out")
    platform = open_for_writing()
    models, selected = selected_models(platform, (*names, *select), exclude, variables)
    running: dict[str, None] = {}
    with Console(stderr=True).status("building") as state:

        def started(name: str) -> None:
            running[name] = None
            state.update(f"building {', '.join(running)}")

        results = runner.build(
            platform,
            models,
            selected,
            threads=threads,
            full_refresh=full_refresh,
            build_range=stretch,
            on_start=started,
            on_result=lambda result: running.pop(result.name, None),
        )
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=2))
    elif results:
        show(_results(results))
    click.echo(_summary(results), err=True)
    failures = [f"{r.name}: {r.error}" for r in results if r.status == "failed"]
    if not names and not select:
        failures += [words_of(item) for item in platform.broken]
    fail(failures + refresh_catalog(platform), "failed")


def _stretch(since: str | None, until: str | None) -> BuildRange:
    from lakebed.models.materialize import BuildRange
    from lakebed.spec.times import TimeTextError, read_time_or_utc

    try:
        found = BuildRange(*(read_time_or_utc(text) if text else None for text in (since, until)))
    except TimeTextError as error:
        raise click.UsageError(str(error)) from error
    if found.until and (found.since is None or found.until <= found.since):
        raise click.UsageError("--event-time-end comes after an --event-time-start")
    return found


def _results(results: Sequence[BuildResult]) -> Table:
    """Return a line a model, and one for each test that did not pass."""
    table = numbers("model", "rows", "bytes", "seconds")
    table.add_column("is a")
    table.add_column("result")
    for result in results:
        if result.materialized == "test" and result.status == "ok":
            continue
        skipped = "skipped: it reads what failed" if result.skipped else result.status
        table.add_row(
            result.name,
            "" if result.rows is None else f"{result.rows:,}",
            "" if result.bytes is None else f"{result.bytes:,}",
            f"{result.seconds:.2f}",
            result.materialized,
            skipped,
        )
    return table


def _summary(results: Sequence[BuildResult]) -> str:
    count = len(results)
    parts = [f"{sum(r.status == 'ok' for r in results):,} of {count:,} models and tests ok"]
    for status, word in (("warn", "warn"), ("failed", "failed"), ("skipped", "skipped")):
        number = sum(result.status == status for result in results)
        if number:
            parts.append(f"{number:,} {word}")
    return ", ".join(parts)
