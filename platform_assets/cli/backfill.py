"""The command that materializes ranges of partitions: backfill."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lakebed.cli.completion import complete_assets, complete_partitions
from lakebed.cli.context import open_for_reading
from lakebed.cli.output import as_json, numbers, show
from lakebed.errors import PartlyFailedError

if TYPE_CHECKING:
    from lakebed.orchestration.backfill import PartitionOutcome, RangeRun

ONLY = ("failed", "missing")
SHOWN_FAILURES = 20


@click.command()
@click.argument("name", metavar="ASSET", shell_complete=complete_assets)
@click.option(
    "--from",
    "first",
    metavar="KEY",
    shell_complete=complete_partitions,
    help="The first partition; by default the asset's first.",
)
@click.option(
    "--to",
    "last",
    metavar="KEY",
    shell_complete=complete_partitions,
    help="The last partition, included; by default the asset's last.",
)
@click.option(
    "--only", metavar="failed,missing", help="Only partitions that failed, are missing, or both."
)
@as_json
def backfill(
    name: str, first: str | None, last: str | None, only: str | None, as_json: bool
) -> None:
    """Materialize a range of partitions in runs that the UI shows.

    ASSET is one such as cold/flights. Each unbroken range of partitions is one run. If a partition
    fails, the others are done all the same, and the exit code is 1; run the command again with
    --only failed,missing to do the rest.
    """
    wanted = _wanted(only)
    from lakebed.build import build_defs
    from lakebed.orchestration.backfill import (
        backfill_target,
        keys_between,
        ranges_of,
        run_range,
        states,
    )
    from lakebed.orchestration.run_launcher import open_instance

    platform = open_for_reading()
    asset = backfill_target(platform, name)
    keys = keys_between(asset, first, last)
    with open_instance(platform) as instance:
        found = states(platform, instance, asset, keys)
        chosen = [key for key in keys if wanted is None or found[key] in wanted]
        if wanted is not None:
            counts = Counter(found.values())
            click.echo(", ".join(f"{n} {state}" for state, n in counts.items()), err=True)
        defs = build_defs(platform.settings, tables=platform.tables)
        runs = [
            run_range(defs, instance, asset, partitions, lambda outcome: _line(name, outcome))
            for partitions in ranges_of(asset, chosen)
        ]
    if as_json:
        click.echo(json.dumps([_plain(run) for run in runs], indent=2))
    elif runs:
        _show(runs)
    if not runs:
        click.echo(f"{name}: nothing to do", err=as_json)
    failed = [outcome for run in runs for outcome in run.failed]
    broken = [run for run in runs if run.problem is not None and not run.failed]
    if broken:
        raise PartlyFailedError(
            "all partitions are done, what came after them failed: "
            + " | ".join(f"run {run.run_id[:8]}: {run.problem}" for run in broken)
        )
    if failed:
        lines = [f"{outcome.partition}: {outcome.why}" for outcome in failed[:SHOWN_FAILURES]]
        raise PartlyFailedError(
            f"{len(failed)} of {len(chosen)} partitions failed:\n  " + "\n  ".join(lines)
        )


def _wanted(only: str | None) -> set[str] | None:
    if only is None:
        return None
    wanted = {word.strip() for word in only.split(",")}
    if not wanted <= set(ONLY):
        raise click.BadParameter("say failed, missing, or failed,missing", param_hint="--only")
    return wanted


def _line(name: str, outcome: PartitionOutcome) -> None:
    what = f"{outcome.rows:,} rows" if outcome.why is None else f"failed: {outcome.why}"
    click.echo(f"{name} {outcome.partition}: {what}", err=True)


def _show(runs: Sequence[RangeRun]) -> None:
    table = numbers("partitions", "done", "failed", "rows", "seconds")
    table.add_column("run")
    for run in runs:
        failed = len(run.failed)
        table.add_row(
            run.partitions[0]
            if len(run.partitions) == 1
            else f"{run.partitions[0]} to {run.partitions[-1]}",
            f"{len(run.partitions) - failed:,}",
            f"{failed or ''}",
            f"{run.rows:,}",
            f"{run.seconds:.1f}",
            run.run_id[:8],
        )
    show(table)


def _plain(run: RangeRun) -> dict[str, object]:
    failed = run.failed
    return {
        "run_id": run.run_id,
        "from": run.partitions[0],
        "to": run.partitions[-1],
        "partitions": len(run.partitions),
        "rows": run.rows,
        "seconds": run.seconds,
        "failed": {outcome.partition: outcome.why for outcome in failed},
    }
