"""Declare transforms: how a load makes a column of the table from the source. No I/O.

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
"""Formats that count units from 1970-01-01 UTC, with the microseconds of a unit."""


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
    """The expression as text, for comparing two of them."""

    def __post_init__(self) -> None:
        """Copy the mappings, so that a declaration cannot change afterwards."""
        object.__setattr__(self, "values", dict(self.values))
        object.__setattr__(self, "expression", None if self.expr is None else str(self.expr))

    @property
    def only_renames(self) -> bool:
        """Whether the values equal those of the source's column, so a query can filter them."""
        return self == Mapped(self.column)

    @property
    def on_text(self) -> bool:
        """Whether any step works on text."""
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
    """Return the first wrong column of the transforms, what is wrong and how to fix it, or None."""
    known = {column.name: column for column in columns}
    for name, how in transforms.items():
        if name not in known:
            return name, f"the model has no such column. Expected one of {', '.join(known)}"
        if not isinstance(how, Mapped):
            return name, f"it is {how!r}. Expected Mapped(...)"
        problem = _problem(how, known[name].polars)
        if problem is not None:
            return name, problem
        if how.json_text and known[name].types.literal not in JSON:
            kind = known[name].postgres
            return name, f"json_text needs json or jsonb, but the column is {kind}; remove it"
    try:
        order(transforms, list(known))
    except ValueError as error:
        return str(error), "its expression depends on itself through other columns; break the cycle"
    return None


def operands(transforms: Mapping[str, Mapped], name: str) -> list[str]:
    """Return the names that a column depends on directly: one, or those in its expression."""
    how = transforms.get(name, PLAIN)
    if how.expr is None:
        return [how.column or name]
    return list(dict.fromkeys(how.compiled.meta.root_names()))


def sources_of(transforms: Mapping[str, Mapped], columns: Sequence[str], name: str) -> list[str]:
    """Return the source's columns that a column of the table depends on, directly or not."""
    if transforms.get(name, PLAIN).expr is None:
        return operands(transforms, name)
    found: dict[str, None] = {}
    for operand in operands(transforms, name):
        other = operand in columns and operand != name
        found |= dict.fromkeys(sources_of(transforms, columns, operand) if other else [operand])
    return list(found)


