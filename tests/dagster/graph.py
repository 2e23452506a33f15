"""The graph as text, which tests/dagster/graph.txt keeps so that a review shows what changes in it.

Write that file anew with: python -m tests.dagster.graph
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from lakebed.build import build_defs
from lakebed.resources.settings import read_settings
from tests.support.checkout import ROOT

SNAPSHOT = Path(__file__).with_name("graph.txt")


def demo_defs() -> dg.Definitions:
    """Return the definitions over the tables and models of this repository; opens nothing."""
    return build_defs(read_settings({"LAKEBED_HOME": "/nowhere/lakebed"}, folder=ROOT))


def describe(defs: dg.Definitions) -> str:
    """Return assets with dependencies, groups, kinds, partitions and checks; jobs and sensors."""
    return "\n".join([*_assets(defs), *_upkeep(defs)]) + "\n"


def _assets(defs: dg.Definitions) -> Iterator[str]:
    graph = defs.resolve_asset_graph()
    for spec in sorted(defs.resolve_all_asset_specs(), key=lambda spec: spec.key):
        yield spec.key.to_user_string()
        yield f"    group  {spec.group_name}"
        yield f"    kinds  {', '.join(sorted(spec.kinds))}"
        if not graph.get(spec.key).is_materializable:
            yield "    is     external"
        if spec.partitions_def is not None:
            keys = spec.partitions_def.get_partition_keys()
            yield f"    parts  {spec.partitions_def} {keys[0]}...{keys[-1]}"
        if spec.automation_condition is not None:
            yield "    when   what it reads has changed"
        for dependency in sorted(dep.asset_key.to_user_string() for dep in spec.deps):
            yield f"    from   {dependency}"
        for check in sorted(k.name for k in graph.asset_check_keys if k.asset_key == spec.key):
            yield f"    check  {check}"


def _upkeep(defs: dg.Definitions) -> Iterator[str]:
    for job in defs.jobs or ():
        yield f"job {job.name}"
    for schedule in defs.schedules or ():
        assert isinstance(schedule, dg.ScheduleDefinition)
        state = schedule.default_status.value.lower()
        yield f"schedule {schedule.name}: {schedule.cron_schedule}, {state}"
    for sensor in defs.sensors or ():
        state = sensor.default_status.value.lower()
        yield f"sensor {sensor.name}: every {sensor.minimum_interval_seconds or 30} s, {state}"


if __name__ == "__main__":
    SNAPSHOT.write_text(describe(demo_defs()))
