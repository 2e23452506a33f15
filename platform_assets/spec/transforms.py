"""Shaping, as a table file declares it: how a column of the table comes out of the source. No I/O.

The steps of a column, in this order: the source's column or the expression; trim; null_strings;
case; values; decimal and thousands; format and time_zone; the checked cast to the column's type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from lakebed.spec.schema import Column

Case = Literal["upper", "lower"]
Value = str | int | float | bool | None

JSON = ("json", "jsonb")
"""The types of columns that hold JSON."""
EPOCHS = {"unix": 1_000_000, "unix_ms": 1_000, "unix_us": 1}
"""Formats that count from 1970-01-01 UTC, with the microseconds of what they count."""


@dataclass(frozen=True)
class Mapped:
    """Where the values of a column come from, and how a load changes them on the way."""

    column: str | None = None
    """The source's name of the column; by default the column's own. Excludes `expr`."""
    expr: pl.Expr | str | None = field(default=None, compare=False, kw_only=True)
    """A polars expression, or SQL, over one row. A name in it is a column of the table after its
    steps, or else a column of the source as read (text from CSV). The column's own name means the
    source's column."""
    trim: bool = field(default=False, kw_only=True)
    """Whether to remove white space at both ends."""
    null_strings: tuple[str, ...] = field(default=(), kw_only=True)
    """Texts that mean null, such as `("-", "n/a")`."""
    case: Case | None = field(default=None, kw_only=True)
    """`upper` or `lower`."""
    values: Mapping[Value, Value] = field(default_factory=dict, hash=False, kw_only=True)
    """Source values and what they mean, such as `{"P": "paid", None: "unknown"}`. Values without an
    entry stay as they are."""
    strict: bool = field(default=False, kw_only=True)
    """Whether a value without an entry in `values` makes its row a reject."""
    decimal: Literal[".", ","] = field(default=".", kw_only=True)
    """The decimal mark of numbers."""
    thousands: str = field(default="", kw_only=True)
    """The mark between groups of three digits."""
    format: str | None = field(default=None, kw_only=True)
    """The format of times, in chrono's notation such as `%d.%m.%Y %H:%M`, or `unix`, `unix_ms` or
    `unix_us` for an epoch."""
    time_zone: str | None = field(default=None, kw_only=True)
    """The time zone of times that name none. A time that a change of the clocks skips or repeats
    makes its row a reject."""
    json_text: bool = field(default=False, kw_only=True)
    """Whether strings that a JSON source has for a json column hold JSON as text."""
    expression: str | None = field(init=False, default=None, repr=False)
    """The expression as text, by which two of them are compared."""

    def __post_init__(self) -> None:
        """Keep copies, so that nobody changes a declaration afterwards."""
        object.__setattr__(self, "values", dict(self.values))
        object.__setattr__(self, "expression", None if self.expr is None else str(self.expr))

    @property
    def only_renames(self) -> bool:
        """Whether the values are those of the source's column, so that it can be asked for them."""
        return self == Mapped(self.column)

    @property
    def on_text(self) -> bool:
        """Whether some step works on text."""
        return bool(self.trim or self.null_strings or self.case or self.values or self.strict)

    @property
    def compiled(self) -> pl.Expr:
        """The expression. Raises polars' SQLInterfaceError where SQL cannot be parsed."""
        assert self.expr is not None
        return pl.sql_expr(self.expr) if isinstance(self.expr, str) else self.expr


PLAIN = Mapped()


def transform_problem(
    transforms: Mapping[str, Mapped], columns: Sequence[Column]
) -> tuple[str, str] | None:
    """Return which part of a shape makes no sense and why, with the way out, or None."""
    known = {column.name: column for column in columns}
    for name, how in transforms.items():
        if name not in known:
            return name, f"it is no column of the model ({', '.join(known)})"
        if not isinstance(how, Mapped):
            return name, f"{how!r} is no Mapped(...)"
        problem = _problem(how, known[name].polars)
        if problem is not None:
            return name, problem
        if how.json_text and known[name].types.literal not in JSON:
            return name, f"json_text is for json and jsonb, and it is {known[name].postgres}"
    try:
        order(transforms, list(known))
    except ValueError as error:
        return str(error), "its expression needs itself by way of others; break the circle"
    return None