def source_columns(transforms: Mapping[str, Mapped], columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that a load reads from the source, in the order of the contract."""
    found = [source for name in columns for source in sources_of(transforms, columns, name)]
    return tuple(dict.fromkeys(found))


def json_columns(transforms: Mapping[str, Mapped], columns: Sequence[Column]) -> frozenset[str]:
    """Return the source's columns whose JSON values the table takes unchanged, quotes included.

    A column that a step changes, or that a second column depends on, is read as text instead.
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
    """Sort the columns so that each follows the columns in its expression.

    Raises:
        ValueError: A column depends on itself; the text is its name.
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
        return "it has a column and an expr; remove one of the two"
    if how.column == "":
        return "the name of the source column is empty; give a name, or remove it"
    return _expression_problem(how) or _text_problem(how, target) or _time_problem(how, target)


def _expression_problem(how: Mapped) -> str | None:
    if how.expr is None:
        return None
    if not isinstance(how.expr, str | pl.Expr):
        return f"expr is {how.expr!r}. Expected a polars expression or SQL such as 'price * qty'"
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
        return f"null_strings is a str. Expected a tuple: write ({how.null_strings!r},)"
    if how.case not in (None, "upper", "lower"):
        return f"case is {how.case!r}. Expected 'upper' or 'lower'"
    if how.strict and not how.values:
        return "strict needs values=...; declare the values, or remove strict"
    numbers = how.decimal != "." or how.thousands != ""
    if how.decimal not in (".", ","):
        return f"decimal is {how.decimal!r}. Expected '.' or ','"
    if how.thousands and (len(how.thousands) != 1 or how.thousands.isdigit()):
        return f"thousands is {how.thousands!r}. Expected one character such as '.'"
    if how.thousands == how.decimal or how.thousands in ("+", "-"):
        return (
            f"thousands is {how.thousands!r}, which also means another part of a number. Expected "
            "another character"
        )
    if numbers and not target.is_numeric():
        return f"decimal and thousands need a number, but the column is {target}; remove them"
    return None


def _time_problem(how: Mapped, target: pl.DataType) -> str | None:
    if how.format is not None:
        if not target.is_temporal():
            return f"format needs a time, but the column is {target}; remove it"
        problem = (
            _epoch_problem(how, target)
            if how.format in EPOCHS
            else _format_problem(how.format, target)
        )
        if problem is not None:
            return problem
    if how.time_zone is not None:
        if not (isinstance(target, pl.Datetime) and target.time_zone):
            return f"time_zone needs a time in UTC, but the column is {target}; remove it"
        if how.format is not None and has_zone(how.format):
            return "format reads the zone of each time; remove time_zone"
        try:
            ZoneInfo(how.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return f"unknown time zone {how.time_zone!r}. Expected one such as 'Europe/Berlin'"
    return None


def _epoch_problem(how: Mapped, target: pl.DataType) -> str | None:
    if not isinstance(target, pl.Datetime):
        return f"an epoch needs a time with a date, but the column is {target}; remove format"
    return None if how.time_zone is None else "an epoch is in UTC; remove time_zone"


def _format_problem(form: str, target: pl.DataType) -> str | None:
    if re.search(r"(?<![.\d])%f|\.%f", form):
        return f"format {form!r}: %f counts nanoseconds; write %.f for the digits after the dot"
    if "%Z" in form:
        return f"format {form!r}: %Z reads the name of a zone; use %z, or time_zone=..."
    when = datetime(2001, 12, 13, 14, 15, tzinfo=UTC)
    try:
        text = pl.Series([when if has_zone(form) else when.replace(tzinfo=None)]).dt.strftime(form)
        back = parsed(text, form, target)[0]
    except pl.exceptions.PolarsError as error:
        return f"format {form!r} is invalid ({str(error).splitlines()[0]})"
    # A format without a year reads the year 1.
    if back is None or (target != pl.Time and back.year != when.year):
        return f"format {form!r} does not read all parts of a {target}; add the missing ones"
    return None


def has_zone(form: str) -> bool:
    """Whether a format reads an offset from UTC."""
    return re.search(r"%[:#]*z|%\+", form) is not None


def parsed(text: pl.Series, form: str, target: pl.DataType) -> pl.Series:
    """Read times by a format: as a time of day, or with a date, in UTC where the format has a zone.

    An unreadable text becomes null. Raises polars' ComputeError for an invalid format.
    """
    if target == pl.Time:
        return text.str.to_time(form, strict=False)
    zone = "UTC" if has_zone(form) else None
    read = text.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False)
    if _FOUR_DIGITS.search(form):
        return _of_named_years(text, read)
    return _of_posix_years(text, read) if _TWO_DIGITS.search(form) else read


_FOUR_DIGITS = re.compile(r"%0?[YG]|%[Fvc+]")
"""Formats whose year has four digits. Polars also reads fewer."""
_TWO_DIGITS = re.compile(r"%[-_0]?y|%[Dx]")
_DAY = 86_400_000_000
_YEARS = {year: (date(year, 1, 1) - date(1970, 1, 1)).days * _DAY for year in (1000, 2069, 2070)}
"""The start of years, in microseconds since 1970."""
_CENTURY = 36_525 * _DAY
"""The time from any moment of 1969 to the same moment of 2069."""
_FRACTION = r"(:\d\d)[.,]\d+"


def _of_named_years(text: pl.Series, read: pl.Series) -> pl.Series:
    """Set times before the year 1000 to null where the text has fewer than four digits."""
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
    """Read the year 69 as 1969, like POSIX, where polars reads 2069."""
    moments = read.to_physical()
    margin = _DAY if isinstance(read.dtype, pl.Datetime) and read.dtype.time_zone else 0
    late = (moments >= _YEARS[2069] - margin) & (moments < _YEARS[2070] + margin)
    late = late.fill_null(False)
    if margin:
        late &= text.str.replace(_FRACTION, "${1}").str.contains("69").fill_null(False)
    return (moments - late.cast(pl.Int64) * _CENTURY).cast(read.dtype)
