"""What a restore is asked for: partitions by key or by time, and for how long to hold them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from lakebed.resources.postgres import Connection
from lakebed.spec.partitions import Window, window_for_key
from lakebed.spec.table import SourceTable, TableError
from lakebed.store.grain_mismatch import describe_mismatch, grain_mismatches, how_to_fix

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DURATION = re.compile(r"(\d{1,4})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class RestoreRequestError(TableError):
    """A restore that is asked for in a way that makes no sense; nothing was done."""


def chosen(
    connection: Connection,
    table: SourceTable,
    keys: Sequence[str],
    since: str | None,
    until: str | None,
) -> list[Window]:
    """Return the partitions that are named, or those settled ones that touch a stretch of time.

    since, until: ISO 8601 with a zone, or a date, of which the beginning in UTC; half-open.
    Raises RestoreRequestError.
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


def duration(text: str) -> timedelta:
    """Read a duration such as 12h, 30d or 4w. Raises RestoreRequestError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise RestoreRequestError(f"{text!r} is no duration; write it like 12h, 30d or 4w")
    return int(found[1]) * _UNITS[found[2]]


def _moment(table: SourceTable, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RestoreRequestError(f"{table.name}: {text!r} is no ISO 8601 time") from error
    if _DATE.fullmatch(text):
        return moment.replace(tzinfo=UTC)
    if moment.tzinfo is None:
        raise RestoreRequestError(
            f"{table.name}: {text!r} names no time zone; write it like 2024-05-01T00:00:00+00:00"
        )
    return moment
