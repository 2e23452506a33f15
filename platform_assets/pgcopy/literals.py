"""Types that polars has not, by their text: uuid, inet, cidr, interval, timetz, numeric, json.

Each has one text form in which its values travel, a way to read other spellings into it that gives
null where PostgreSQL would refuse the value, and a way from it to the bytes of COPY BINARY. All by
column. A spelling is never guessed: a text that could mean two things is not a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.pgcopy.addresses import read_address, wire_address
from lakebed.pgcopy.json_text import is_json, is_jsonb
from lakebed.pgcopy.wire import (
    COLUMN,
    big_endian,
    from_hex,
    in_turn,
    joined,
    select,
    where_not_null,
)


@dataclass(frozen=True)
class Literal:
    """One type. word: what its value is called in a reason.

    read: text to its one form, null where it is not a value.  wire: that form as Arrow to what pgpq
    copies; None where the text itself is that.
    """

    word: str
    read: Callable[[pl.Series], pl.Series]
    wire: Callable[[pa.Array], pa.Array] | None = None


# uuid

_UUID = r"^([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})$"


def _read_uuid(texts: pl.Series) -> pl.Series:
    text = COLUMN.str.strip_chars().str.to_lowercase().str.replace(r"^\{(.*)\}$", "${1}")
    whole = text.str.replace(_UUID, "${1}-${2}-${3}-${4}-${5}")
    return select(texts, pl.when(text.str.contains(_UUID)).then(whole))


def _wire_uuid(texts: pa.Array) -> pa.Array:
    return from_hex(texts, COLUMN.str.replace_all("-", "", literal=True))


# interval

_WHOLE = r"[+-]?\d{1,18}"
_PARTS = rf"^(?<mon>{_WHOLE}) months (?<d>{_WHOLE}) days (?<us>[+-]?\d{{1,19}}) microseconds$"
_ISO = (
    rf"^P(?:(?<y>{_WHOLE})Y)?(?:(?<mon>{_WHOLE})M)?(?:(?<w>{_WHOLE})W)?(?:(?<d>{_WHOLE})D)?"
    rf"(?:T(?:(?<h>{_WHOLE})H)?(?:(?<min>{_WHOLE})M)?"
    r"(?:(?<sign>[+-]?)(?<s>\d{1,18})(?:\.(?<f>\d{1,6})0*)?S)?)?$"
)
_WORDS = (
    rf"^(?:(?<y>{_WHOLE}) years? ?)?(?:(?<mon>{_WHOLE}) mon(?:th)?s? ?)?(?:(?<d>{_WHOLE}) days? ?)?"
    r"(?:(?<sign>[+-]?)(?<h>\d{1,18}):(?<min>[0-5]\d)(?::(?<s>[0-5]\d)(?:\.(?<f>\d{1,6})0*)?)?)?$"
)


def _numbers(text: pl.Expr, pattern: str) -> Callable[[str], pl.Expr]:
    groups = text.str.extract_groups(pattern)

    def number(name: str) -> pl.Expr:
        if f"(?<{name}>" not in pattern:
            return pl.lit(0, pl.Int128)
        field = groups.struct.field(name)
        # Six digits after the point, whatever was written.
        field = field.str.pad_end(6, "0") if name == "f" else field
        return field.cast(pl.Int128, strict=False).fill_null(0)

    return number


def _parts(text: pl.Expr, pattern: str) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Return months, days and microseconds of an interval in one of the patterns."""
    n = _numbers(text, pattern)
    months, days = n("y") * 12 + n("mon"), n("w") * 7 + n("d")
    hours = n("h") * 3_600_000_000 + n("min") * 60_000_000
    seconds = n("s") * 1_000_000 + n("f")
    if pattern == _PARTS:
        return months, days, n("us")
    minus = text.str.extract_groups(pattern).struct.field("sign") == "-"
    sign = pl.when(minus).then(pl.lit(-1, pl.Int128)).otherwise(pl.lit(1, pl.Int128))
    time = sign * (hours + seconds) if pattern == _WORDS else hours + sign * seconds
    return months, days, time


def _read_interval(texts: pl.Series) -> pl.Series:
    text = texts.str.strip_chars()
    # A pattern's parts may all be missing, but not together.
    some = text.str.contains(r"\d") & ~text.str.ends_with("T")
    return in_turn(
        text,
        *(
            (
                (some & text.str.contains(pattern)).fill_null(False),
                partial(_read_interval_as, pattern=pattern),
            )
            for pattern in (_WORDS, _ISO, _PARTS)
        ),
    )


