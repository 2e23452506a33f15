"""The commands about SQL models: build, compile, ls."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lakebed.cli.home import open_home, refresh_catalog
from lakebed.cli.output import as_json, fail, numbers, show

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.models.materialize import BuildRange
    from lakebed.models.model import ModelSet
    from lakebed.models.runner import BuildResult
    from lakebed.models.selection import Selected
    from lakebed.store.platform import Platform

_Command = Callable[..., None]


def _selecting(command: _Command) -> _Command:
    """Add dbt's selectors to a command."""
    for option in (
        click.option(
            "--vars", "variables", metavar="YAML", help="Variables: '{late_after_minutes: 30}'."
        ),
        click.option("--exclude", multiple=True, metavar="EXPR", help="What to leave out."),
        click.option(
            "--select",
            "-s",
            multiple=True,
            metavar="EXPR",
            help="dbt's selectors: names, tag:x, path:x, +x, x+, @x, state:modified; a space is or,"
            " a comma is and.",
        ),
        click.argument("names", metavar="[MODEL]...", nargs=-1),
    ):
        command = option(command)
    return command


@click.command()
@_selecting
@click.option(
    "--threads", type=click.IntRange(1, 64), help="Models at a time; by default one a core, to 4."
)
@click.option(
    "--full-refresh", is_flag=True, help="Build incremental models whole, not what is new alone."
)
@click.option(
    "--event-time-start",
    "since",
    metavar="TIME",
    help="Of models built by windows, the first that is built: 2024-01-01.",
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
    """Build SQL models and seeds, all or those selected, in their order, and run their tests.

    What fails, or has a test of severity error that fails, skips what reads it; the rest goes on.
    """
    from rich.console import Console

    from lakebed.models import runner

    stretch = _stretch(since, until)
    if full_refresh and stretch.since is not None:
        raise click.UsageError("--full-refresh builds every window: leave --event-time-start out")
    platform = open_home()
    models, selected = _selected(platform, (*names, *select), exclude, variables)
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
            stretch=stretch,
            on_start=started,
            on_result=lambda result: running.pop(result.name, None),
        )
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=2))
    elif results:
        show(_results(results))
    click.echo(_summary(results), err=True)
    failures = [f"{r.name}: {r.error}" for r in results if r.status == "failed"]
    fail(failures + refresh_catalog(platform), "failed")


@click.command("compile")
@_selecting
def compile_models(
    names: Sequence[str], select: Sequence[str], exclude: Sequence[str], variables: str | None
) -> None:
    """Check all models against the columns of the tables; print the SQL of those selected.

    The SQL runs as it is in a DuckDB shell on the catalog file. Nothing is built.
    """
    from lakebed.models.model import ModelError, Run
    from lakebed.models.runner import columns_of_tables
    from lakebed.models.schemas import refused_models

    platform = open_home()
    models, selected = _selected(platform, (*names, *select), exclude, variables)
    refused: dict[str, ModelError] = refused_models(
        models, columns_of_tables(platform), models.by_name
    )
    if names or select:
        run = Run(started_at=platform.clock.now())
        for query in (*selected.models, *(() if selected.models else selected.tests)):
            if len(selected.models) > 1:
                click.echo(f"-- {query.name}")
            click.echo(models.compiled(query, run).sql.strip() + "\n")
    else:
        click.echo(f"{len(models.models)} models and {len(models.tests)} tests", err=True)
    fail([f"{name}: {error}" for name, error in refused.items()], "do not fit")


@click.command()
@_selecting
@as_json
def ls(
    names: Sequence[str],
    select: Sequence[str],
    exclude: Sequence[str],
    variables: str | None,
    as_json: bool,
) -> None:
    """List models, seeds and tests, all or those selected, in the order of building."""
    platform = open_home()
    _, selected = _selected(platform, (*names, *select), exclude, variables)
    if not as_json:
        for model in selected.models:
            click.echo("/".join(model.key))
        for test in selected.tests:
            click.echo(f"test/{test.name}")
        return
    listed: list[dict[str, Any]] = [
        {
            "name": model.name,
            "group": model.group,
            "materialized": model.materialized,
            "tags": model.tags,
            "reads": model.upstream,
            "file": str(model.path),
        }
        for model in selected.models
    ]
    listed += [
        {"name": test.name, "materialized": "test", "model": test.model, "tags": test.tags}
        for test in selected.tests
    ]
    click.echo(json.dumps(listed, indent=2))


def _selected(
    platform: Platform, select: Sequence[str], exclude: Sequence[str], variables: str | None
) -> tuple[ModelSet, Selected]:
    from lakebed.models.runner import built_versions, models_of
    from lakebed.models.selection import select as select_from

    models = models_of(platform, _variables(variables))
    asks_state = any("state:" in expression for expression in (*select, *exclude))
    built = built_versions(platform) if asks_state else None
    return models, select_from(models, select, exclude, built)


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


def _variables(text: str | None) -> dict[str, object]:
    import yaml

    if text is None:
        return {}
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise click.BadParameter(f"{text!r} is no YAML", param_hint="--vars") from error
    if not isinstance(found, dict):
        raise click.BadParameter("write names and values: '{a: 1}'", param_hint="--vars")
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
