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
from lakebed.orchestration.instance import instance_environment, prepare_instance
from lakebed.resources.settings import read_settings, remember
from lakebed.store.platform import open_platform
from tests.support.checkout import ROOT

NOW = datetime(2013, 2, 1, tzinfo=UTC)
"""A time at which nothing is due yet, so that no sensor moves what the browser shall move."""


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


if __name__ == "__main__":
    prepare_home(Path(sys.argv[1]))