def _read_interval_as(texts: pl.Series, *, pattern: str) -> pl.Series:
    months, days, microseconds = _parts(COLUMN, pattern)
    # The ends of both are PostgreSQL's infinity, and DuckDB cannot write the very first as text.
    fits = (
        months.is_between(-(2**31) + 1, 2**31 - 2)
        & days.is_between(-(2**31) + 1, 2**31 - 2)
        & microseconds.is_between(-(2**63) + 1, 2**63 - 1)
    )
    parts = (months, " months "), (days, " days "), (microseconds, " microseconds")
    one_form = [part for number, word in parts for part in (number.cast(pl.String), pl.lit(word))]
    return select(texts, pl.when(fits).then(pl.concat_str(one_form)))


def _wire_interval(texts: pa.Array) -> pa.Array:
    months, days, microseconds = _parts(COLUMN, _PARTS)
    frame = (
        pl.Series("c", texts, dtype=pl.String)
        .to_frame()
        .select(months=months, days=days, microseconds=microseconds)
    )
    parts = big_endian(frame["microseconds"], "q"), big_endian(frame["days"], "i")
    return where_not_null(texts, joined(*parts, big_endian(frame["months"], "i")))


# time with time zone

_TIMETZ = (
    r"^(?<h>\d\d):(?<m>[0-5]\d)(?::(?<s>[0-5]\d)(?:\.(?<f>\d{1,6})0*)?)? ?"
    r"(?:[Zz]|(?<sign>[+-])(?<zh>0\d|1[0-5])(?::?(?<zm>[0-5]\d)(?::?(?<zs>[0-5]\d))?)?)$"
)
_DAY = 86_400_000_000


def _read_timetz(texts: pl.Series) -> pl.Series:
    text = COLUMN.str.strip_chars()
    part = text.str.extract_groups(_TIMETZ).struct
    fields = {name: part.field(name).fill_null("00") for name in ("h", "m", "s", "zh", "zm", "zs")}
    one_form = pl.concat_str(
        *(fields["h"], pl.lit(":"), fields["m"], pl.lit(":"), fields["s"], pl.lit(".")),
        *(part.field("f").fill_null("").str.pad_end(6, "0"), part.field("sign").fill_null("+")),
        *(fields["zh"], pl.lit(":"), fields["zm"], pl.lit(":"), fields["zs"]),
    )
    in_day = (fields["h"] < "24") | (one_form.str.starts_with("24:00:00.000000"))
    return select(texts, pl.when(text.str.contains(_TIMETZ) & in_day).then(one_form))


def _wire_timetz(texts: pa.Array) -> pa.Array:
    def seconds(start: int) -> pl.Expr:
        hours, minutes, rest = (COLUMN.str.slice(start + i, 2).cast(pl.Int64) for i in (0, 3, 6))
        return hours * 3600 + minutes * 60 + rest

    frame = (
        pl.Series("c", texts, dtype=pl.String)
        .to_frame()
        .select(
            time=seconds(0) * 1_000_000 + COLUMN.str.slice(9, 6).cast(pl.Int64),
            # PostgreSQL counts seconds to the west.
            west=seconds(16) * pl.when(COLUMN.str.slice(15, 1) == "-").then(1).otherwise(-1),
        )
    )
    return where_not_null(
        texts, joined(big_endian(frame["time"], "q"), big_endian(frame["west"], "i"))
    )


# numeric without precision

_NUMERIC = r"^(?<sign>[+-]?)(?<whole>\d*)\.?(?<part>\d*)(?:[eE](?<exp>[+-]?\d{1,4}))?$"
_SPECIAL = {
    "nan": "NaN",
    **dict.fromkeys(("inf", "+inf", "infinity", "+infinity"), "Infinity"),
    **dict.fromkeys(("-inf", "-infinity"), "-Infinity"),
}
_SIGNS = {"NaN": 0xC000 - 2**16, "Infinity": 0xD000 - 2**16, "-Infinity": 0xF000 - 2**16}
_WHOLE_DIGITS, _PART_DIGITS = 131_072, 16_383
_ZEROS = "0" * 10_000


def _read_numeric(texts: pl.Series) -> pl.Series:
    text = texts.str.strip_chars()
    # Most numbers are in the one form already.
    plain = text.str.contains(r"^(?:0|-?[1-9]\d{0,999})(?:\.\d{1,999})?$").fill_null(False)
    return in_turn(text, (plain, lambda some: some), (~plain, _read_other_numeric))


