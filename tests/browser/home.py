"""Prepares a home for the browser: the demo's data loaded and its models built, nothing moved.

A process of its own, so that nobody but `lakebed up` needs the home's PostgreSQL afterwards.
Usage: python -m tests.browser.home FOLDER
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from lakebed.build import build_defs
from lakebed.demo.demo_files import write_demo_files
from lakebed.orchestration.cold_assets import BY_POLICY
from lakebed.orchestration.instance import instance_environment, prepare_instance
from lakebed.resources.settings import read_settings, remember
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import open_platform
from lakebed.tiering.move import move
from tests.support.checkout import ROOT

NOW = datetime(2014, 6, 1, tzinfo=UTC)
"""A time at which every partition is due."""


def prepare_home(home: Path) -> None:
    """Load every table and build every model, as runs of the home's own Dagster instance."""
    remember(home, "LAKEBED_CLOCK", NOW.isoformat())
    settings = read_settings({"LAKEBED_HOME": str(home)}, folder=ROOT)
    write_demo_files(settings.data)
    platform = open_platform(settings)
    folder = prepare_instance(platform)
    os.environ.update(instance_environment(platform))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        defs = build_defs(settings, tables=platform.tables)
        graph = defs.resolve_asset_graph()
        for groups in (("hot",), ("staging", "marts")):
            defs.resolve_implicit_global_asset_job_def().execute_in_process(
                asset_selection=sorted(dg.AssetSelection.groups(*groups).resolve(graph)),
                instance=instance,
            )
        # The sensors of due partitions wait for these runs, so that the browser moves everything.
        for table in platform.tables:
            if table.tiering is not None:
                instance.add_run(
                    dg.DagsterRun(
                        job_name="left_to_the_browser",
                        tags={BY_POLICY: table.name},
                        status=dg.DagsterRunStatus.MANAGED,
                    )
                )
    # What commands do, no run of Dagster: the browser shows it all the same.
    flights = platform.table("flights")
    move(platform.lake, flights, window_for_key(flights.require_partitioning.grain, "2014-01"))


if __name__ == "__main__":
    prepare_home(Path(sys.argv[1]))
