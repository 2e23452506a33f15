"""What the options of an incremental model come to, with dbt's names and dbt's meaning.

Where the options stand in a file, and how a run adds rows, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import cast

from lakebed.models.model import Batches, Incremental, OnSchemaChange, Strategy, UnlocatedModelError
from lakebed.spec.partitions import Grain, Window, windows_between
from lakebed.spec.times import read_time_or_utc


def incremental_of(options: Mapping[str, object]) -> Incremental:
    """Return how a model with these options, which are checked one by one, adds rows.

    Without a strategy it is delete+insert where there is a unique_key, else append.
    Raises ComplaintError for options that do not go together.
    """
    key = _names(options.get("unique_key"))
    said = cast(Strategy | None, options.get("incremental_strategy"))
    strategy: Strategy = said or ("delete+insert" if key else "append")
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
    """Return the windows that a run builds, in order; those before the first are nobody's.

    built_until: the end of what was built before, None where nothing was: then it is all of them.
    Else it is what has come to pass since, and some windows before the present one.
    since, until: a stretch that is asked for, half-open; from since to now where until is None.
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
