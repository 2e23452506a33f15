"""dlt resources that the tests name by their dotted name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dlt
import polars as pl

ROWS: list[dict[str, Any]] = []
ASKED: list[Any] = []


@dlt.resource
def news(
    token: str = "",
    changed: Any = dlt.sources.incremental("changed", initial_value="2020-01-01T00:00:00Z"),  # noqa: B008
) -> Iterator[Any]:
    """Yield what lies beyond the start, in lists, as an API would."""
    ASKED.append((token, changed.start_value))
    yield [row for row in ROWS if row["changed"] >= changed.start_value]


@dlt.resource
def numbers(at: Any = dlt.sources.incremental("at", initial_value=0)) -> Iterator[Any]:  # noqa: B008
    """Yield Arrow, polars, pandas and dicts."""
    ASKED.append(at.start_value)
    yield pl.DataFrame({"at": [1], "what": ["arrow"]}).to_arrow()
    yield pl.DataFrame({"at": [2], "what": ["pandas"]}).to_pandas()
    yield {"at": 3, "what": {"nested": [1, 2]}}


@dlt.source
def two() -> Any:
    """Hold two resources."""
    return numbers, news
