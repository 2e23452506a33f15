"""Which runs Dagster may forget: old ones that say nothing any more that is not said since.

Dagster knows of a partition that it was materialized, or failed, by the events of its run: a run of
partitions is never forgotten. Neither is one that made the newest version of an asset, nor the last
one that tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

import dagster as dg

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
OF_PARTITIONS = ("dagster/partition", "dagster/asset_partition_range_start")
PAGE = 200
AT_ONCE = 2000
"""How many runs are deleted at most at once: each costs a few statements."""


def forget_runs(instance: dg.DagsterInstance, now: datetime, keep: timedelta) -> int:
    """Delete runs that ended longer ago than keep, with their events; return how many."""
    needed = _needed(instance)
    old = (
        run.run_id
        for run in _ended(instance, now - keep)
        if run.run_id not in needed and not any(tag in run.tags for tag in OF_PARTITIONS)
    )
    gone = list(islice(old, AT_ONCE))  # all pages are read before what they begin after goes
    for run_id in gone:
        instance.delete_run(run_id)
    return len(gone)


def _ended(instance: dg.DagsterInstance, before: datetime) -> Iterator[dg.DagsterRun]:
    """Yield runs that ended before a time, the oldest first."""
    cursor = None
    while True:
        page = instance.get_run_records(
            dg.RunsFilter(statuses=ENDED, updated_before=before),
            limit=PAGE,
            cursor=cursor,
            ascending=True,
        )
        yield from (record.dagster_run for record in page)
        if len(page) < PAGE:
            return
        cursor = page[-1].dagster_run.run_id


def _needed(instance: dg.DagsterInstance) -> set[str]:
    """Return the runs of the newest materializations, and the last run of each asset."""
    found: set[str] = set()
    for record in instance.get_asset_records():
        entry = record.asset_entry
        newest = (entry.last_materialization, entry.last_observation)
        found |= {event.run_id for event in newest if event is not None}
        if entry.last_run_id is not None:
            found.add(entry.last_run_id)
    return found
