"""Windows as Dagster's partitions."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import dagster as dg

from lakebed.spec.partitions import Grain
from lakebed.spec.table import SourceTable

_CRON = {
    Grain.HOUR: "0 * * * *",
    Grain.DAY: "0 0 * * *",
    Grain.WEEK: "0 0 * * 1",
    Grain.MONTH: "0 0 1 * *",
    Grain.YEAR: "0 0 1 1 *",
}


def partitions_of(table: SourceTable) -> dg.TimeWindowPartitionsDefinition:
    """Return a table's partitions, with the keys that Lakebed's windows have."""
    by = table.require_partitioning
    return partitions_from(by.grain, by.start, by.end)


def partitions_from(
    grain: Grain, start: datetime, end: datetime | None = None, *, present: bool = False
) -> dg.TimeWindowPartitionsDefinition:
    """Return the windows from start on; present: that of now, which has not ended, among them."""
    return dg.TimeWindowPartitionsDefinition(
        start=start.strftime(grain.key_format),
        end=end.strftime(grain.key_format) if end else None,
        fmt=grain.key_format,
        cron_schedule=_CRON[grain],
        timezone="UTC",
        end_offset=1 if present else 0,
    )


@contextmanager
def check_partitions() -> Iterator[None]:
    """Let checks have partitions: that this is a preview in Dagster is ours to know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield
