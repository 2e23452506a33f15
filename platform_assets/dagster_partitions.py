"""Windows as Dagster's partitions."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from platform_assets.catalog import SourceTable
from platform_assets.partitions import Grain

_CRON = {
    Grain.HOUR: "0 * * * *",
    Grain.DAY: "0 0 * * *",
    Grain.WEEK: "0 0 * * 1",
    Grain.MONTH: "0 0 1 * *",
    Grain.YEAR: "0 0 1 1 *",
}


def partitions_of(table: SourceTable) -> dg.TimeWindowPartitionsDefinition:
    """Return a table's partitions, with the keys that Lakebed's windows have."""
    by = table.partitioned
    return dg.TimeWindowPartitionsDefinition(
        start=by.start.strftime(by.grain.key_format),
        end=by.end.strftime(by.grain.key_format) if by.end else None,
        fmt=by.grain.key_format,
        cron_schedule=_CRON[by.grain],
        timezone="UTC",
    )


@contextmanager
def check_partitions() -> Iterator[None]:
    """Let checks have partitions: that this is a preview in Dagster is ours to know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield
