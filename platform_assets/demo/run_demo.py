"""Run real flights through the whole platform and its Dagster assets, in a minute."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from rich import box
from rich.console import Console
from rich.table import Table

from lakebed.build import build_defs
from lakebed.demo.demo_files import write_demo_files
from lakebed.monitoring.status import read_status
from lakebed.monitoring.status_tables import heat_map
from lakebed.orchestration.run_launcher import open_instance
from lakebed.resources.embedded import make_home
from lakebed.resources.settings import Settings, remember
from lakebed.resources.touched import touched
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.pending import ranges, waiting

DEMO_NOW = datetime(2013, 12, 31, tzinfo=UTC)

QUERIES = {
    "All flights, hot and cold": "select count(*) as flights from flights",
    "The busiest carriers, with names from a dimension": """\
select name, count(*) as flights, round(avg(dep_delay), 1) as mean_delay
from flights join airlines using (carrier)
group by name order by flights desc limit 5""",
    "The last two weeks of September and the first two of October, across the tiers": """\
select origin, count(*) as flights, round(avg(arr_delay), 1) as mean_arr_delay
from flights
where time_hour >= '2013-09-17' and time_hour < '2013-10-15'
group by origin order by origin""",
}


def prepare(settings: Settings) -> list[Path]:
    """Write the source files, and set the home's clock to the end of 2013."""
    if settings.postgres_url is None:
        make_home(settings.home)
    files = write_demo_files(settings.data)
    remember(settings.home, "LAKEBED_CLOCK", DEMO_NOW.isoformat())
    return files


def run_demo(settings: Settings, console: Console) -> None:
    """Run the demo and report each step. A second run does not repeat finished work."""
    started = time.monotonic()
    console.rule("[bold]Lakebed[/]: 336,776 flights of 2013, from files to SQL over two tiers")
    files = prepare(settings)
    settings = replace(settings, fixed_time=DEMO_NOW)
    console.print(f"[bold]1.[/] {len(files)} source files in {settings.data}")
    console.print(f"   The clock is set to {DEMO_NOW:%Y-%m-%d} (in {settings.home}/settings.env)")
    platform = open_platform(settings)
    console.print(f"[bold]2.[/] Hot tier: {platform.postgres.name}")
    instance = open_instance(platform)
    runner = _Runner(build_defs(settings, tables=platform.tables), instance, console)

    console.print("[bold]3.[/] Loading what is new: dlt, a pandera check of every row, COPY")
    runner.materialize(dg.AssetSelection.groups("hot"), "rows_read", "rows_inserted")
    console.print("[bold]4.[/] Moving partitions older than 90 days to Parquet, each verified")
    for table in platform.tables:
        if table.tiering is not None:
            with platform.postgres.connect(autocommit=True) as connection:
                due = waiting(connection, table, platform.clock.now())
            if not due:
                console.print(f"   cold/{table.name}: nothing is due")
            for first, last in ranges(due):
                selection = dg.AssetSelection.keys(dg.AssetKey(["cold", table.name]))
                runner.materialize(selection, "rows_moved", "bytes", span=(first.key, last.key))
    console.print("[bold]5.[/] Building the SQL models over both tiers")
    runner.materialize(dg.AssetSelection.groups("staging", "marts"), "dagster/row_count", "bytes")

    console.print("[bold]6.[/] Where the rows are")
    console.print(heat_map(read_status(platform)))
    console.print("[bold]7.[/] SQL over both tiers, as one table")
    for title, query in QUERIES.items():
        _show(platform, console, title, query)
    console.rule(f"done in {time.monotonic() - started:.0f} seconds")
    command = _command()
    console.print("Next:")
    console.print(f"   {command} status")
    console.print(
        f'   {command} sql "from delays_by_carrier_month order by late_percent desc" --format csv',
        soft_wrap=True,
    )
    console.print(f"   {command} up      [dim]the graph, checks and backfills in the browser[/]")


class _Runner:
    """Materializes assets in this process, in the home's own Dagster instance."""

    def __init__(
        self, defs: dg.Definitions, instance: dg.DagsterInstance, console: Console
    ) -> None:
        self.assets = [
            a for a in defs.assets or () if isinstance(a, dg.AssetsDefinition | dg.AssetSpec)
        ]
        self.resources = defs.resources
        self.instance = instance
        self.console = console

    def materialize(
        self, selection: dg.AssetSelection, *shown: str, span: tuple[str, str] | None = None
    ) -> None:
        """Materialize assets, and print one line for each asset or partition.

        Raises:
            Exception: The error of the run.
        """
        tags = {}
        if span is not None:
            tags = {
                "dagster/asset_partition_range_start": span[0],
                "dagster/asset_partition_range_end": span[1],
            }
        result = dg.materialize(
            self.assets,
            selection=selection,
            instance=self.instance,
            resources=self.resources,
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        for event in result.all_events:
            if event.is_step_materialization:
                self._print(event.step_materialization_data.materialization, shown)
        failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
        for check in failed:
            self.console.print(
                f"   [yellow]check {check.check_name} of {check.asset_key} failed[/]"
            )

    def _print(self, done: dg.AssetMaterialization, shown: Sequence[str]) -> None:
        name = "/".join(done.asset_key.path) + (f" {done.partition}" if done.partition else "")
        values = []
        for key in shown:
            if key in done.metadata:
                label = key.rpartition("/")[2].replace("_", " ")
                values.append(f"{done.metadata[key].value:>9,} {label}")
        seconds = done.metadata["seconds"].value
        self.console.print(f"   {name:<32}{'  '.join(values):<44}{seconds:>7.2f} s", soft_wrap=True)


def _show(platform: Platform, console: Console, title: str, query: str) -> None:
    with platform.lake.session() as session:
        found = [t for t in touched(session, query) if t.of_cold.files]
        started = time.monotonic()
        relation = session.sql(query)
        rows, names = relation.fetchall(), relation.columns
        seconds = time.monotonic() - started
    files = ", ".join(f"{len(t.files)} of {t.of_cold.files} cold files of {t.table}" for t in found)
    console.print(f"   {title} [dim]({seconds * 1000:.0f} ms, {files})[/]", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name)
    for row in rows:
        table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v) for v in row))
    console.print(table)


def _command() -> str:
    """Return the command to type here: its path where it is not on PATH."""
    if shutil.which("lakebed"):
        return "lakebed"
    script = Path(sys.executable).with_name("lakebed")
    try:
        return str(script.relative_to(Path.cwd()))
    except ValueError:
        return str(script)
