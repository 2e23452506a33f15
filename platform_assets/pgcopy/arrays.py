"""Arrays of one dimension, by column: their elements as a column of their own, and back.

As text an array is what psql writes, {1,NULL,"a b"}, or a JSON array of scalars, [1, null, "a b"].
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.pgcopy.json_text import SCALAR, STRING, is_jsonb
from lakebed.pgcopy.wire import big_endian, in_turn, joined, where_not_null

_PLAIN = r'"(?:[^"\\]|\\.)*"|[^,{}"\\\s](?:[^,{}"\\]*[^,{}"\\\s])?'
_JSON = rf"{STRING}|{SCALAR}|-?Infinity|NaN"
"""A scalar of JSON, or a float that JSON has not and that most programs write so all the same."""


def _array_of(element: str, opening: str, closing: str) -> str:
    return (
        rf"(?s)^\s*{opening}\s*"
        rf"(?:(?:{element})\s*(?:,\s*(?:{element})\s*)*)?{closing}\s*$"
    )


def elements(arrays: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return all elements of a list column one after the other, and the row of each."""
    lengths = arrays.list.len().fill_null(0)
    rows = pl.int_range(0, len(arrays), eager=True).repeat_by(lengths)
    return (
        arrays.list.explode(empty_as_null=False, keep_nulls=False),
        rows.list.explode(empty_as_null=False, keep_nulls=False),
    )


def of_elements(arrays: pl.Series, values: pl.Series) -> pl.Series:
    """Return a list column with other elements in the places of those of `elements`."""
    ends = pa.concat_arrays([pa.array([0], pa.int64()), _ends(arrays)])
    array = pa.LargeListArray.from_arrays(ends, values.to_arrow(), mask=_nulls(arrays))
    return pl.Series(arrays.name, array, dtype=pl.List(values.dtype))


def read_arrays(texts: pl.Series) -> pl.Series:
    """Return the elements of each array as text; null where the text is not an array of one."""
    braces = texts.str.contains(_array_of(_PLAIN, r"\{", r"\}")).fill_null(False)
    brackets = texts.str.contains(_array_of(_JSON, r"\[", r"\]")).fill_null(False)
    if brackets.any():
        # Escapes that are half a character have no text.
        strings = texts.set(~brackets, None).str.extract_all(STRING).list.join(",")
        brackets &= is_jsonb("[" + strings + "]").fill_null(False)
    plain = texts.set(~braces, None).str.extract_all(f"(?s){_PLAIN}").set(~braces, None)
    json = texts.set(~brackets, None).str.extract_all(_JSON).set(~brackets, None)
    found = of_elements(plain, _unquoted(elements(plain)[0]))
    return found.zip_with(~brackets, of_elements(json, _from_json(elements(json)[0])))


def array_wire(arrays: pa.Array, oid: int, values: pa.Array) -> pa.Array:
    """Return arrays as COPY BINARY has them. values: the wire bytes of all their elements."""
    lists = pl.Series("c", arrays)
    lengths = lists.list.len().fill_null(0).cast(pl.Int64)
    whole = joined(big_endian(pl.Series("n", pc.binary_length(values)), "i"), values)
    null = pa.scalar(b"\xff\xff\xff\xff", pa.binary())
    body = pa.LargeListArray.from_arrays(
        pa.concat_arrays([pa.array([0], pa.int64()), _ends(lists)]),
        pc.if_else(values.is_valid(), whole, null).cast(pa.binary()),
    )
    _, rows = elements(lists)
    with_null = pl.Series([0]).new_from_index(0, len(lists))
    with_null = with_null.scatter(rows.filter(pl.Series(values.is_null())).unique(), 1)
    some = (lengths > 0).to_arrow()
    bounds = joined(big_endian(lengths, "i"), big_endian(lengths.clip(1, 1), "i"))
    head = (
        big_endian((lengths > 0).cast(pl.Int32), "i"),
        big_endian(with_null, "i"),
        big_endian(pl.Series([oid]).new_from_index(0, len(lists)), "i"),
        pc.if_else(some, bounds, pa.scalar(b"", pa.binary())),
    )
    return where_not_null(arrays, joined(*head, pc.binary_join(body, b"")))


def _ends(arrays: pl.Series) -> pa.Array:
    return arrays.list.len().fill_null(0).cast(pl.Int64).cum_sum().to_arrow()


def _nulls(arrays: pl.Series) -> pa.Array:
    return arrays.is_null().to_arrow()


def _unquoted(tokens: pl.Series) -> pl.Series:
    quoted = tokens.str.starts_with('"').fill_null(False)
    null = tokens.str.to_lowercase() == "null"
    return in_turn(
        tokens,
        (~quoted & ~null, lambda some: some),
        (
            quoted,
            lambda some: some.str.slice(1, some.str.len_chars() - 2).str.replace_all(
                r"(?s)\\(.)", "${1}"
            ),
        ),
    )


def _from_json(tokens: pl.Series) -> pl.Series:
    quoted = tokens.str.starts_with('"').fill_null(False)
    null = tokens == "null"
    return in_turn(
        tokens,
        (~quoted & ~null, lambda some: some),
        (quoted, lambda some: some.str.json_decode(pl.String)),
    )
