"""The pandera model as columns: what each is in polars, Arrow, PostgreSQL and DuckDB.

One row of TYPES says everything about a type, with the two SQL expressions that turn a value into
an integer for the fingerprint. A type that would be damaged on its way between the engines has no
row, and a model that uses it is refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from pandera.errors import SchemaInitError
from pandera.polars import DataFrameModel


class SchemaError(ValueError):
    """A model whose columns cannot be carried without damage; the text says which and why."""


@dataclass(frozen=True)
class TypeMap:
    """One type in every engine.

    to_integer_*: SQL over `{}` (the quoted column) that gives the same integer or decimal in both
    engines; summed over the rows it does not depend on their order.
    """

    arrow: pa.DataType
    postgres: str
    duckdb: str
    to_integer_postgres: str = "{}"
    to_integer_duckdb: str = "{}"
    orderable: bool = True


_TEXT_PG = "('x' || left(md5({}), 15))::bit(60)::bigint"
_TEXT_DUCK = "('0x' || left(md5({}), 15))::bigint"
SUMMABLE_DIGITS = 28
"""Of a decimal; the sum of more than ten thousand million longer ones overflows DuckDB's 38."""
_EPOCH_PG = "trunc(extract(epoch from {}) * 1000000)::numeric(30, 0)"

TYPES: dict[pl.DataType | type[pl.DataType], TypeMap] = {
    pl.Int8: TypeMap(pa.int16(), "smallint", "SMALLINT"),
    pl.Int16: TypeMap(pa.int16(), "smallint", "SMALLINT"),
    pl.Int32: TypeMap(pa.int32(), "integer", "INTEGER"),
    pl.Int64: TypeMap(pa.int64(), "bigint", "BIGINT"),
    pl.UInt8: TypeMap(pa.int16(), "smallint", "SMALLINT"),
    pl.UInt16: TypeMap(pa.int32(), "integer", "INTEGER"),
    pl.UInt32: TypeMap(pa.int64(), "bigint", "BIGINT"),
    pl.Float32: TypeMap(
        pa.float32(),
        "real",
        "FLOAT",
        "('x' || encode(float4send({}), 'hex'))::bit(32)::integer",
        "{}::bit::integer",
    ),
    pl.Float64: TypeMap(
        pa.float64(),
        "double precision",
        "DOUBLE",
        "('x' || encode(float8send({}), 'hex'))::bit(64)::bigint",
        "{}::bit::bigint",
    ),
    pl.Boolean: TypeMap(
        pa.bool_(), "boolean", "BOOLEAN", "{}::integer", "{}::integer", orderable=False
    ),
    pl.String: TypeMap(pa.string(), "text", "VARCHAR", _TEXT_PG, _TEXT_DUCK),
    pl.Binary: TypeMap(pa.binary(), "bytea", "BLOB", _TEXT_PG, _TEXT_DUCK, orderable=False),
    pl.Date: TypeMap(
        pa.date32(),
        "date",
        "DATE",
        "({} - date '1970-01-01')",
        "date_diff('day', date '1970-01-01', {})",
    ),
    pl.Time: TypeMap(
        pa.time64("us"),
        "time without time zone",
        "TIME",
        _EPOCH_PG,
        "epoch_us(date '1970-01-01' + {})",
    ),
    pl.Datetime("us"): TypeMap(
        pa.timestamp("us"), "timestamp without time zone", "TIMESTAMP", _EPOCH_PG, "epoch_us({})"
    ),
    pl.Datetime("us", "UTC"): TypeMap(
        pa.timestamp("us", "UTC"),
        "timestamp with time zone",
        "TIMESTAMP WITH TIME ZONE",
        _EPOCH_PG,
        "epoch_us({})",
    ),
}

REFUSED = {
    pl.UInt64: "PostgreSQL has no unsigned 64 bit integer; declare pl.Decimal(20, 0)",
    pl.Datetime: "PostgreSQL keeps microseconds in UTC; declare pl.Datetime('us', 'UTC')",
    pl.Duration: "DuckDB damages negative intervals; declare pl.Int64 microseconds",
    pl.Categorical: "declare str, with isin=[...] for the allowed values",
    pl.Enum: "declare str, with isin=[...] for the allowed values",
}


@dataclass(frozen=True)
class Column:
    """A column of the contract: its name, its type in every engine, and what is said about it.

    checks: the pandera rules as text, for people.
    """

    name: str
    polars: pl.DataType
    types: TypeMap
    nullable: bool
    unique: bool
    description: str
    checks: tuple[str, ...]

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type that goes over the wire to PostgreSQL."""
        return self.types.arrow

    @property
    def postgres(self) -> str:
        """The PostgreSQL type, as format_type() spells it."""
        return self.types.postgres

    @property
    def duckdb(self) -> str:
        """The DuckDB type, as DESCRIBE spells it; also that of the cold file."""
        return self.types.duckdb

    @property
    def orderable(self) -> bool:
        """Whether the column can be a cursor."""
        return self.types.orderable


def columns_of(model: type[DataFrameModel]) -> tuple[Column, ...]:
    """Return the columns of a pandera model, in its order. Raises SchemaError."""
    try:
        fields = model.to_schema().columns
    except (TypeError, SchemaInitError) as error:
        raise SchemaError(f"pandera cannot read {model.__name__}: {error}") from error
    return tuple(
        Column(
            name=name,
            polars=_instance(field.dtype.type),
            types=type_map(name, field.dtype.type),
            nullable=bool(field.nullable),
            unique=bool(field.unique),
            description=field.description or "",
            checks=tuple(str(check.error or check.name) for check in field.checks),
        )
        for name, field in fields.items()
    )


def type_map(name: str, dtype: pl.DataType | type[pl.DataType]) -> TypeMap:
    """Return the row of TYPES for a polars type. Raises SchemaError with the reason."""
    if isinstance(dtype, pl.Decimal):
        return _decimal(name, dtype)
    for known, types in TYPES.items():
        if dtype == known and not (isinstance(dtype, type) and dtype is pl.Datetime):
            return types
    base = dtype if isinstance(dtype, type) else type(dtype)
    reason = REFUSED.get(base, "it has no lossless form in PostgreSQL and Parquet")
    raise SchemaError(f"column {name!r} is {dtype}: {reason}")


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Return the Arrow schema of the batches that are encoded for PostgreSQL."""
    return pa.schema(
        [pa.field(column.name, column.arrow, nullable=column.nullable) for column in columns]
    )


def _decimal(name: str, dtype: pl.Decimal) -> TypeMap:
    precision, scale = dtype.precision, dtype.scale
    if precision is None or precision > 38:
        raise SchemaError(
            f"column {name!r} is {dtype}: DuckDB turns it into a double; "
            "declare a precision of at most 38, such as pl.Decimal(18, 2)"
        )
    arrow = pa.decimal128(precision, scale)
    names = f"numeric({precision},{scale})", f"DECIMAL({precision},{scale})"
    if precision > SUMMABLE_DIGITS:
        text_pg, text_duck = (_text.replace("{}", "{}::text") for _text in (_TEXT_PG, _TEXT_DUCK))
        return TypeMap(arrow, *names, text_pg, text_duck)
    return TypeMap(arrow, *names)


def _instance(dtype: pl.DataType | type[pl.DataType]) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype
