"""Interpret the options of an incremental model, with dbt's names and dbt's meaning.

This module knows neither the files nor how a run adds rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import cast

from lakebed.models.model import Batches, Incremental, OnSchemaChange, Strategy, UnlocatedModelError
from lakebed.spec.partitions import Grain, Window, windows_between
from lakebed.spec.times import read_time_or_utc


def incremental_of(options: Mapping[str, object]) -> Incremental:
    """Return how a model with these checked options adds rows.

    The default strategy is delete+insert with a unique_key, and append without one.

    Raises:
        UnlocatedModelError: The options contradict each other.
    """
    key = _names(options.get("unique_key"))
    chosen = cast(Strategy | None, options.get("incremental_strategy"))
    strategy: Strategy = chosen or ("delete+insert" if key else "append")
    if strategy == "merge" and not key:
        raise UnlocatedModelError(
            "incremental_strategy='merge' has no unique_key", "Set it: unique_key='id'."
        )
    return Incremental(
        strategy=strategy,
        unique_key=() if strategy in ("append", "microbatch") else key,
        on_schema_change=cast(OnSchemaChange, options.get("on_schema_change", "ignore")),
        full_refresh=cast(bool | None, options.get("full_refresh")),
        batches=_batches(options) if strategy == "microbatch" else None,
    )


def windows_to_build(
    batches: Batches,
    now: datetime,
    built_until: datetime | None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Window]:
    """Return the windows that a run builds, in order. No window lies before `begin`.

    Args:
        batches: The windows of the model.
        now: The time of the run.
        built_until: The end of the last window that was built. The run builds all windows after
            it, and some windows before the present one. None: the run builds all windows.
        since: The start of a requested half-open time range.
        until: The end of that range; None means now.
    """
    grain, newest = batches.grain, batches.grain.floor(now)
    if since is None and until is None:
        until = grain.step(newest)
        if built_until is not None:
            since = newest
            for _ in range(batches.lookback):
                since = grain.floor(since - timedelta(microseconds=1))
            since = min(since, built_until)
    lower = max(batches.begin, since or batches.begin)
    return list(windows_between(grain, lower, until or grain.step(newest)))


def _batches(options: Mapping[str, object]) -> Batches:
    for name, example in (("event_time", "day"), ("batch_size", "month"), ("begin", "2013-01-01")):
        if not options.get(name):
            raise UnlocatedModelError(
                f"incremental_strategy='microbatch' has no {name}", f"Set it: {name}='{example}'."
            )
    grain = Grain(cast(str, options["batch_size"]))
    return Batches(
        event_time=cast(str, options["event_time"]),
        grain=grain,
        begin=grain.floor(read_time_or_utc(str(options["begin"]))),
        lookback=cast(int, options.get("lookback", 1)),
    )


def _names(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(cast(list[str], value))
