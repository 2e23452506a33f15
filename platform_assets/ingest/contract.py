"""The contract on a batch: checked casts, then pandera on every row; good rows and rejects.

A row is bad when a value cannot become its column's type without loss, when PostgreSQL could not
hold it, when it lies outside the table's time, or when a pandera rule says so. Bad rows are told
apart one by one; the others go on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
from pandera.errors import SchemaErrors
from polars import selectors

from platform_assets.catalog import SourceTable
from platform_assets.columns import GONE, ROW_NUMBER, SOURCE_FILE
from platform_assets.ingest.casts import cast
from platform_assets.ingest.sources.reader import Batch, SourceError, SourceItem
from platform_assets.quality.schema import arrow_schema


@dataclass(frozen=True)
class Reject:
    """A row that broke the contract. row: as it was read, ready for jsonb."""

    source_file: str
    row_number: int
    column: str | None
    reason: str
    row: str


@dataclass(frozen=True)
class Checked:
    """A batch after its check: good rows with the contract's columns and types, and the rejects."""

    good: pl.DataFrame
    rejects: list[Reject]


def columns_to_read(table: SourceTable, file: SourceItem, there: Sequence[str]) -> list[str]:
    """Return which of a file's columns are read. Raises SourceError on a broken contract."""
    needed = [column.name for column in table.contract]
    if table.marker is not None and table.marker not in needed:
        needed.append(table.marker)
    missing = [name for name in needed if name not in there]
    if missing:
        raise SourceError(
            file.path,
            f"column {missing[0]!r} is missing (the file has: {', '.join(there)}); "
            "deliver the file again, or change the table file",
        )
    unknown = [n for n in there if n not in needed and n not in table.ignored]
    if unknown and table.new_columns == "freeze":
        raise SourceError(
            file.path,
            f"column {unknown[0]!r} is not in the contract of {table.name}; add it to the model, "
            f"to ignored=(...), or set new_columns='discard'",
        )
    return needed


def check(table: SourceTable, file: SourceItem, batch: Batch) -> Checked:
    """Cast and validate one batch. Raises SourceError for a column that is no column at all."""
    raw = batch.frame
    problems: dict[int, list[tuple[str | None, str]]] = {}
    columns = []
    for column in table.contract:
        try:
            done = cast(raw[column.name], column.polars, column.types.literal)
        except pl.exceptions.PolarsError as error:
            raise SourceError(
                file.path,
                f"column {column.name!r} is {raw[column.name].dtype}, which cannot become "
                f"{column.types.literal or column.polars} ({error})",
            ) from error
        columns.append(done.series)
        for reason, bad in done.problems:
            for index in bad.arg_true():
                problems.setdefault(index, []).append((column.name, reason))
    typed = pl.DataFrame(columns)
    _check_time(table, typed, problems)
    _check_rules(table, file, typed, problems)
    typed = _described(table, file, batch, typed)
    _excuse(table, typed, problems)
    rejects = _rejects(file, raw, batch.numbers, problems)
    rejects += [
        Reject(file.path, number, None, problem, json.dumps({"line": _storable(text)}))
        for number, problem, text in batch.malformed
    ]
    if problems:
        keep = pl.Series([True]).new_from_index(0, typed.height).scatter(list(problems), False)
        typed = typed.filter(keep)
    return Checked(typed, rejects)


def to_arrow(table: SourceTable, good: pl.DataFrame) -> pa.Table:
    """Return checked rows as Arrow with the types that go over the wire."""
    return good.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(arrow_schema(table.wire))


def _described(
    table: SourceTable, file: SourceItem, batch: Batch, typed: pl.DataFrame
) -> pl.DataFrame:
    """Add what the wire carries beside the contract: whether a row is gone, and where it was."""
    more: dict[str, pl.Series] = {}
    wire = {column.name for column in table.wire}
    if table.deleting is not None and table.marker is not None:
        values = [value.lower() for value in table.deleting.values]
        more[GONE] = _as_text(batch.frame[table.marker]).is_in(values).fill_null(False)
    if ROW_NUMBER in wire:
        more[SOURCE_FILE] = pl.Series([file.path], dtype=pl.String).new_from_index(0, typed.height)
        more[ROW_NUMBER] = batch.numbers.cast(pl.Int64)
    return typed.with_columns(**more)


def _excuse(
    table: SourceTable, typed: pl.DataFrame, problems: dict[int, list[tuple[str | None, str]]]
) -> None:
    """Leave to a row that is gone what is wrong with columns that a delete does not need."""
    if GONE not in typed.columns:
        return
    spare = {column.name for column in table.wire if column.nullable}
    gone = typed[GONE]
    for index in [index for index in problems if gone[index]]:
        left = [(name, why) for name, why in problems[index] if name not in spare]
        if left:
            problems[index] = left
        else:
            del problems[index]


def _as_text(marker: pl.Series) -> pl.Series:
    text = cast(marker, pl.String()).series if marker.dtype == pl.Binary else marker
    if text.dtype != pl.String:
        text = text.cast(pl.String, strict=False)
    return text.str.strip_chars().str.to_lowercase()


def _check_time(
    table: SourceTable, typed: pl.DataFrame, problems: dict[int, list[tuple[str | None, str]]]
) -> None:
    by = table.partitioning
    if by is None:
        return
    moments = typed[by.column]
    outside = {
        f"before the table's start, {by.start.isoformat()}": moments < by.start,
        "after the last year that has an end, 9998": moments >= datetime(9999, 1, 1, tzinfo=UTC),
    }
    if by.end is not None:
        outside[f"at or after the table's end, {by.end.isoformat()}"] = moments >= by.end
    for reason, bad in outside.items():
        for index in bad.fill_null(False).arg_true():
            problems.setdefault(index, []).append((by.column, reason))


def _check_rules(
    table: SourceTable,
    file: SourceItem,
    typed: pl.DataFrame,
    problems: dict[int, list[tuple[str | None, str]]],
) -> None:
    try:
        table.model.to_schema().validate(typed, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        for column, rule, index in cases.select("column", "check", "index").iter_rows():
            if index is None:
                raise SourceError(
                    file.path, f"the rule {rule} of {table.name} fails for the batch as a whole"
                ) from errors
            name = column if column in typed.columns else None
            found = problems.setdefault(index, [])
            if not any(known == name for known, _ in found):
                found.append((name, f"breaks the rule {rule}"))


def _rejects(
    file: SourceItem,
    raw: pl.DataFrame,
    numbers: pl.Series,
    problems: dict[int, list[tuple[str | None, str]]],
) -> list[Reject]:
    indexes = sorted(problems)
    rejects = []
    for index, row in zip(indexes, as_read(raw[indexes]), strict=True):
        column, _ = problems[index][0]
        reason = "; ".join(
            f"{name}: {why} (it is {_shown(row[name])})" if name else why
            for name, why in problems[index]
        )
        rejects.append(Reject(file.path, numbers[index], column, reason, json.dumps(row)))
    return rejects


def as_read(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Return rows of a source as quarantine keeps them: for each a JSON object of its columns."""
    # As text where Python's own times would not reach.
    times = selectors.temporal() - selectors.duration()
    return [
        {name: _storable(value) for name, value in row.items()}
        for row in rows.with_columns(times.cast(pl.String)).iter_rows(named=True)
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    text = repr(_storable(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _storable(value: Any) -> Any:
    """Return the value as jsonb can hold it: no NUL, no broken UTF-8, no NaN."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None or isinstance(value, bool | int):
        return value
    return str(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
