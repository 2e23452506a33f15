"""Transform a batch: make the columns of the table from those of the source, all by column.

A value that a step cannot read makes its row a reject with the reason. An expression that fails
for some rows rejects those rows. One that fails for every row refuses the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import polars as pl

from lakebed.ingest.casts import Cast, cast
from lakebed.ingest.sources.reader import SourceError, SourceItem
from lakebed.spec.schema import Column
from lakebed.spec.table import SourceTable
from lakebed.spec.transforms import EPOCHS, PLAIN, Mapped, Value, operands, order, parsed

MOST_TRIALS = 2_000
"""How often an expression is tried on parts of a batch to find the rows in which it fails."""


def transform(
    table: SourceTable,
    file: SourceItem,
    raw: pl.DataFrame,
    only: str | None = None,
    *,
    texts: Collection[str] = (),
) -> dict[str, Cast]:
    """Make the columns of the table, or one of them, from a batch as it was read.

    Args:
        table: the table whose contract the columns meet.
        file: the item that an error names.
        raw: the batch.
        only: the single column to make; by default all.
        texts: the columns of the batch whose bytes are text.

    Raises:
        SourceError: for a column that no cast can convert to the contract's type, and for an
            expression that fails.
    """
    done: dict[str, Cast] = {}
    columns = {column.name: column for column in table.contract}
    wanted = set(table.contract_names) if only is None else _needed(table, only)
    for name in order(table.transforms, table.contract_names):
        if name not in wanted:
            continue
        how = table.transforms.get(name, PLAIN)
        source = how.column or name
        if how.expr is None:
            if source not in raw.columns:  # it may be missing: `columns_to_read` let it pass
                nothing = pl.Series(name, [None], columns[name].polars)
                done[name] = Cast(nothing.new_from_index(0, raw.height))
                continue
            start = Cast(raw[source])
        else:
            start = _computed(table, file, raw, done, name)
        dtype = start.series.dtype
        try:
            written = how.expr is None and source in texts
            result = _steps(start.series, how, columns[name], written)
        except pl.exceptions.PolarsError as error:
            whose = f"column {how.column or name!r}" if how.expr is None else f"{name!r}, computed,"
            raise SourceError(
                file.path,
                f"{whose} is {dtype}, which cannot become "
                f"{columns[name].types.literal or columns[name].polars} ({error})",
            ) from error
        done[name] = Cast(result.series.alias(name), start.problems + result.problems)
    return done


def _needed(table: SourceTable, name: str) -> set[str]:
    """Return the column and those that its expression depends on."""
    found = {name}
    if table.transforms.get(name, PLAIN).expr is not None:
        for operand in operands(table.transforms, name):
            if operand in table.contract_names and operand not in found:
                found |= _needed(table, operand)
    return found


def _steps(series: pl.Series, how: Mapped, column: Column, written: bool) -> Cast:
    """Apply the steps of spec/transforms.py to a column, up to the cast to its type.

    Args:
        series: The column.
        how: Its transforms.
        column: Its declaration.
        written: Whether its bytes are text.
    """
    target, literal = column.polars, column.types.literal
    if how is PLAIN or how.only_renames:
        return cast(series, target, literal, written=written)
    text_wanted = how.on_text and series.dtype in (pl.Binary, pl.Categorical, pl.Enum)
    problems: list[tuple[str, pl.Series, str]] = []
    if text_wanted or (series.dtype == pl.Binary and target != pl.Binary):
        decoded = cast(series, pl.String())
        series, problems = decoded.series, decoded.problems
    result = Cast(series, problems)
    if series.dtype == pl.String:
        _clean(result, how)
    if how.values:
        _translate(result, how)
    if (how.decimal != "." or how.thousands) and result.series.dtype == pl.String:
        _read_number(result, how)
    if how.format in EPOCHS:
        _read_epoch(result, how.format)
    elif how.format is not None:
        _read_time(result, how.format, target)
    if how.time_zone is not None:
        _read_zone(result, how.time_zone)
    typed = cast(result.series, target, literal, written=written)
    return Cast(typed.series, result.problems + typed.problems)


def _clean(result: Cast, how: Mapped) -> None:
    text = result.series
    if how.trim:
        text = text.str.strip_chars()
    if how.null_strings:
        text = text.set(text.is_in(list(how.null_strings)).fill_null(False), None)
    if how.case is not None:
        text = text.str.to_uppercase() if how.case == "upper" else text.str.to_lowercase()
    result.series = text


def _translate(result: Cast, how: Mapped) -> None:
    text = result.series.cast(pl.String)
    known = {_as_text(key): _as_text(value) for key, value in how.values.items()}
    if None in known:
        text = text.fill_null(known[None]) if known[None] is not None else text
    pairs = {key: value for key, value in known.items() if key is not None}
    if how.strict:
        unknown = text.is_not_null() & ~text.is_in([*pairs, *_filled(known)])
        result.add("is not one of the values that the table file maps", unknown, "values")
        text = text.set(unknown, None)
    result.series = text.replace(pairs)


def _filled(known: dict[str | None, str | None]) -> list[str]:
    value = known.get(None)
    return [] if value is None else [value]


def _as_text(value: Value) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_number(result: Cast, how: Mapped) -> None:
    text = result.series.str.strip_chars()
    mark = re.escape(how.decimal)
    whole = r"\d+"
    if how.thousands:
        whole = rf"(\d+|\d{{1,3}}({re.escape(how.thousands)}\d{{3}})+)"
    good = text.str.contains(rf"^[+-]?({whole}({mark}\d*)?|{mark}\d+)$")
    bad = ~good.fill_null(True)
    group = f" and {how.thousands!r} between thousands" if how.thousands else ""
    result.add(f"is not a number with {how.decimal!r} before the decimals{group}", bad)
    if how.thousands:
        text = text.str.replace_all(how.thousands, "", literal=True)
    result.series = text.str.replace(how.decimal, ".", literal=True).set(bad, None)


def _read_epoch(result: Cast, form: str) -> None:
    """Read a count since 1970 as microseconds; text and decimals exactly, floats to the nearest."""
    series, factor = result.series, EPOCHS[form]
    if series.dtype.is_temporal():
        return
    if series.dtype.is_float():
        count = (series.cast(pl.Float64) * factor).round().cast(pl.Int64, strict=False)
    else:
        exact = cast(series, pl.Decimal(38, 9)).series
        scaled = exact * pl.Series([factor], dtype=pl.Decimal(9, 0))
        count = scaled.cast(pl.Int64, strict=False)
        count = count.set((count.cast(scaled.dtype) != scaled).fill_null(False), None)
    result.add(
        f"is not a count since 1970 ({form}), to the microsecond",
        series.is_not_null() & count.is_null(),
    )
    result.series = count.cast(pl.Datetime("us", "UTC"))


def _read_time(result: Cast, form: str, target: pl.DataType) -> None:
    series = result.series
    if series.dtype.is_temporal():
        return
    if series.dtype.is_float():
        raise pl.exceptions.InvalidOperationError(f"a fraction is not a time such as {form}")
    text = series.cast(pl.String).str.strip_chars()
    read = parsed(text, form, target)
    # Digits beyond the microsecond and leap seconds: they would be moved.
    lost = text.str.contains(r"\.\d{6}\d*[1-9]").fill_null(False) if "f" in form else None
    if lost is not None:
        read = read.set(lost, None)
    read = read.set(_leap(text, read, form, target), None)
    result.add(f"is not a time such as {form}", text.is_not_null() & read.is_null())
    result.series = read


def _leap(text: pl.Series, read: pl.Series, form: str, target: pl.DataType) -> pl.Series:
    """Where a second 60 was read: with a 59 in its place it is the time a second before."""
    nowhere = pl.Series([False]).new_from_index(0, len(text))
    before = re.search(r"(.)%-?(S|T|\+|X)", form)
    if before is None or not text.str.contains("60", literal=True).any():
        return nowhere
    separator = ":" if before[2] != "S" else before[1]
    other = text.str.replace(rf"^(.*{re.escape(separator)})60(\D|$)", "${1}59${2}")
    changed = (other != text).fill_null(False)
    if not changed.any():
        return nowhere
    second = pl.Series([1_000_000_000 if target == pl.Time else 1_000_000])
    again = parsed(other, form, target).to_physical()
    return changed & (again + second == read.to_physical()).fill_null(False)


def _read_zone(result: Cast, zone: str) -> None:
    """Take times that name no zone as local ones of a place, to UTC."""
    series = result.series
    aware = None
    if series.dtype == pl.String:
        naive = cast(series, pl.Datetime("us"))
        rest = cast(series.set(naive.series.is_not_null(), None), pl.Datetime("us", "UTC"))
        aware, local = rest.series, naive.series
        result.problems += rest.problems
    elif series.dtype == pl.Date:
        local = series.cast(pl.Datetime("us"))
    elif isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone is None:
        local = series
    else:
        return
    there = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    lost = local.is_not_null() & there.is_null()
    if lost.any():
        either = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        twice = lost & either.is_not_null()
        result.add(f"is there twice in {zone}, where clocks go back", twice, "time_zone")
        result.add(f"is not there in {zone}, where clocks go forward", lost & ~twice, "time_zone")
    utc = there.dt.convert_time_zone("UTC")
    result.series = utc if aware is None else utc.zip_with(utc.is_not_null(), aware)


def _computed(
    table: SourceTable, file: SourceItem, raw: pl.DataFrame, done: dict[str, Cast], name: str
) -> Cast:
    """Return what an expression gives, with the rows in which it fails."""
    how = table.transforms[name]
    result = Cast(pl.Series(name, []))
    frame = _frame_of(raw, done, operands(table.transforms, name), name, result)
    expression = how.compiled.alias(name)
    fault = f"table {table.name}, column {name!r}: the expression {how.expr}"
    try:
        empty = _evaluate(frame.clear(), expression)
    except pl.exceptions.PolarsError as error:
        raise SourceError(file.path, f"{fault} fails ({_first(error)})") from error
    try:
        result.series = _evaluate(frame, expression)
    except pl.exceptions.PolarsError:
        result.series = _by_parts(frame, expression, result, file, fault, empty.dtype)
    else:
        _check_one_row(frame, expression, result.series, file, fault)
    return result


def _frame_of(
    raw: pl.DataFrame, done: dict[str, Cast], names: Collection[str], name: str, result: Cast
) -> pl.DataFrame:
    """Return the columns that an expression names: transformed ones, or else the source's."""
    columns = []
    for operand in names:
        if operand in done and operand != name:
            columns.append(done[operand].series)
            continue
        series = raw[operand]
        if series.dtype == pl.Binary:
            text = cast(series, pl.String())
            series = text.series
            result.problems += text.problems
        columns.append(series)
    # A column of its own, so that an expression without names has as many rows.
    return pl.DataFrame([*columns, pl.Series("", [None]).new_from_index(0, raw.height)])


