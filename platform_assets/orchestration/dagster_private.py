"""What Lakebed uses of Dagster that Dagster keeps private, all of it, each with its reason.

Written for Dagster 1.13. A Dagster without one of these is refused by name when the definitions
are loaded, not later and in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakebed.errors import LakebedError

__all__ = [
    "WRITTEN_FOR",
    "AssetCheckEvaluationTargetMaterializationData",
    "CheckRunHealthResult",
    "DagsterEventBatchMetadata",
    "DagsterVersionError",
    "WorkerStatus",
    "instance_of",
    "private",
    "replace_method",
    "use_engine",
]

WRITTEN_FOR = "1.13"

if TYPE_CHECKING:
    from dagster_postgres import DagsterPostgresStorage
    from sqlalchemy.engine import Engine


class DagsterVersionError(LakebedError, ImportError):
    """This version of Dagster has no such private name, which Lakebed needs."""


def private(owner: Any, name: str, why: str) -> Any:
    """Return a private attribute of Dagster. owner: an object, or a module by its name.

    Raises DagsterVersionError.
    """
    try:
        return getattr(import_module(owner) if isinstance(owner, str) else owner, name)
    except (ImportError, AttributeError) as error:
        place = owner if isinstance(owner, str) else type(owner).__qualname__
        raise DagsterVersionError(
            f"dagster {version('dagster')} has no {place}.{name}, which Lakebed needs {why}. It "
            f"was written for dagster {WRITTEN_FOR}: install that (pip install "
            f"'dagster~={WRITTEN_FOR}.0'), or a newer Lakebed"
        ) from error


if TYPE_CHECKING:
    from dagster._core.definitions.asset_checks.asset_check_evaluation import (
        AssetCheckEvaluationTargetMaterializationData,
    )
    from dagster._core.events import DagsterEventBatchMetadata
    from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
else:
    AssetCheckEvaluationTargetMaterializationData = private(
        "dagster._core.definitions.asset_checks.asset_check_evaluation",
        "AssetCheckEvaluationTargetMaterializationData",
        "to tell the check of one partition of a run of many",
    )
    DagsterEventBatchMetadata = private(
        "dagster._core.events",
        "DagsterEventBatchMetadata",
        "to store the materializations of many partitions at once",
    )
    _LIVES = "to tell the run monitoring whether the process of a run still lives"
    CheckRunHealthResult = private("dagster._core.launcher.base", "CheckRunHealthResult", _LIVES)
    WorkerStatus = private("dagster._core.launcher.base", "WorkerStatus", _LIVES)


def instance_of(launcher: dg.DefaultRunLauncher) -> dg.DagsterInstance:
    """Return the instance whose runs a launcher starts."""
    instance: dg.DagsterInstance = private(launcher, "_instance", "to look up a run's process")
    return instance


def use_engine(storage: DagsterPostgresStorage, engine: Callable[[], Engine]) -> None:
    """Let the storages of runs, events and schedules have an engine each that keeps connections.

    Dagster takes no engine and no options for one: its own opens a connection a statement.
    """
    why = "to keep connections open between statements"
    for part in ("_run_storage", "_event_log_storage", "_schedule_storage"):
        found = private(storage, part, why)
        private(found, "_engine", why)
        found._engine = engine()


def replace_method(owner: object, name: str, made: Callable[[Any], Any]) -> None:
    """Put a method in the place of one that Dagster calls itself. made: the new, of the old."""
    setattr(owner, name, made(private(owner, name, "to correct it where two runs race")))
