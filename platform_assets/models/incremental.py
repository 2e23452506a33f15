"""What the options of an incremental model come to, with dbt's names and dbt's meaning.

Where the options stand in a file, and how a run adds rows, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from platform_assets.models.model import ComplaintError, Incremental, OnSchemaChange, Strategy

STRATEGIES = ("append", "delete+insert", "merge")
ON_SCHEMA_CHANGE = ("ignore", "fail", "append_new_columns")


def incremental_of(options: Mapping[str, object]) -> Incremental:
    """Return how a model with these options, which are checked one by one, adds rows.

    Without a strategy it is delete+insert where there is a unique_key, else append.
    Raises ComplaintError for options that do not go together.
    """
    key = _names(options.get("unique_key"))
    said = cast(Strategy | None, options.get("incremental_strategy"))
    strategy: Strategy = said or ("delete+insert" if key else "append")
    if strategy == "merge" and not key:
        raise ComplaintError(
            "incremental_strategy='merge' has no unique_key", "Set it: unique_key='id'."
        )
    return Incremental(
        strategy=strategy,
        unique_key=() if strategy == "append" else key,
        on_schema_change=cast(OnSchemaChange, options.get("on_schema_change", "ignore")),
        full_refresh=cast(bool | None, options.get("full_refresh")),
    )


def _names(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(cast(list[str], value))