def operands(transforms: Mapping[str, Mapped], name: str) -> list[str]:
    """Return the names that a column is made of: one, or those in its expression."""
    how = transforms.get(name, PLAIN)
    if how.expr is None:
        return [how.column or name]
    return list(dict.fromkeys(how.compiled.meta.root_names()))


def sources_of(transforms: Mapping[str, Mapped], columns: Sequence[str], name: str) -> list[str]:
    """Return the source's columns that a column of the table is made of, directly or not."""
    if transforms.get(name, PLAIN).expr is None:
        return operands(transforms, name)
    found: dict[str, None] = {}
    for operand in operands(transforms, name):
        other = operand in columns and operand != name
        found |= dict.fromkeys(sources_of(transforms, columns, operand) if other else [operand])
    return list(found)


def source_columns(transforms: Mapping[str, Mapped], columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that are read of the source, in the order of the contract."""
    found = [source for name in columns for source in sources_of(transforms, columns, name)]
    return tuple(dict.fromkeys(found))


def json_columns(transforms: Mapping[str, Mapped], columns: Sequence[Column]) -> frozenset[str]:
    """Return the source's columns whose values are JSON for the table as they stand, in quotes too.

    One that another column is made of too, or that some step works on, is text for that.
    """
    names = [column.name for column in columns]
    used = [source for name in names for source in sources_of(transforms, names, name)]
    return frozenset(
        source
        for column in columns
        if column.types.literal in JSON
        and (how := transforms.get(column.name, PLAIN)).only_renames
        and used.count(source := how.column or column.name) == 1
    )


def order(transforms: Mapping[str, Mapped], columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns so that each comes after those its expression names.

    Raises ValueError with the name of a column that needs itself.
    """
    done: dict[str, None] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(name)
        if transforms.get(name, PLAIN).expr is not None:
            for operand in operands(transforms, name):
                if operand in columns and operand != name and operand not in done:
                    visit(operand, (*above, name))
        done[name] = None

    for name in columns:
        if name not in done:
            visit(name, ())
    return tuple(done)


def _problem(how: Mapped, target: pl.DataType) -> str | None:
    if how.column is not None and how.expr is not None:
        return "it comes from a column or from an expression, not from both"
    if how.column == "":
        return "the source column has no name"
    return _expression_problem(how) or _text_problem(how, target) or _time_problem(how, target)


def _expression_problem(how: Mapped) -> str | None:
    if how.expr is None:
        return None
    if not isinstance(how.expr, str | pl.Expr):
        return f"expr is {how.expr!r}; give a polars expression or SQL such as 'price * qty'"
    try:
        meta = how.compiled.meta
        several = meta.has_multiple_outputs()
        roots = meta.root_names()
    except pl.exceptions.PolarsError as error:
        return f"expr {how.expr} cannot be read ({str(error).splitlines()[0]})"
    if several or any(root == "*" for root in roots):
        return f"expr {how.expr} selects several columns; name them one by one"
    return None


def _text_problem(how: Mapped, target: pl.DataType) -> str | None:
    if isinstance(how.null_strings, str):
        return f"null_strings is one text; write ({how.null_strings!r},)"
    if how.case not in (None, "upper", "lower"):
        return f"case {how.case!r} is none of 'upper', 'lower'"
    if how.strict and not how.values:
        return "strict needs values=... to be strict about"
    numbers = how.decimal != "." or how.thousands != ""
    if how.decimal not in (".", ","):
        return f"decimal {how.decimal!r} is none of '.', ','"
    if how.thousands and (len(how.thousands) != 1 or how.thousands.isdigit()):
        return f"thousands {how.thousands!r} is not one character such as '.'"
    if how.thousands == how.decimal or how.thousands in ("+", "-"):
        return f"thousands {how.thousands!r} would be taken for another part of a number"
    if numbers and not target.is_numeric():
        return f"decimal and thousands are of numbers, and the column is {target}"
    return None


def _time_problem(how: Mapped, target: pl.DataType) -> str | None:
    if how.format is not None:
        if not target.is_temporal():
            return f"format is of times, and the column is {target}"
        problem = (
            _epoch_problem(how, target)
            if how.format in EPOCHS
            else _format_problem(how.format, target)
        )
        if problem is not None:
            return problem
    if how.time_zone is not None:
        if not (isinstance(target, pl.Datetime) and target.time_zone):
            return f"time_zone makes a time in UTC, and the column is {target}"
        if how.format is not None and has_zone(how.format):
            return "the format names the zone of each time; take time_zone out"
        try:
            ZoneInfo(how.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return f"there is no time zone {how.time_zone!r}; write one such as 'Europe/Berlin'"
    return None


def _epoch_problem(how: Mapped, target: pl.DataType) -> str | None:
    if not isinstance(target, pl.Datetime):
        return f"an epoch is a time with a date, and the column is {target}"
    return None if how.time_zone is None else "an epoch is in UTC; take time_zone out"


def _format_problem(form: str, target: pl.DataType) -> str | None:
    if re.search(r"(?<![.\d])%f|\.%f", form):
        return f"format {form!r}: %f counts nanoseconds; write %.f for the digits after the dot"
    if "%Z" in form:
        return f"format {form!r}: the name of a zone is no offset; use %z, or time_zone=..."
    when = datetime(2001, 12, 13, 14, 15, tzinfo=UTC)
    try:
        text = pl.Series([when if has_zone(form) else when.replace(tzinfo=None)]).dt.strftime(form)
        back = parsed(text, form, target)[0]
    except pl.exceptions.PolarsError as error:
        return f"format {form!r} is none ({str(error).splitlines()[0]})"
    # A format without a year reads the year 1.
    if back is None or (target != pl.Time and back.year != when.year):
        return f"format {form!r} reads no {target}; the parts that make one are missing"
    return None


def has_zone(form: str) -> bool:
    """Whether a format reads an offset from UTC."""
    return re.search(r"%[:#]*z|%\+", form) is not None


def parsed(text: pl.Series, form: str, target: pl.DataType) -> pl.Series:
    """Read times by a format: as a time of day, or with a date, in UTC where the format has a zone.

    What cannot be read is null. Raises polars' ComputeError for a format that is none.
    """
    if target == pl.Time:
        return text.str.to_time(form, strict=False)
    zone = "UTC" if has_zone(form) else None
    read = text.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False)
    if _FOUR_DIGITS.search(form):
        return _of_named_years(text, read)
    return _of_posix_years(text, read) if _TWO_DIGITS.search(form) else read


_FOUR_DIGITS = re.compile(r"%0?[YG]|%[Fvc+]")
"""Formats whose year has four digits, which polars reads with fewer."""
_TWO_DIGITS = re.compile(r"%[-_0]?y|%[Dx]")
_DAY = 86_400_000_000
_YEARS = {year: (date(year, 1, 1) - date(1970, 1, 1)).days * _DAY for year in (1000, 2069, 2070)}
"""When years begin, in microseconds since 1970."""
_CENTURY = 36_525 * _DAY
"""From any moment of 1969 to that of 2069."""
_FRACTION = r"(:\d\d)[.,]\d+"


def _of_named_years(text: pl.Series, read: pl.Series) -> pl.Series:
    """Leave out times of a year before 1000 that the text does not write with four digits."""
    moments = read.to_physical()
    early = (moments < _YEARS[1000] + _DAY).fill_null(False)
    if not early.any():
        return read
    # The year itself, or, at its end, that of another zone.
    some = pl.DataFrame({"text": text.filter(early), "at": read.filter(early)})
    year, whole = pl.col("at").dt.year(), pl.col("text").str.replace(_FRACTION, "${1}")
    written = [
        whole.str.contains((year + more).cast(pl.String).str.zfill(4), literal=True)
        for more in (0, -1, 1)
    ]
    unnamed = some.select(~pl.any_horizontal(written)).to_series()
    return read.set(early.clone().scatter(early.arg_true(), unnamed), None)


def _of_posix_years(text: pl.Series, read: pl.Series) -> pl.Series:
    """Take the year 69 for 1969, as POSIX has it, where polars has 2069."""
    moments = read.to_physical()
    margin = _DAY if isinstance(read.dtype, pl.Datetime) and read.dtype.time_zone else 0
    late = (moments >= _YEARS[2069] - margin) & (moments < _YEARS[2070] + margin)
    late = late.fill_null(False)
    if margin:
        late &= text.str.replace(_FRACTION, "${1}").str.contains("69").fill_null(False)
    return (moments - late.cast(pl.Int64) * _CENTURY).cast(read.dtype)
