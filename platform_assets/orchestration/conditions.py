"""When a model or an export is rebuilt: the automation conditions."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

import dagster as dg


def when_read_data_changed(windowed: Collection[dg.AssetKey] = ()) -> dg.AutomationCondition[Any]:
    """Rebuild after a load that changed a table, once with all that follows from it.

    A move changes no row that a reader sees, and a load that found nothing new has changed nothing.
    A table that was loaded by command counts as present before its load was reported.
    windowed: models that are built by windows, not all of which need be there.
    """
    condition, cold = dg.AutomationCondition, dg.AssetSelection.groups("cold")
    changed = (
        condition.any_deps_updated()
        .ignore(cold)
        .replace("newly_updated", condition.data_version_changed())
    )
    absent = dg.AssetSelection.groups("hot", "cold") | dg.AssetSelection.assets(*windowed)
    missing = condition.any_deps_missing().ignore(absent)
    when = condition.eager().ignore(cold).replace("any_deps_updated", changed)
    return when.replace("any_deps_missing", missing)


def when_window_changed(recent: timedelta) -> dg.AutomationCondition[Any]:
    """Rebuild only the windows for which a partition that the model reads has changed.

    A move or a compaction of a partition, which brings in its late rows, rebuilds its
    window; what has no partitions, a table's hot rows, rebuilds the windows of the recent past.
    """
    condition, hot = dg.AutomationCondition, dg.AssetSelection.groups("hot")
    changed = condition.data_version_changed()
    loaded = condition.any_deps_updated().allow(hot).replace("newly_updated", changed)
    settled = condition.any_deps_updated().ignore(hot)
    recently = loaded & condition.in_latest_time_window(recent)
    updated: dg.AutomationCondition[Any] = settled | recently
    return (
        updated.since_last_handled() & ~condition.any_deps_in_progress() & ~condition.in_progress()
    ).with_label("its_window_changed")
