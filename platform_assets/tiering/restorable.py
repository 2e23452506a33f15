"""What a restore is asked for: partitions by key or by time, and for how long to hold them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from lakebed.resources.postgres import Connection
from lakebed.spec.partitions import Window, window_for_key
from lakebed.spec.table import SourceTable, TableError
from lakebed.spec.times import TimeTextError, read_duration, read_time
from lakebed.store.grain_mismatch import describe_mismatch, grain_mismatches, how_to_fix


class RestoreRequestError(TableError):
    """A request for a restore that names no valid partitions; nothing was done."""


def chosen(
    connection: Connection,
    table: SourceTable,
    keys: Sequence[str],
    since: str | None,
    until: str | None,
) -> list[Window]:
    """Return the partitions that are named, or the cold ones that overlap a window.

    since, until: ISO 8601 with a zone, or a date, which means its start in UTC; half-open. Raises
    RestoreRequestError.
    """
    if bool(keys) == (since is not None or until is not None):
        raise RestoreRequestError(
            f"{table.name}: say which partitions: some by their keys, or all from a time to another"
        )
    grain = table.require_partitioning.grain
    if keys:
        try:
            return sorted({window_for_key(grain, key) for key in keys})
        except ValueError as error:
            raise RestoreRequestError(f"{table.name}: {error}") from error
    rows = connection.execute(
        "select partition_key, extract(epoch from lower_bound)::bigint,"
        " extract(epoch from upper_bound)::bigint from lakebed.cold_file where table_name = %s"
        " and superseded_at is null and upper_bound > coalesce(%s, '-infinity'::timestamptz)"
        " and lower_bound < coalesce(%s, 'infinity'::timestamptz) order by lower_bound",
        [table.name, _moment(table, since), _moment(table, until)],
    ).fetchall()
    found = grain_mismatches(table, rows)
    if found:
        raise RestoreRequestError(
            f"{table.name}: {describe_mismatch(grain, found)}. {how_to_fix(table.name, found)}"
        )
    return [window_for_key(grain, key) for key, _, _ in rows]


def hold_of(text: str) -> timedelta:
    """Read for how long to hold. Raises RestoreRequestError."""
    try:
        return read_duration(text)
    except TimeTextError as error:
        raise RestoreRequestError(str(error)) from error


def _moment(table: SourceTable, text: str | None) -> datetime | None:
    try:
        return None if text is None else read_time(text, or_day=True)
    except TimeTextError as error:
        raise RestoreRequestError(f"{table.name}: {error}") from error
