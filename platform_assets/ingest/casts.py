"""Cast columns to their types, and find the values that a cast would change. All by column.

Text is read strictly: numbers without separators of thousands, times as ISO 8601. Where the
contract declares UTC, a time without a zone is read as UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.ingest.sources.native import bytes_of
from lakebed.pgcopy.arrays import elements, of_elements, read_arrays
from lakebed.pgcopy.literals import LITERAL_TYPES
from lakebed.pgcopy.wire import COLUMN, select

_TRUE = ("true", "t", "yes", "y", "1")
_FALSE = ("false", "f", "no", "n", "0")
_ZONED = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
_PLAIN = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")

_DAYS = (-719_162, 2_932_896)
_YEAR_1000 = -354_285
"""Its first day, since 1970."""
_MICROSECONDS = (_DAYS[0] * 86_400_000_000, (_DAYS[1] + 1) * 86_400_000_000 - 1)


@dataclass
class Cast:
    """A column after its cast.

    Attributes:
        series: The values; null where one could not be read.
        problems: What is wrong: the reason, a mask of the rows it is wrong in, and a word for the
            rule; "" where a value is not of the column's type at all.
    """

    series: pl.Series
    problems: list[tuple[str, pl.Series, str]] = field(default_factory=list)

    def add(self, reason: str, bad: pl.Series, rule: str = "") -> None:
        """Note rows in which something is wrong, if there are any.

        Args:
            reason: What is wrong, in words that follow the column's name.
            bad: A mask of the rows.
            rule: A word for the rule, by which rejects are grouped; "" means the type.
        """
        if bad.any():
            self.problems.append((reason, bad, rule))


def cast(
    series: pl.Series, target: pl.DataType, literal: str | None = None, *, written: bool = False
) -> Cast:
    r"""Turn a column into another type, noting each row whose value would be changed by it.

    Args:
        series: the column.
        target: the type of the contract.
        literal: the type whose text forms a column of strings holds (a list of them: its elements).
        written: whether bytes in the column are text as a file has it, which may write bytes as
            PostgreSQL does (`\x00ff`).

    Raises:
        pl.exceptions.PolarsError: for a pair of types that no cast connects, such as a list and a
            number.
    """
    if isinstance(target, pl.List):
        return _arrays(series, target, literal)
    source = series
    result = Cast(series)
    if target == pl.Binary and (series.dtype == pl.String or (written and series.dtype == target)):
        _read_bytes(result, series.cast(pl.Binary))
        return result
    if series.dtype == pl.Array(pl.UInt8, 16):
        series = bytes_of(series)
    elif series.dtype == pl.Binary and target != pl.Binary:
        series = _decoded(series)
        result.add("is not valid UTF-8", source.is_not_null() & series.is_null(), "utf8")
    if isinstance(series.dtype, pl.Categorical | pl.Enum):
        series = series.cast(pl.String)
    if series.dtype == pl.Null:
        series = series.cast(target)
    if literal is not None:
        _to_literal(result, series, literal)
        return result
    if series.dtype == pl.String and target != pl.String:
        result.series = _from_text(series, target)
        bad = series.is_not_null() & result.series.is_null()
        beyond = bad & _names_a_number(series, target)
        result.add(f"is not {_word(target)}", bad & ~beyond)
        result.add(f"does not fit {_word(target)} without loss", beyond)
    elif series.dtype == target:
        result.series = series
    else:
        _between(result, series, target)
    _leave_out_unreachable(result, target)
    if target == pl.String:
        result.add(
            "holds a NUL byte, which PostgreSQL's text cannot",
            result.series.str.contains("\0", literal=True).fill_null(False),
            "nul_byte",
        )
    return result


_HEX = b"\\x"


def _read_bytes(result: Cast, data: pl.Series) -> None:
    r"""Read bytes as PostgreSQL writes them, `\x00ff`; any other text is its own bytes."""
    hexadecimal = data.bin.starts_with(_HEX).fill_null(False)
    result.series = data
    if not hexadecimal.any():
        return
    found = data.filter(hexadecimal).bin.slice(len(_HEX))
    read = found.bin.decode("hex", strict=False)
    result.series = data.clone().scatter(hexadecimal.arg_true(), read)
    bad = data.is_not_null() & result.series.is_null()
    result.add(r"begins with \x and does not go on in hexadecimal", bad)


def _arrays(series: pl.Series, target: pl.List, literal: str | None) -> Cast:
    """Cast the elements; a row is bad where one of its elements is."""
    result = Cast(series)
    inner = target.inner() if isinstance(target.inner, type) else target.inner
    if series.dtype == pl.Binary:
        series = _decoded(series)
        result.add("is not valid UTF-8", result.series.is_not_null() & series.is_null(), "utf8")
    if isinstance(series.dtype, pl.Categorical):
        series = series.cast(pl.String)
    if series.dtype == pl.Null:
        series = series.cast(target)
    if series.dtype == pl.String:
        text, series = series, read_arrays(series)
        result.add("is not an array such as {1,2} or [1, 2]", text.is_not_null() & series.is_null())
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    if not isinstance(series.dtype, pl.List):
        raise pl.exceptions.InvalidOperationError("only lists and text become arrays")
    values, rows = elements(series)
    done = cast(values, inner, literal)
    for reason, bad, rule in done.problems:
        none = pl.Series([False]).new_from_index(0, len(series))
        hit = none.scatter(rows.filter(bad).unique(), True)
        result.add(f"has an element that {reason}", hit, rule)
    result.series = of_elements(series, done.series)
    return result


def _to_literal(result: Cast, series: pl.Series, literal: str) -> None:
    """Read text of one of the types that polars has not, or what is easily made into it."""
    dtype = series.dtype
    if literal == "interval" and isinstance(dtype, pl.Duration):
        multiple, per = {"ns": (1, 1000), "us": (1, 1), "ms": (1000, 1)}[dtype.time_unit or "us"]
        count = COLUMN.cast(pl.Int128) * multiple
        fine = select(series.to_physical(), count % per != 0).fill_null(False)
        result.add("is finer than a microsecond", fine, "microseconds")
        text = pl.format("0 months 0 days {} microseconds", count // per)
        series = select(series.to_physical(), text).set(fine, None)
    elif literal == "uuid" and dtype == pl.Binary:  # 16 bytes of fixed size; any other was text
        series = series.bin.encode("hex")
    elif literal == "numeric" and dtype.is_numeric():
        series = series.cast(pl.String)
    elif dtype != pl.String:
        raise pl.exceptions.InvalidOperationError(f"only text becomes {literal}")
    known = LITERAL_TYPES[literal]
    result.series = known.read(series)
    result.add(f"is not {known.word}", series.is_not_null() & result.series.is_null())


def _leave_out_unreachable(result: Cast, target: pl.DataType) -> None:
    """Tell apart times that PostgreSQL, Parquet and Python do not all hold."""
    if isinstance(target, pl.Datetime | pl.Date):
        first, last = _DAYS if isinstance(target, pl.Date) else _MICROSECONDS
        count = result.series.to_physical()
        bad = ((count < first) | (count > last)).fill_null(False)
        result.add("lies outside the years 1 to 9999", bad, "years_1_to_9999")
    elif isinstance(target, pl.Time):
        bad = (result.series.to_physical() % 1000 != 0).fill_null(False)
        result.add("is finer than a microsecond", bad, "microseconds")
    else:
        return
    result.series = result.series.set(bad, None)


def _decoded(series: pl.Series) -> pl.Series:
    try:
        return series.cast(pl.String)
    except pl.exceptions.ComputeError:
        # Some value is not UTF-8, and polars does not report which one: decode each, this once.
        return pl.Series(series.name, [_decode(value) for value in series], dtype=pl.String)


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _between(result: Cast, series: pl.Series, target: pl.DataType) -> None:
    """Cast and cast back: what does not come back the same was changed."""
    if isinstance(series.dtype, pl.List | pl.Array | pl.Struct):
        raise pl.exceptions.InvalidOperationError("nested columns have no cast")
    dtype = series.dtype
    if dtype.is_numeric() and target.is_temporal():
        raise pl.exceptions.InvalidOperationError(
            "a number does not say what it counts; where the source has dates=..., say it there"
        )
    if isinstance(target, pl.Datetime) and isinstance(dtype, pl.Datetime):
        if target.time_zone and not dtype.time_zone:
            series = series.dt.replace_time_zone(target.time_zone)
        elif target.time_zone:
            series = series.dt.convert_time_zone(target.time_zone)
        elif dtype.time_zone:
            raise pl.exceptions.InvalidOperationError(
                "a time with a zone has no cast to one without"
            )
    if dtype.is_float() and isinstance(target, pl.Decimal):
        # The shortest decimal that names the number: it was written so, and rounded to a float.
        result.series = _decimals(series.cast(pl.String), target)
        lost = series.is_not_null() & result.series.is_null()
        result.add(f"does not fit {_word(target)} without loss", lost)
        return
    done = series.cast(target, strict=False)
    result.series = done
    lost = series.is_not_null() & done.is_null()
    if target == pl.Float32 and series.dtype == pl.Float64:
        lost |= (series.is_finite() & ~done.is_finite()).fill_null(False)
        lost |= ((series != 0) & (done == 0)).fill_null(False)
    else:
        back = done.cast(series.dtype, strict=False)
        lost |= (series != back).fill_null(False) | (back.is_null() & done.is_not_null())
    result.add(f"does not fit {_word(target)} without loss", lost, "lossless")


def _from_text(text: pl.Series, target: pl.DataType) -> pl.Series:
    if isinstance(target, pl.Enum):
        return text.cast(target, strict=False)
    text = text.str.strip_chars()
    if target == pl.Boolean:
        lower = text.str.to_lowercase()
        answers = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
        return lower.replace_strict(answers, default=None, return_dtype=pl.Boolean)
    if isinstance(target, pl.Decimal):
        return _decimals(text, target)
    if target == pl.Date:
        return _of_whole_years(text, text.str.to_date("%Y-%m-%d", strict=False))
    if target == pl.Time:
        whole = text.set(_too_fine(text), None).str.replace(r"^\d{1,2}:\d{1,2}$", "${0}:00")
        return whole.str.to_time("%H:%M:%S%.f", strict=False)
    if isinstance(target, pl.Datetime):
        return _moments(text, target)
    number = text.cast(target, strict=False)
    if target.is_float():
        endless = number.is_infinite() & text.str.contains(r"\d")
        vanished = (number == 0) & text.str.contains(r"^[+-]?[0.]*[1-9]")
        return number.set((endless | vanished).fill_null(False), None)
    return number


_NUMBER = r"^\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*$"
_WHOLE_NUMBER = r"^\s*[+-]?\d+\s*$"


def _names_a_number(text: pl.Series, target: pl.DataType) -> pl.Series:
    """Say where text names a number, whether the target holds it or not."""
    if not target.is_numeric():
        return pl.Series([False]).new_from_index(0, len(text))
    pattern = _WHOLE_NUMBER if target.is_integer() else _NUMBER
    return text.str.contains(pattern).fill_null(False)


def _of_whole_years(text: pl.Series, read: pl.Series) -> pl.Series:
    """Leave out dates and times whose text names a year with less than four digits, such as 24."""
    day = 1 if read.dtype == pl.Date else 86_400_000_000
    early = (read.to_physical() < _YEAR_1000 * day).fill_null(False)
    if not early.any():
        return read
    return read.set(early & ~text.str.contains(r"^\d{4}").fill_null(False), None)


def _decimals(text: pl.Series, target: pl.Decimal) -> pl.Series:
    exponents = text.str.contains("[eE]")
    if exponents.any():
        text = text.zip_with(~exponents, LITERAL_TYPES["numeric"].read(text))
    elif (numbers := _all_as_arrow_takes_them(text, target)) is not None:
        return numbers
    after = rf"\d{{1,{target.scale}}}0*" if target.scale else "0+"
    fits = text.str.contains(rf"^[+-]?(\d+(\.\d{{0,{target.scale}}}0*)?|\.{after})$")
    return text.set(~fits, None).cast(target, strict=False)


def _all_as_arrow_takes_them(text: pl.Series, target: pl.Decimal) -> pl.Series | None:
    """Read decimals without an exponent, which Arrow garbles; None where some do not fit."""
    try:
        numbers = pc.cast(text.to_arrow(), pa.decimal128(target.precision, target.scale))
    except pa.ArrowInvalid:
        return None
    # It counts the digits that are there, not the zeros that the scale adds.
    beyond = 10 ** (target.precision - target.scale)
    ends = pc.min_max(numbers).as_py().values()
    if any(value is not None and abs(value) >= beyond for value in ends):
        return None
    return pl.Series(text.name, numbers)


def _moments(text: pl.Series, target: pl.Datetime) -> pl.Series:
    if (moments := _all_in_iso(text, target)) is not None:
        return moments
    text = text.set(_too_fine(text), None)
    text = text.str.replace("T", " ", literal=True).str.replace("[Zz]$", "+00:00")
    result = pl.Series(text.name, [None], dtype=target).new_from_index(0, len(text))
    zoned = text.str.contains(r"[+-]\d\d(:?\d\d)?$") & text.str.contains(":", literal=True)
    if target.time_zone and zoned.any():
        for form in _ZONED:
            read = text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
            result = result.zip_with(result.is_not_null() | ~zoned.fill_null(False), read)
    plain = text.set(zoned, None)
    if plain.null_count() < len(plain):
        for form in _PLAIN:
            read = (
                plain.str.to_date(form, strict=False).cast(pl.Datetime("us"))
                if form == "%Y-%m-%d"
                else plain.str.to_datetime(form, time_unit="us", strict=False)
            )
            if target.time_zone:
                read = read.dt.replace_time_zone(target.time_zone)
            result = result.zip_with(result.is_not_null(), read)
            if result.null_count() == text.null_count():
                break
    return _of_whole_years(text, result)


def _all_in_iso(text: pl.Series, target: pl.Datetime) -> pl.Series | None:
    """Read times of one form that Arrow reads too, 30 times faster; None for any other form.

    Arrow takes hours without minutes too.
    """
    if not text.str.contains("^.{13}:").all():
        return None
    values = text.to_arrow()
    for zone in (target.time_zone, None) if target.time_zone else (None,):
        try:
            moments = pl.Series(text.name, pc.cast(values, pa.timestamp("us", zone)))
        except pa.ArrowInvalid:
            continue
        return moments if zone else moments.dt.replace_time_zone(target.time_zone)
    return None


def _too_fine(text: pl.Series) -> pl.Series:
    """Where a time has digits beyond the microsecond, or is a leap second: it would be moved."""
    return text.str.contains(r"\.\d{6}\d*[1-9]|:60(\D|$)").fill_null(False)


def _word(target: pl.DataType) -> str:
    if target.is_integer():
        return f"a whole number ({target})"
    if target.is_numeric():
        return f"a number ({target})"
    if isinstance(target, pl.Enum):
        return f"a label of {', '.join(target.categories.head(8))}"
    if isinstance(target, pl.Datetime):
        return "a time such as 2024-01-31T12:00:00Z"
    return {
        pl.Date: "a date such as 2024-01-31",
        pl.Time: "a time of day",
        pl.Boolean: "a truth value",
    }.get(type(target), str(target))
