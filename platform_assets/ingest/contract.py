"""Check a batch against the contract: checked casts, then pandera on every row.

A row is bad when a value cannot become its column's type without loss, when PostgreSQL could not
store it, when its time is outside the table's partitions, or when a pandera rule rejects it. Bad
rows become rejects one by one; the good rows go on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa

from lakebed.ingest.casts import cast
from lakebed.ingest.quarantine import encode, shown
from lakebed.ingest.rules import WholeBatchError, broken_rules
from lakebed.ingest.sources.reader import Batch, SourceError, SourceItem, listed, quoted
from lakebed.ingest.transform import transform
from lakebed.spec.columns import GONE, ROW_NUMBER, SOURCE_FILE
from lakebed.spec.partitions import LAST_YEAR
from lakebed.spec.schema import Column, arrow_schema
from lakebed.spec.table import JsonFiles, SourceTable
from lakebed.spec.transforms import PLAIN, sources_of
from lakebed.store.rejects import NOT_NULLABLE, Fault, Reject, RejectKind, line_key

Problems = dict[int, list[Fault]]
"""What is wrong with the rows of a batch, by their place in it, in the order of the contract."""


@dataclass(frozen=True)
class Checked:
    """A batch after its check: good rows with the contract's columns and types, and the rejects.

    numbers: of the good rows, in the source.
    """

    good: pl.DataFrame
    rejects: list[Reject]
    numbers: pl.Series


def columns_to_read(table: SourceTable, file: SourceItem, there: Sequence[str] | None) -> list[str]:
    """Return which of a file's columns are read. Raises SourceError on a broken contract.

    A column that may be missing, and is, is not among them; `check` takes null for it.  there: the
    columns of the file, None where only its rows can say.
    """
    if there is None:
        return list(table.source_columns)
    optional = {
        table.transforms.get(column.name, PLAIN).column or column.name
        for column in table.contract
        if _may_be_missing(table, column)
    }
    sparse = isinstance(table.source, JsonFiles)
    wanted = [
        name for name in table.source_columns if sparse or name in there or name not in optional
    ]
    missing = [] if sparse else [name for name in wanted if name not in there]
    if missing:
        how_to_fix = "deliver the file again, or change the table file"
        if any(c.name == missing[0] and c.nullable for c in table.contract):
            how_to_fix += " (missing_columns='null' takes null for it)"
        raise SourceError(
            file.path,
            f"column {missing[0]!r} is missing (the file has: {listed(there)}); {how_to_fix}",
        )
    _refuse_unknown(table, file, there)
    return wanted


def expected_types(table: SourceTable) -> dict[str, pa.DataType]:
    """Return the Arrow types as which columns of text may be read at once, by their source's names.

    Only types that Arrow reads as the casts do, and columns that nothing else is made of.
    """
    if table.lookups or any(how.expr is not None for how in table.transforms.values()):
        return {}
    found: dict[str, pa.DataType] = {}
    for column in table.contract:
        how = table.transforms.get(column.name, PLAIN)
        source = how.column or column.name
        likely = _as_arrow_reads(column.polars) if how.only_renames else None
        found[source] = likely if source not in found else None
    return {
        name: likely
        for name, likely in found.items()
        if likely is not None and name != table.marker
    }


def _as_arrow_reads(dtype: pl.DataType) -> pa.DataType | None:
    if dtype.is_integer() or dtype == pl.Date:
        return pl.Series([], dtype=dtype).to_arrow().type
    # As text what Arrow reads otherwise than the casts; it is valid UTF-8 then, at least.
    return None if dtype == pl.Binary else pa.string()


def _refuse_unknown(table: SourceTable, file: SourceItem, there: Sequence[str]) -> None:
    unknown = unknown_columns(table, there)
    if unknown and table.new_columns == "freeze":
        raise SourceError(
            file.path,
            f"column {quoted(unknown[0])} is not in the contract of {table.name}; add it to the "
            f"model, to ignored=(...), or set new_columns='evolve' or 'discard'",
        )


def unknown_columns(table: SourceTable, there: Sequence[str]) -> list[str]:
    """Return those of a file's columns that the table neither has nor ignores."""
    known = {*table.source_columns, *table.ignored}
    return [name for name in there if name not in known]


def _may_be_missing(table: SourceTable, column: Column) -> bool:
    if table.transforms.get(column.name, PLAIN).expr is not None:
        return False
    return column.evolved or (column.nullable and table.missing_columns == "null")


def check(table: SourceTable, file: SourceItem, batch: Batch) -> Checked:
    """Shape, cast and validate one batch.

    Raises SourceError for a column that no cast can convert, and for an expression that fails.
    """
    late = unknown_columns(table, batch.others)
    if late and table.new_columns != "discard":
        raise SourceError(
            file.path,
            f"column {quoted(late[0])} is not in the contract of {table.name}, and is met in a "
            "later row only; add it to the model, to ignored=(...), or set new_columns='discard'",
        )
    raw = batch.frame
    problems: Problems = {}
    done = transform(table, file, raw, texts=batch.texts)
    types = {column.name: column.postgres for column in table.contract}
    for name in table.contract_names:
        for reason, bad, rule in done[name].problems:
            fault = Fault(RejectKind.TYPE, rule or types[name], name, reason)
            for index in bad.arg_true():
                problems.setdefault(index, []).append(fault)
    typed = pl.DataFrame([done[name].series for name in table.contract_names])
    _check_time(table, typed, problems)
    _check_rules(table, file, typed, problems)
    typed = _described(table, file, batch, typed)
    _excuse(table, typed, problems)
    rejects = _rejects(table, file, batch, problems)
    rejects += [
        Reject(
            file.path,
            number,
            Fault(RejectKind.MALFORMED, found.rule, None, found.message),
            _line(table, text),
        )
        for number, found, text in batch.malformed
    ]
    numbers = batch.numbers
    if problems:
        keep = pl.Series([True]).new_from_index(0, typed.height).scatter(list(problems), False)
        typed, numbers = typed.filter(keep), numbers.filter(keep)
    if typed.height + len(problems) != raw.height:
        raise SourceError(
            file.path,
            f"{raw.height} rows were read, and {typed.height} good and {len(problems)} bad ones "
            "came out of the check; nothing was loaded of it",
        )
    return Checked(typed, rejects, numbers)


