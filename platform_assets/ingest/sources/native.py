"""Arrow types that polars has not, made into ones that it has, before anything is lost.

Text that is not UTF-8 becomes bytes, uuid its text; 16 bytes of fixed size become an array of
numbers, which cannot be confused with text; a decimal of 256 bits a shorter one, or its digits as
text; other extension types their storage type. Values that their own type does not hold, such as
24:00:00 or 1000.00 in a decimal(5,2), become ones of a type that does: polars would take them for
null or for other ones.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.pgcopy.wire import COLUMN, select

_LIST = pa.types.is_list, pa.types.is_large_list


def for_polars(table: pa.Table) -> pa.Table:
    """Return the table with the columns replaced that polars would damage or refuse."""
    for index, field in enumerate(table.schema):
        if _is_packed(field.type):
            table = table.set_column(index, field.name, _unpacked(table.column(index)))
            field = table.schema.field(index)
        if _holds_text(field.type):
            table = table.set_column(index, field.name, _checked_text(table.column(index)))
        elif _has_bounds(_leaf_type(field.type)):
            if any(map(_is_beyond, table.column(index).chunks)):
                whole = pa.concat_arrays(table.column(index).chunks)
                table = table.set_column(index, field.name, _widened(whole))
        elif _is_foreign(field.type):
            chunks = [_known(chunk) for chunk in table.column(index).chunks]
            if not chunks:
                chunks = [_known(pa.array([], field.type))]
            if len({chunk.type for chunk in chunks}) > 1:
                chunks = [chunk.cast(pa.string()) for chunk in chunks]
            table = table.set_column(index, field.name, pa.chunked_array(chunks))
    return table


def _is_packed(kind: pa.DataType) -> bool:
    """Whether polars has the values of a type but not their layout."""
    if pa.types.is_dictionary(kind):
        return _is_foreign(kind.value_type) or _has_bounds(kind.value_type)
    return bool(pa.types.is_run_end_encoded(kind))


def _unpacked(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type)
    return pc.run_end_decode(column)


def _leaf_type(kind: pa.DataType) -> pa.DataType:
    return _leaf_type(kind.value_type) if any(of(kind) for of in _LIST) else kind


def _has_bounds(kind: pa.DataType) -> bool:
    """Whether arrays of a type may hold values that are none of it: Arrow does not look."""
    return bool(pa.types.is_time(kind) or pa.types.is_decimal128(kind))


def _is_beyond(array: pa.Array) -> bool:
    """Whether a value, or an element of one, lies outside the bounds of its own type."""
    kind = array.type
    if any(is_list(kind) for is_list in _LIST):
        return _is_beyond(array.flatten())
    if pa.types.is_time(kind):
        last = _A_DAY[kind.unit] - 1
        ends = pc.min_max(array.view(pa.int32() if kind.bit_width == 32 else pa.int64()))
    else:
        last = 10**kind.precision - 1
        ends = pc.min_max(_as_whole(array))
    lower, upper = ends.as_py().values()
    least = 0 if pa.types.is_time(kind) else -last
    return lower is not None and (lower < least or upper > last)


_A_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def _widened(array: pa.Array) -> pa.Array:
    """Return times as text, and decimals with all the digits that they may have."""
    kind = array.type
    if any(is_list(kind) for is_list in _LIST):
        array = pa.concat_arrays([array])
        made = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
        return made.from_arrays(array.offsets, _widened(array.values), mask=array.is_null())
    if pa.types.is_decimal128(kind):
        return _retyped(array, pa.decimal128(38, kind.scale))
    count = pl.Series("c", array.view(pa.int32() if kind.bit_width == 32 else pa.int64()))
    per_second = _A_DAY[kind.unit] // 86_400
    digits = len(str(per_second)) - 1
    seconds = COLUMN // per_second

    def padded(number: pl.Expr, width: int) -> pl.Expr:
        return number.cast(pl.String).str.zfill(width)

    parts = padded(seconds // 3600, 2), padded(seconds // 60 % 60, 2), padded(seconds % 60, 2)
    text = pl.concat_str(*parts, separator=":")
    if digits:
        text = pl.concat_str(text, pl.lit("."), padded(COLUMN % per_second, digits))
    return select(count, text).to_arrow().cast(pa.string())


def _retyped(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(array), array.buffers(), offset=array.offset)


def _as_whole(decimals: pa.Array) -> pa.Array:
    """Return decimals without their points."""
    bits = decimals.type.bit_width
    return _retyped(decimals, pa.decimal256(76, 0) if bits == 256 else pa.decimal128(38, 0))


def bytes_of(arrays: pl.Series) -> pl.Series:
    """Return 16 bytes of fixed size, which came as an array of numbers, as plain bytes."""
    lists = arrays.rechunk().to_arrow()
    data = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16),
        len(lists),
        [lists.buffers()[0], lists.values.buffers()[1]],
        offset=lists.offset,
    )
    return pl.Series(arrays.name, data, dtype=pl.Binary)


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _checked_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text unchanged, or as bytes where some is not UTF-8, which polars does not check."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return pa.chunked_array([_bytes_of_text(chunk) for chunk in column.chunks], pa.binary())
    return column


def _bytes_of_text(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.DictionaryArray):
        return _bytes_of_text(array.dictionary).take(array.indices)
    return array.cast(pa.binary())


def _is_foreign(kind: pa.DataType) -> bool:
    if any(is_list(kind) for is_list in _LIST):
        return _is_foreign(kind.value_type)
    return (
        isinstance(kind, pa.BaseExtensionType)
        or pa.types.is_decimal256(kind)
        or kind == pa.binary(16)
    )


def _known(array: pa.Array) -> pa.Array:
    kind = array.type
    if any(is_list(kind) for is_list in _LIST):
        array = pa.concat_arrays([array])
        made = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
        return made.from_arrays(array.offsets, _known(array.values), mask=array.is_null())
    if isinstance(kind, pa.UuidType):
        return _uuid_text(array.storage)
    if isinstance(kind, pa.BaseExtensionType):
        return array.storage
    if pa.types.is_decimal256(kind):
        return _shorter(array)
    data = array.buffers()[1]
    start, count = array.offset * 16, len(array) * 16
    numbers = pa.Array.from_buffers(pa.uint8(), count, [None, data], offset=start)
    return pa.FixedSizeListArray.from_arrays(numbers, 16, mask=array.is_null())


def _uuid_text(storage: pa.Array) -> pa.Array:
    digits = pl.Series("c", storage.cast(pa.binary()), dtype=pl.Binary).bin.encode("hex")
    shape = r"^(.{8})(.{4})(.{4})(.{4})(.{12})$"
    text = select(digits, COLUMN.str.replace(shape, "${1}-${2}-${3}-${4}-${5}"))
    return text.to_arrow().cast(pa.string())


def _shorter(decimals: pa.Array) -> pa.Array:
    """Return decimals of at most 38 digits, or their digits as text, never with an exponent."""
    scale = decimals.type.scale
    if 0 <= scale <= 38:
        try:
            return decimals.cast(pa.decimal128(38, scale))
        except pa.ArrowInvalid:
            pass  # some value is longer
    if scale <= 0:
        return decimals.cast(pa.decimal256(76, 0)).cast(pa.string())
    # The same numbers without a point; Arrow would write small ones with an exponent.
    whole = pc.cast(_as_whole(decimals), pa.string())
    digits = pl.Series("c", whole, dtype=pl.String)
    sign = pl.when(COLUMN.str.starts_with("-")).then(pl.lit("-")).otherwise(pl.lit(""))
    padded = COLUMN.str.strip_prefix("-").str.pad_start(scale + 1, "0")
    text = pl.concat_str(sign, padded.str.head(-scale), pl.lit("."), padded.str.tail(scale))
    return select(digits, text).to_arrow().cast(pa.string())
