"""When an asset that is made of others is made anew: the one condition of models and exports."""

from typing import Any

import dagster as dg


def when_read_data_changed() -> dg.AutomationCondition[Any]:
    """Rebuild after a load that changed a table, once with all that follows from it.

    A move changes no row that a reader sees, and a load that found nothing new has changed nothing.
    A table that was loaded by command is no missing one, though Dagster has seen no run of it.
    """
    condition, cold = dg.AutomationCondition, dg.AssetSelection.groups("cold")
    changed = (
        condition.any_deps_updated()
        .ignore(cold)
        .replace("newly_updated", condition.data_version_changed())
    )
    missing = condition.any_deps_missing().ignore(dg.AssetSelection.groups("hot", "cold"))
    when = condition.eager().ignore(cold).replace("any_deps_updated", changed)
    return when.replace("any_deps_missing", missing)