def _read_other_numeric(texts: pl.Series) -> pl.Series:
    text = COLUMN
    field = text.str.extract_groups(_NUMERIC).struct.field
    digits = pl.concat_str(field("whole"), field("part"))
    count = digits.str.len_bytes().cast(pl.Int64)
    point = field("whole").str.len_bytes().cast(pl.Int64) + field("exp").cast(pl.Int64).fill_null(0)

    def zeros(number: pl.Expr) -> pl.Expr:
        return pl.lit(_ZEROS).str.slice(0, number.clip(0, len(_ZEROS)))

    padded = pl.concat_str(zeros(-point), digits, zeros(point - count))
    whole = padded.str.head(point.clip(0)).str.strip_chars_start("0")
    part = padded.str.slice(point.clip(0))
    minus = (field("sign") == "-") & digits.str.contains("[1-9]")
    fits = (
        text.str.contains(_NUMERIC)
        & (count > 0)
        & (whole.str.len_bytes() <= _WHOLE_DIGITS)
        & (part.str.len_bytes() <= _PART_DIGITS)
    )
    plain = pl.concat_str(
        pl.when(minus).then(pl.lit("-")).otherwise(pl.lit("")),
        pl.when(whole == "").then(pl.lit("0")).otherwise(whole),
        pl.when(part == "").then(pl.lit("")).otherwise(pl.concat_str(pl.lit("."), part)),
    )
    special = text.str.to_lowercase().replace_strict(_SPECIAL, default=None, return_dtype=pl.String)
    return select(texts, pl.when(fits).then(plain).otherwise(special))


def _wire_numeric(texts: pa.Array) -> pa.Array:
    """Return groups of four digits, as PostgreSQL keeps them, without zeros at both ends."""
    whole = COLUMN.str.extract(r"^-?(\d+)").fill_null("")
    part = COLUMN.str.extract(r"\.(\d+)$").fill_null("")

    def missing(digits: pl.Expr) -> pl.Expr:
        return pl.lit("000").str.slice(0, (4 - digits.str.len_bytes().cast(pl.Int64) % 4) % 4)

    groups = pl.concat_str(missing(whole), whole, part, missing(part)).str.extract_all("[0-9]{4}")
    sign = (
        pl.when(COLUMN.str.contains(r"^-\d"))
        .then(0x4000)
        .otherwise(COLUMN.replace_strict(_SIGNS, default=0, return_dtype=pl.Int64))
    )
    frame = (
        pl.Series("c", texts, dtype=pl.String)
        .to_frame()
        .select(
            groups=groups.fill_null([]),
            weight=(whole.str.len_bytes().cast(pl.Int64) + 3) // 4 - 1,
            sign=sign,
            scale=part.str.len_bytes(),
        )
    )
    count = frame["groups"].list.len().cast(pl.Int64)
    ends = pl.concat([pl.Series([0]), count.cum_sum()])
    digits = big_endian(frame["groups"].list.explode(empty_as_null=False).cast(pl.Int16), "h")
    groups_of = pa.LargeListArray.from_arrays(ends.to_arrow(), digits)
    return where_not_null(
        texts,
        joined(
            big_endian(
                pl.select(
                    pl.when(count > 2**15 - 1).then(count - 2**16).otherwise(count)
                ).to_series(),
                "h",
            ),
            big_endian(frame["weight"], "h"),
            big_endian(frame["sign"], "h"),
            big_endian(frame["scale"], "h"),
            pc.binary_join(groups_of, b""),
        ),
    )


# json and jsonb


def _read_json(texts: pl.Series) -> pl.Series:
    return texts.set(~is_json(texts).fill_null(True), None)


def _read_jsonb(texts: pl.Series) -> pl.Series:
    return texts.set(~is_jsonb(texts).fill_null(True), None)


LITERAL_TYPES: Mapping[str, Literal] = {
    "uuid": Literal("a uuid", _read_uuid, _wire_uuid),
    "inet": Literal(
        "an address such as 10.0.0.1 or 2001:db8::/32",
        partial(read_address, cidr=False),
        partial(wire_address, cidr=False),
    ),
    "cidr": Literal(
        "a network such as 10.0.0.0/8, without bits outside its mask",
        partial(read_address, cidr=True),
        partial(wire_address, cidr=True),
    ),
    "interval": Literal(
        "an interval such as P1DT2H, or 1 day 02:00:00, to the microsecond",
        _read_interval,
        _wire_interval,
    ),
    "time with time zone": Literal(
        "a time of day with its offset, such as 12:30:00+02:00", _read_timetz, _wire_timetz
    ),
    "numeric": Literal("a number", _read_numeric, _wire_numeric),
    "json": Literal("JSON", _read_json),
    "jsonb": Literal("JSON that jsonb can hold", _read_jsonb),
}
"""By the names of schema.LITERALS."""