def _evaluate(frame: pl.DataFrame, expression: pl.Expr) -> pl.Series:
    return frame.with_columns(expression)[expression.meta.output_name()]


def _check_one_row(
    frame: pl.DataFrame, expression: pl.Expr, whole: pl.Series, file: SourceItem, fault: str
) -> None:
    """Make sure that a row's value does not hang on the rows that are read with it."""
    if frame.height < 2:
        return
    for index in (0, frame.height - 1):
        alone = _evaluate(frame.slice(index, 1), expression)
        if not alone.eq_missing(whole.slice(index, 1)).all():
            raise SourceError(
                file.path,
                f"{fault} looks at other rows than its own; rows come in batches, so compute "
                "such a value in a model",
            )


def _by_parts(
    frame: pl.DataFrame,
    expression: pl.Expr,
    result: Cast,
    file: SourceItem,
    fault: str,
    dtype: pl.DataType,
) -> pl.Series:
    """Halve the batch until each row in which the expression fails is isolated."""
    parts: list[pl.Series] = []
    reasons: dict[str, list[int]] = {}
    waiting = [(0, frame.height)]
    trials = 0
    while waiting:
        first, rows = waiting.pop()
        trials += 1
        try:
            part = frame.slice(first, rows)
            parts.append(_evaluate(part, expression))
            _check_one_row(part, expression, parts[-1], file, fault)
        except pl.exceptions.PolarsError as error:
            if trials > MOST_TRIALS:
                raise SourceError(
                    file.path, f"{fault} fails in too many rows; one of them: {_first(error)}"
                ) from error
            if rows == 1:
                reasons.setdefault(f"cannot be computed: {_first(error)}", []).append(first)
                parts.append(pl.Series([None], dtype=dtype))
                continue
            half = rows // 2
            waiting += [(first + half, rows - half), (first, half)]
    for reason, indexes in reasons.items():
        bad = pl.Series([False]).new_from_index(0, frame.height).scatter(indexes, True)
        result.add(reason, bad, "expression")
    return pl.concat([part.cast(dtype) for part in parts]).alias(expression.meta.output_name())


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
