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


@dlt.resource
def marked() -> Iterator[Any]:
    """Give rows to three tables: its own, and two that it names, one of them in a list."""
    yield {"at": 1, "what": "own"}
    yield dlt.mark.with_table_name({"at": 2, "what": "other"}, "others")
    yield dlt.mark.with_table_name([{"at": 3, "what": "third"}], "thirds")
    yield dlt.mark.with_table_name(
        pl.DataFrame({"at": [4], "what": ["arrow"]}).to_arrow(), "others"
    )


@dlt.resource(table_name=lambda row: row["what"])
def dispatched() -> Iterator[Any]:
    """Give each row to the table that it names."""
    yield [{"at": 1, "what": "dispatched"}, {"at": 2, "what": "others"}]
    yield {"at": 3, "what": "dispatched"}


@dlt.resource(table_name="renamed")
def named() -> Iterator[Any]:
    """Have a table name of its own, and marks with it."""
    yield {"at": 1, "what": "plain"}
    yield dlt.mark.with_table_name({"at": 2, "what": "marked"}, "renamed")


@dlt.resource
def hinted() -> Iterator[Any]:
    """Make a variant of its table for one row."""
    yield {"at": 1, "what": "own"}
    hints = dlt.mark.make_hints(table_name="variants")
    yield dlt.mark.with_hints({"at": 2, "what": "other"}, hints, create_table_variant=True)


@dlt.resource
def files() -> Iterator[Any]:
    """Hand over a whole file, as dlt's filesystem source can."""
    yield {"at": 1, "what": "own"}
    yield dlt.mark.with_file_import("/nowhere/rows.jsonl", "jsonl", 5)


@dlt.resource
def breaks() -> Iterator[Any]:
    """Give some rows, and then fail."""
    yield [{"at": 1, "what": "a"}]
    raise RuntimeError("the line went dead")


@dlt.resource
def given() -> Iterator[Any]:
    """Yield ROWS as they are."""
    yield ROWS
