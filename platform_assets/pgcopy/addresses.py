"""Network addresses by their text: inet and cidr, of both families, by column.

PostgreSQL's shortened networks, 10.1/16, are not read: they are easily taken for something else.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.pgcopy.wire import COLUMN, big_endian, in_turn, joined, select, where_not_null

_MASK = r"(?:/(0|[1-9]\d{0,2}))?$"
_V4 = r"^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})"
_GROUPS = r"^(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)?$"
_NIBBLES = {f"{value:x}": f"{value:04b}" for value in range(16)}
_BYTES = {str(value): f"{value:02x}" for value in range(256)}


def _v4(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return the address as a number, null if bad, and the length of its mask."""
    groups = text.str.extract_groups(_V4 + _MASK).struct
    # An octet above 255 is null, and so is 010, which may be octal.
    octets = [groups.field(str(i)).cast(pl.UInt8, strict=False).cast(pl.Int64) for i in range(1, 5)]
    mask = groups.field("5").cast(pl.Int64).fill_null(32)
    number = octets[0] * 2**24 + octets[1] * 2**16 + octets[2] * 2**8 + octets[3]
    return pl.when(mask <= 32).then(number), mask


def _v6(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return the address as 32 hex digits, null if bad, and the length of its mask."""
    address = text.str.extract(r"^([0-9a-f.:]+)" + _MASK, 1)
    mask = text.str.extract(_MASK, 1).cast(pl.Int64).fill_null(128)
    tail = [
        address.str.extract(r":(\d+)\.(\d+)\.(\d+)\.(\d+)$", i).replace_strict(
            _BYTES, default=None, return_dtype=pl.String
        )
        for i in range(1, 5)
    ]
    head = address.str.extract(r"^(.*:)[^:]*$")
    plain = (
        pl.when(address.str.contains(".", literal=True))
        .then(pl.concat_str(head, tail[0], tail[1], pl.lit(":"), tail[2], tail[3]))
        .otherwise(address)
    )
    halves = plain.str.split("::")
    left, right = halves.list.get(0), halves.list.get(1, null_on_oob=True).fill_null("")
    groups = [half.str.extract_all("[0-9a-f]+") for half in (left, right)]
    count = groups[0].list.len().cast(pl.Int64) + groups[1].list.len()
    well_formed = (
        (halves.list.len() <= 2)
        & left.str.contains(_GROUPS)
        & right.str.contains(_GROUPS)
        & pl.when(halves.list.len() == 2).then(count <= 7).otherwise(count == 8)
        & (mask <= 128)
    )
    first, last = (
        group.list.eval(pl.element().str.pad_start(4, "0")).list.join("") for group in groups
    )
    zeros = pl.lit("0" * 32).str.slice(0, (8 - count.clip(0, 8)) * 4)
    return pl.when(well_formed).then(pl.concat_str(first, zeros, last)), mask


def _read_v4(texts: pl.Series, *, cidr: bool) -> pl.Series:
    number, mask = _v4(COLUMN)
    good = number.is_not_null()
    if cidr:
        # A mask above 32 has made the address bad already; the power must not fail for it.
        good &= number % pl.lit(2, pl.Int64).pow(32 - mask.clip(0, 32)) == 0
        whole = pl.concat_str(COLUMN.str.extract(r"^([^/]+)"), pl.lit("/"), mask)
    else:
        whole = COLUMN.str.strip_suffix("/32")
    return select(texts, pl.when(good).then(whole))


def _read_v6(texts: pl.Series, *, cidr: bool) -> pl.Series:
    digits, mask = _v6(COLUMN)
    good = digits.is_not_null()
    if cidr:
        bits = digits.str.replace_many(_NIBBLES)
        good &= ~bits.str.slice(mask).str.contains("1", literal=True)
        whole = pl.concat_str(COLUMN.str.extract(r"^([^/]+)"), pl.lit("/"), mask)
    else:
        whole = COLUMN.str.strip_suffix("/128")
    return select(texts, pl.when(good).then(whole))


def read_address(texts: pl.Series, *, cidr: bool) -> pl.Series:
    """Return addresses as inet or cidr writes them, null where the text is none."""
    text = select(texts, COLUMN.str.strip_chars().str.to_lowercase())
    long = text.str.contains(":", literal=True).fill_null(False)
    return in_turn(
        text,
        (long, lambda some: _read_v6(some, cidr=cidr)),
        (~long, lambda some: _read_v4(some, cidr=cidr)),
    )


def wire_address(texts: pa.Array, *, cidr: bool) -> pa.Array:
    """Family, mask, flag, length and address; the first four are a number of four bytes."""
    frame = pl.Series("c", texts, dtype=pl.String).to_frame()
    number, mask4 = _v4(COLUMN)
    v4 = frame.select(n=number, head=(2 << 24) + mask4 * 2**16 + (int(cidr) << 8) + 4)
    short = joined(
        big_endian(v4["head"], "i"),
        big_endian(v4.select(pl.col("n") - (pl.col("n") >= 2**31) * 2**32).to_series(), "i"),
    )
    long = frame["c"].str.contains(":", literal=True).fill_null(False)
    if not long.any():
        return where_not_null(texts, short)
    digits, mask6 = _v6(COLUMN)
    v6 = frame.select(
        digits=pl.when(long).then(digits).str.decode("hex"),
        head=pl.when(long).then((3 << 24) + mask6 * 2**16 + (int(cidr) << 8) + 16),
    )
    whole = joined(big_endian(v6["head"], "i"), v6["digits"].to_arrow().cast(pa.binary()))
    return where_not_null(texts, pc.if_else(long.to_arrow(), whole, short))
