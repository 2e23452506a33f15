"""Map each type that a column can have between polars, Arrow, PostgreSQL and DuckDB.

TYPES has one row for each type of polars. LITERALS has one for each type that polars does not have:
its column is a `str` whose field names the PostgreSQL type, and its values travel as text of one
form. Each row includes the two SQL expressions that turn a value into an integer for the
fingerprint. A type without a lossless form in every engine has no row; Lakebed refuses its columns
with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import polars as pl
import pyarrow as pa

from lakebed.errors import WRONG_USAGE, LakebedError


class SchemaError(LakebedError, ValueError):
    """A model with a column that has no lossless form; the text names the column and why."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True)
class TypeMap:
    """One type in every engine."""

    arrow: pa.DataType
    postgres: str
    duckdb: str
    to_integer_postgres: str = "{0}"
    """SQL over `{0}` (the quoted column) for an integer or decimal that is equal in both engines.
    Its sum over the rows does not depend on their order."""
    to_integer_duckdb: str = "{0}"
    """The same for DuckDB."""
    orderable: bool = True
    """Whether it can be a cursor."""
    keyable: bool = True
    """Whether it can be in a key: its equality is the same in every engine."""
    literal: str | None = None
    """The name in LITERALS of a type that travels as text, or of a list's elements."""
    labels: tuple[str, ...] = ()
    """The labels of an enum."""
    stored: str = "{0}"
    """DuckDB's SQL over `{0}` for the value in the cold file. A cast to `duckdb` restores it."""
    stays_hot: str = ""
    """Why a table with the type cannot have tiering, and how to fix it."""


def _digest_in_duckdb() -> str:
    """Return SQL for the integer of the first 15 hexadecimal digits of an MD5.

    It uses md5_number, whose bytes are the digest's from last to first: twice as fast as the text
    of an MD5. The lambda makes DuckDB digest a value, which may be long SQL, only once.
    """
    word = "lakebed_w"
    for bits, low in ((8, 0x00FF00FF00FF00FF), (16, 0x0000FFFF0000FFFF), (32, 0x00000000FFFFFFFF)):
        word = f"((({word} >> {bits}) & {low}) | (({word} & {low}) << {bits}))"
    first_bytes = f"(md5_number({{0}}) & {2**64 - 1})::ubigint"
    return f"(list_transform([{first_bytes}], lambda lakebed_w: ({word} >> 4)::bigint)[1])"


_TEXT_PG = "lakebed.digest({0})"
_TEXT_DUCK = _digest_in_duckdb()
MORE_SCALE = "DuckDB's decimals have at most as many digits after the point as digits"
SUMMABLE_DIGITS = 28
"""Digits of a decimal that a fingerprint sums. The sum of over ten billion longer ones overflows
DuckDB's 38 digits."""
_EPOCH_PG = "trunc(extract(epoch from {0}) * 1000000)"
_OF_TEXT = _TEXT_PG.replace("{0}", "{0}::text"), _TEXT_DUCK.replace("{0}", "{0}::varchar")


def _finite(least: int, otherwise: str) -> str:
    """Return SQL for the integer of a moment; the infinities get two below every moment's."""
    return (
        f"case {{0}} when '-infinity' then {least} when 'infinity' then {least + 1}"
        f" else {otherwise} end"
    )


_MOMENT = _finite(-(2**63) + 1, _EPOCH_PG), _finite(-(2**63) + 1, "epoch_us({0})")