def rejects_at(file: SourceItem, batch: Batch, bad: Mapping[int, Fault]) -> list[Reject]:
    """Return rejects for rows of a batch, by their number.

    For what is found out after the check, by PostgreSQL: the item is read once more for its rows.
    """
    found = batch.numbers.is_in(list(bad))
    numbers = batch.numbers.filter(found).to_list()
    rows, types = encode(batch.frame.filter(found), batch.texts)
    return [
        Reject(file.path, number, bad[number], json.dumps(row), types)
        for number, row in zip(numbers, rows, strict=True)
    ]


def to_arrow(table: SourceTable, good: pl.DataFrame) -> pa.Table:
    """Return checked rows as Arrow with the types that go over the wire."""
    return good.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(arrow_schema(table.wire))


def _described(
    table: SourceTable, file: SourceItem, batch: Batch, typed: pl.DataFrame
) -> pl.DataFrame:
    """Add the columns about the row: whether the source deleted it, and where it was read."""
    more: dict[str, pl.Series] = {}
    wire = {column.name for column in table.wire}
    if table.deleting is not None and table.marker is not None:
        values = [value.lower() for value in table.deleting.values]
        more[GONE] = _as_text(batch.frame[table.marker]).is_in(values).fill_null(False)
    if ROW_NUMBER in wire:
        more[SOURCE_FILE] = pl.Series([file.path], dtype=pl.String).new_from_index(0, typed.height)
        more[ROW_NUMBER] = batch.numbers.cast(pl.Int64)
    return typed.with_columns(**more)


def _excuse(table: SourceTable, typed: pl.DataFrame, problems: Problems) -> None:
    """Leave to a row that is gone what is wrong with columns that a delete does not need."""
    if GONE not in typed.columns:
        return
    spare = {column.name for column in table.wire if column.nullable}
    gone = typed[GONE]
    for index in [index for index in problems if gone[index]]:
        left = [fault for fault in problems[index] if fault.column not in spare]
        if left:
            problems[index] = left
        else:
            del problems[index]


def _as_text(marker: pl.Series) -> pl.Series:
    text = cast(marker, pl.String()).series if marker.dtype == pl.Binary else marker
    if text.dtype != pl.String:
        text = text.cast(pl.String, strict=False)
    return text.str.strip_chars().str.to_lowercase()


def _check_time(table: SourceTable, typed: pl.DataFrame, problems: Problems) -> None:
    by = table.partitioning
    if by is None:
        return
    moments = typed[by.column]
    last = datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)
    outside = [
        (moments < by.start, "start", f"before the table's start, {by.start.isoformat()}"),
        (moments >= last, "last_year", f"after the last year that has an end, {LAST_YEAR}"),
    ]
    if by.end is not None:
        why = f"at or after the table's end, {by.end.isoformat()}"
        outside.append((moments >= by.end, "end", why))
    for bad, bound, why in outside:
        fault = Fault(RejectKind.RULE, f"partitioning.{bound}", by.column, why)
        for index in bad.fill_null(False).arg_true():
            problems.setdefault(index, []).append(fault)


def _check_rules(
    table: SourceTable,
    file: SourceItem,
    typed: pl.DataFrame,
    problems: Problems,
) -> None:
    try:
        broken = broken_rules(table, typed)
    except WholeBatchError as error:
        raise SourceError(file.path, f"{error} (of {table.name})") from error
    for rule in broken:
        for index in rule.bad.arg_true():
            found = problems.setdefault(index, [])
            if not any(known.column == rule.column for known in found):
                kind = RejectKind.REQUIRED if rule.rule == NOT_NULLABLE else RejectKind.RULE
                found.append(Fault(kind, rule.rule, rule.column, f"breaks the rule {rule.rule}"))


def _rejects(
    table: SourceTable,
    file: SourceItem,
    batch: Batch,
    problems: Problems,
) -> list[Reject]:
    indexes = sorted(problems)
    rows, types = encode(batch.frame[indexes], batch.texts)
    rejects = []
    for index, row in zip(indexes, rows, strict=True):
        message = "; ".join(
            f"{fault.column}: {fault.message} ({_origin(table, fault.column, row)})"
            if fault.column
            else fault.message
            for fault in problems[index]
        )
        fault = replace(problems[index][0], message=message)
        rejects.append(Reject(file.path, batch.numbers[index], fault, json.dumps(row), types))
    return rejects


def _line(table: SourceTable, text: str) -> str:
    return json.dumps(
        {line_key(table.source_columns): text.replace("\0", "\N{REPLACEMENT CHARACTER}")}
    )


def _origin(table: SourceTable, name: str, row: dict[str, Any]) -> str:
    """Say what the source has where a column of the table is bad."""
    sources = sources_of(table.transforms, table.contract_names, name)
    if sources == [name]:
        return f"it is {_shown(row[name])}"
    return ", ".join(f"{source!r} is {_shown(row[source])}" for source in sources) or "a constant"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    text = repr(shown(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
