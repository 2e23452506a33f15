"""Literals of a predicate, each in the one form that PostgreSQL and DuckDB read alike. Pure."""

from __future__ import annotations

import struct
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

import polars as pl
from sqlglot import exp

from lakebed.errors import WRONG_USAGE, LakebedError
from lakebed.spec.schema import Column
from lakebed.spec.types import widest


class PredicateError(LakebedError, ValueError):
    """A predicate that cannot be used. The text names the part at fault and its replacement."""

    exit_code = WRONG_USAGE


def is_literal(node: exp.Expr) -> bool:
    """Whether a node is a literal, a negated one, or a cast."""
    return isinstance(node, exp.Literal | exp.Boolean | exp.Neg | exp.Cast)


def literal_text(node: exp.Expr, column: Column) -> str:
    """Return the text of a literal. A cast to another type than the column's changes its value."""
    match node:
        case exp.Literal():
            return str(node.this)
        case exp.Boolean():
            return "true" if node.this else "false"
        case exp.Neg() if isinstance(node.this, exp.Literal) and not node.this.is_string:
            return f"-{node.this.this}"
        case exp.Paren():
            return literal_text(node.this, column)
        case exp.Cast() if node.to.sql("postgres").lower() == _type_of(column):
            return literal_text(node.this, column)
        case exp.Cast():
            raise PredicateError(
                f"{node.sql('postgres')}: {column.name} is {column.postgres}, and a literal is "
                "read as that; remove the cast"
            )
        case _:
            raise PredicateError(f"{node.sql('postgres')} is not a literal")


def _type_of(column: Column) -> str:
    """Return the type that a cast may name, as sqlglot writes it."""
    named = exp.DataType.build(widest(column.postgres), dialect="postgres", udt=True)
    return named.sql("postgres").lower()


def checked(column: Column, text: str, lower: bool) -> str:
    """Return a literal in the one form that both engines read as the same value."""
    try:
        found = _in_one_form(column, text, lower)
    except (ValueError, InvalidOperation):
        found = None
    if found is None:
        raise PredicateError(
            f"{text!r} is not a value of {column.name} ({column.postgres}), or PostgreSQL and "
            "DuckDB would read it differently"
        )
    return found


def _in_one_form(column: Column, text: str, lower: bool) -> str | None:
    dtype, kind = column.polars, column.postgres
    if column.types.labels:
        return text if text in column.types.labels else None
    if kind == "text" or kind.startswith("character varying"):
        # In lower case the engines agree on ASCII only.
        return None if "\0" in text or (lower and not text.isascii()) else text
    if kind == "uuid":
        return str(uuid.UUID(text))
    if kind == "boolean":
        return text.lower() if text.lower() in ("true", "false") else None
    if dtype.is_integer():
        return str(int(text)) if abs(int(text)) < 2**63 else None
    if isinstance(dtype, pl.Decimal):
        number = Decimal(text)
        return f"{number:f}" if number.is_finite() and _fits(number, dtype) else None
    if dtype.is_float():
        return _float_in_one_form(text, single=isinstance(dtype, pl.Float32))
    if isinstance(dtype, pl.Date):
        return date.fromisoformat(text).isoformat()
    if isinstance(dtype, pl.Datetime):
        moment = datetime.fromisoformat(text)
        if dtype.time_zone is None:
            return moment.isoformat() if moment.tzinfo is None else None
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).isoformat()
    return None


def _float_in_one_form(text: str, *, single: bool) -> str | None:
    """Return None for a value that is not finite, or that the type rounds to zero."""
    value = float(text)
    try:
        kept = struct.unpack("f", struct.pack("f", value))[0] if single else value
    except OverflowError:
        return None
    vanishes = kept == 0 and Decimal(text) != 0
    return repr(value) if abs(kept) < float("inf") and not vanishes else None


def _fits(number: Decimal, dtype: pl.Decimal) -> bool:
    """Whether a number has no more digits, before the point and after it, than the type."""
    exponent = number.normalize().as_tuple().exponent
    whole = number.adjusted() + 1 if number else 0
    return (
        isinstance(exponent, int)
        and -exponent <= dtype.scale
        and whole <= (dtype.precision or 38) - dtype.scale
    )