TYPES: dict[pl.DataType | type[pl.DataType], TypeMap] = {
    pl.Int8: TypeMap(pa.int16(), "smallint", "SMALLINT"),
    pl.Int16: TypeMap(pa.int16(), "smallint", "SMALLINT"),
    pl.Int32: TypeMap(pa.int32(), "integer", "INTEGER"),
    pl.Int64: TypeMap(pa.int64(), "bigint", "BIGINT"),
    pl.UInt8: TypeMap(pa.int16(), "smallint", "SMALLINT"),
    pl.UInt16: TypeMap(pa.int32(), "integer", "INTEGER"),
    pl.UInt32: TypeMap(pa.int64(), "bigint", "BIGINT"),
    pl.UInt64: TypeMap(pa.decimal128(20, 0), "numeric(20,0)", "DECIMAL(20,0)"),
    pl.Float32: TypeMap(
        pa.float32(),
        "real",
        "FLOAT",
        "('x' || encode(float4send({0}), 'hex'))::bit(32)::integer",
        "{0}::bit::integer",
    ),
    pl.Float64: TypeMap(
        pa.float64(),
        "double precision",
        "DOUBLE",
        "('x' || encode(float8send({0}), 'hex'))::bit(64)::bigint",
        "{0}::bit::bigint",
    ),
    pl.Boolean: TypeMap(
        pa.bool_(), "boolean", "BOOLEAN", "{0}::integer", "{0}::integer", orderable=False
    ),
    pl.String: TypeMap(pa.string(), "text", "VARCHAR", _TEXT_PG, _TEXT_DUCK),
    pl.Binary: TypeMap(pa.binary(), "bytea", "BLOB", _TEXT_PG, _TEXT_DUCK, orderable=False),
    pl.Date: TypeMap(
        pa.date32(),
        "date",
        "DATE",
        _finite(-(2**31), "{0} - date '1970-01-01'"),
        _finite(-(2**31), "date_diff('day', date '1970-01-01', {0})"),
    ),
    pl.Time: TypeMap(
        pa.time64("us"),
        "time without time zone",
        "TIME",
        _EPOCH_PG,
        "epoch_us(date '1970-01-01' + {0})",
    ),
    pl.Datetime("us"): TypeMap(
        pa.timestamp("us"), "timestamp without time zone", "TIMESTAMP", *_MOMENT
    ),
    pl.Datetime("us", "UTC"): TypeMap(
        pa.timestamp("us", "UTC"),
        "timestamp with time zone",
        "TIMESTAMP WITH TIME ZONE",
        *_MOMENT,
    ),
}


def _literal(postgres: str, duckdb: str = "VARCHAR", *, keyable: bool = True) -> TypeMap:
    return TypeMap(
        pa.string(), postgres, duckdb, *_OF_TEXT, orderable=False, keyable=keyable, literal=postgres
    )


_INTERVAL_PG = """format('%s months %s days %s microseconds',
  extract(year from {0}) * 12 + extract(month from {0}), extract(day from {0}),
  trunc(extract(hour from {0}) * 3600000000 + extract(minute from {0}) * 60000000
    + extract(microsecond from {0})))"""
_INTERVAL_DUCK = """concat(
  datepart('year', {0}) * 12 + datepart('month', {0}), ' months ', datepart('day', {0}), ' days ',
  datepart('hour', {0}) * 3600000000 + datepart('minute', {0}) * 60000000 + datepart('us', {0}),
  ' microseconds')"""
"""An interval by its parts, as its text depends on the server's IntervalStyle."""

_ELEMENTS_PG = """coalesce(nullif(array_dims({0}), '[1:' || cardinality({0}) || ']'), '') || (
  select coalesce(string_agg(coalesce((ELEMENT)::text, '-'), ',' order by lakebed_u.i), '')
  from unnest({0}) with ordinality as lakebed_u(e, i))"""
_ELEMENTS_DUCK = """array_to_string(
  list_transform({0}, lambda lakebed_e: coalesce((ELEMENT)::varchar, '-')), ',')"""
"""The digest of PostgreSQL includes dimensions and bounds that DuckDB does not have."""


def _unless_null(expression: str) -> str:
    return f"case when {{0}} is not null then {expression} end"


LITERALS: dict[str, TypeMap] = {
    "uuid": _literal("uuid", "UUID"),
    "json": _literal("json", keyable=False),
    "jsonb": _literal("jsonb", keyable=False),
    "inet": _literal("inet"),
    "cidr": _literal("cidr"),
    "interval": replace(
        _literal("interval", "INTERVAL", keyable=False),
        to_integer_postgres=_unless_null(_TEXT_PG.replace("{0}", _INTERVAL_PG)),
        to_integer_duckdb=_unless_null(_TEXT_DUCK.replace("{0}", _INTERVAL_DUCK)).replace(
            "{0}", "{0}::interval"
        ),
        stored=_unless_null(_INTERVAL_DUCK),
    ),
    "time with time zone": replace(
        _literal("time with time zone", "TIME WITH TIME ZONE", keyable=False),
        stored="{0}::varchar",
    ),
    "numeric": replace(
        _literal("numeric", keyable=False),
        stays_hot="DuckDB reads it as a double; declare a precision such as "
        "Annotated[pl.Decimal, 38, 10], or remove tiering",
    ),
}
"""Types by the name in a field's metadata, in the spelling of format_type()."""

_ALIASES = {
    "timetz": "time with time zone",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
    "varchar": "text",
    "decimal": "numeric",
}

_NARROW = re.compile(
    r"character varying(?:\(\d+\))?|(?:timestamp|time)\(\d\) with(?:out)? time zone"
)


def is_narrow(postgres: str) -> bool:
    """Whether a type has a subset of the values of another, `widest`, in the same form."""
    return _NARROW.fullmatch(postgres) is not None and not _OF_OFFSET.fullmatch(postgres)


def widest(postgres: str) -> str:
    """Return the type whose values a narrow type has a subset of; return any other unchanged."""
    if not is_narrow(postgres):
        return postgres
    return "text" if postgres.startswith("char") else re.sub(r"\(\d\)", "", postgres)


_OF_OFFSET = re.compile(r"time\(\d\) with time zone")


REFUSED = {
    pl.Datetime: "PostgreSQL keeps microseconds in UTC; declare pl.Datetime('us', 'UTC')",
    pl.Duration: 'declare str with pa.Field(metadata={"postgres": "interval"}), or pl.Int64',
    pl.Categorical: "declare pl.Enum([...]), or str with isin=[...] for the allowed values",
    pl.Struct: 'declare str with pa.Field(metadata={"postgres": "jsonb"})',
    pl.Array: "PostgreSQL's arrays have no fixed length; declare pl.List",
    pl.Int128: "declare pl.Decimal(38, 0)",
}

_TYPE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
LABEL_BYTES = 63


def type_map(name: str, dtype: pl.DataType | type[pl.DataType]) -> TypeMap:
    """Return a polars type in every engine. Raises SchemaError with the reason."""
    if isinstance(dtype, pl.Decimal):
        return _decimal(name, dtype)
    if isinstance(dtype, pl.List):
        return _list(name, dtype, type_map(name, cast(Any, dtype.inner)))
    for known, types in TYPES.items():
        if dtype == known and not (isinstance(dtype, type) and dtype is pl.Datetime):
            return types
    base = dtype if isinstance(dtype, type) else type(dtype)
    reason = REFUSED.get(base, "it has no lossless form in PostgreSQL and Parquet")
    raise SchemaError(f"column {name!r} is {dtype}: {reason}")


def named_type(
    table: str, name: str, dtype: pl.DataType | type[pl.DataType], metadata: Mapping[str, Any]
) -> TypeMap:
    """Return the type that the field's metadata names, or else that of its polars type."""
    named = metadata.get("postgres")
    if isinstance(dtype, pl.Enum):
        return _enum(name, dtype, named or f"{table}_{name}")
    if named is None:
        return type_map(name, dtype)
    base, array = named.removesuffix("[]"), named.endswith("[]")
    base = _ALIASES.get(base, base)
    if base.startswith("varchar("):
        base = f"character varying{base.removeprefix('varchar')}"
    known = LITERALS.get(base)
    if array and known is not None and base == "uuid" and dtype == pl.List(pl.String):
        return _list(name, pl.List(pl.String), known)
    if known is not None and not array and dtype == pl.String:
        return known
    plain = type_map(name, dtype)
    if plain.postgres == f"{base}[]" if array else plain.postgres == base:
        return plain
    if not array and is_narrow(base) and plain.postgres == widest(base):
        return replace(plain, postgres=base)
    raise SchemaError(
        f"column {name!r} is {dtype} and names the PostgreSQL type {named!r}. Expected: for str "
        f"one of {', '.join(LITERALS)}; for list[str] uuid[]; for pl.Enum the name of its type"
    )


def enum_type(postgres: str, labels: Sequence[str]) -> tuple[pl.DataType, TypeMap]:
    """Return an existing enum, by its name and labels. Raises SchemaError."""
    dtype = pl.Enum(labels)
    return dtype, _enum(postgres, dtype, postgres)


def list_type(inner: str, dtype: pl.DataType) -> tuple[pl.DataType, TypeMap]:
    """Return an array of a PostgreSQL type, and of its polars type. Raises SchemaError."""
    of = LITERALS[inner] if inner in LITERALS else type_map(inner, dtype)
    if of.postgres != inner:
        raise SchemaError(f"{inner}[]: arrays need a plain type; ALTER it to {of.postgres}[]")
    whole = pl.List(dtype)
    return whole, _list(inner, whole, of)


def _decimal(name: str, dtype: pl.Decimal) -> TypeMap:
    precision, scale = dtype.precision, dtype.scale
    if precision is None or precision > 38:
        raise SchemaError(
            f"column {name!r} is {dtype}: DuckDB turns it into a double; declare a precision of at "
            "most 38, such as pl.Decimal(18, 2), or, for a table that stays hot, str with "
            'pa.Field(metadata={"postgres": "numeric"})'
        )
    if scale > precision:
        raise SchemaError(f"column {name!r} is {dtype}: {MORE_SCALE}")
    arrow = pa.decimal128(precision, scale)
    names = f"numeric({precision},{scale})", f"DECIMAL({precision},{scale})"
    if precision > SUMMABLE_DIGITS:
        return TypeMap(arrow, *names, *_OF_TEXT)
    return TypeMap(arrow, *names)


def _list(name: str, dtype: pl.List, inner: TypeMap) -> TypeMap:
    """Return an array of one dimension, whose fingerprint combines those of its elements."""
    if pa.types.is_list(inner.arrow):
        raise SchemaError(
            f"column {name!r} is {dtype}: nested arrays must have equal lengths in PostgreSQL; "
            'declare str with pa.Field(metadata={"postgres": "jsonb"})'
        )
    in_postgres = inner.to_integer_postgres.replace("{0}", "lakebed_u.e")
    in_duckdb = inner.to_integer_duckdb.replace("{0}", "lakebed_e")
    return TypeMap(
        pa.list_(inner.arrow),
        f"{inner.postgres}[]",
        f"{inner.duckdb}[]",
        _unless_null(_TEXT_PG.replace("{0}", _ELEMENTS_PG.replace("ELEMENT", in_postgres))),
        _TEXT_DUCK.replace("{0}", _ELEMENTS_DUCK.replace("ELEMENT", in_duckdb)),
        orderable=False,
        keyable=False,
        literal=inner.literal,
    )


def _enum(name: str, dtype: pl.Enum, postgres: str) -> TypeMap:
    """Return an enum type of PostgreSQL, in the schema public unless it names another."""
    labels = tuple(dtype.categories)
    wrong = [v for v in labels if not v or len(v.encode()) > LABEL_BYTES or "\0" in v]
    if not labels or wrong:
        what = f"the label {wrong[0]!r}" if wrong else "no label"
        raise SchemaError(
            f"column {name!r} is an enum with {what}. Expected labels of 1 to {LABEL_BYTES} bytes"
        )
    schema, _, name_of_type = postgres.rpartition(".")
    if not all(_TYPE_NAME.fullmatch(part) for part in (schema or "public", name_of_type)):
        raise SchemaError(
            f"column {name!r} is an enum of the type {postgres!r}. Expected a name of at most 63 "
            "lower case letters, digits and _; set it by "
            'pa.Field(metadata={"postgres": "..."})'
        )
    # With its schema, even a keyword of SQL is a valid name.
    return TypeMap(
        pa.string(),
        f"{schema or 'public'}.{name_of_type}",
        "VARCHAR",
        *_OF_TEXT,
        orderable=False,
        labels=labels,
    )
