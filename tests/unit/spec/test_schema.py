"""A type is carried without damage by every engine, or the model is refused with the reason."""

from __future__ import annotations

from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pyarrow
import pytest

from lakebed.spec.schema import arrow_schema, columns_of
from lakebed.spec.types import SchemaError, type_map

SUPPORTED = [
    (pl.Int8, "int16", "smallint", "SMALLINT"),
    (pl.Int16, "int16", "smallint", "SMALLINT"),
    (pl.Int32, "int32", "integer", "INTEGER"),
    (pl.Int64, "int64", "bigint", "BIGINT"),
    (pl.UInt8, "int16", "smallint", "SMALLINT"),
    (pl.UInt16, "int32", "integer", "INTEGER"),
    (pl.UInt32, "int64", "bigint", "BIGINT"),
    (pl.UInt64, "decimal128(20, 0)", "numeric(20,0)", "DECIMAL(20,0)"),
    (pl.Float32, "float", "real", "FLOAT"),
    (pl.Float64, "double", "double precision", "DOUBLE"),
    (pl.Boolean, "bool", "boolean", "BOOLEAN"),
    (pl.String, "string", "text", "VARCHAR"),
    (pl.Binary, "binary", "bytea", "BLOB"),
    (pl.Date, "date32[day]", "date", "DATE"),
    (pl.Time, "time64[us]", "time without time zone", "TIME"),
    (pl.Datetime("us"), "timestamp[us]", "timestamp without time zone", "TIMESTAMP"),
    (
        pl.Datetime("us", "UTC"),
        "timestamp[us, tz=UTC]",
        "timestamp with time zone",
        "TIMESTAMP WITH TIME ZONE",
    ),
    (pl.Decimal(18, 2), "decimal128(18, 2)", "numeric(18,2)", "DECIMAL(18,2)"),
    (pl.Decimal(38, 0), "decimal128(38, 0)", "numeric(38,0)", "DECIMAL(38,0)"),
    (pl.List(pl.Int8), "list<item: int16>", "smallint[]", "SMALLINT[]"),
    (pl.List(pl.String()), "list<item: string>", "text[]", "VARCHAR[]"),
    (
        pl.List(pl.Decimal(18, 2)),
        "list<item: decimal128(18, 2)>",
        "numeric(18,2)[]",
        "DECIMAL(18,2)[]",
    ),
]


@pytest.mark.parametrize(("dtype", "arrow", "postgres", "duckdb"), SUPPORTED, ids=str)
def test_a_type_has_one_form_in_each_engine(
    dtype: Any, arrow: str, postgres: str, duckdb: str
) -> None:
    types = type_map("c", dtype)
    assert (str(types.arrow), types.postgres, types.duckdb) == (arrow, postgres, duckdb)


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [
        (pl.Int128, r"Decimal\(38, 0\)"),
        (pl.Decimal(3, 5), "digits after the point"),
        (pl.Datetime, "'us', 'UTC'"),
        (pl.Datetime("ns"), "'us', 'UTC'"),
        (pl.Datetime("ms", "UTC"), "'us', 'UTC'"),
        (pl.Datetime("us", "Europe/Berlin"), "'us', 'UTC'"),
        (pl.Duration, "interval"),
        (pl.Duration("us"), "interval"),
        (pl.Categorical, "isin"),
        (pl.List(pl.Duration), "interval"),
        (pl.List(pl.List(pl.Int64)), "jsonb"),
        (pl.Array(pl.Int64, 2), "List"),
        (pl.Struct({"a": pl.Int64}), "jsonb"),
        (pl.Object, "no lossless form"),
        (pl.Null, "no lossless form"),
    ],
    ids=str,
)
def test_a_type_that_would_be_damaged_is_refused_with_the_way_out(dtype: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=f"column 'c' is .*{reason}"):
        type_map("c", dtype)


class Model(pa.DataFrameModel):
    id: pl.Int64 = pa.Field(unique=True, description="which")
    weird: str = pa.Field(alias='Weird "Name"', nullable=True, isin=["a", "b"])
    at: Annotated[pl.Datetime, "us", "UTC"]
    plain_int: int
    plain_float: float
    plain_bool: bool


def test_the_columns_are_those_of_the_model_in_its_order() -> None:
    columns = columns_of(Model)
    assert [c.name for c in columns] == [
        "id",
        'Weird "Name"',
        "at",
        "plain_int",
        "plain_float",
        "plain_bool",
    ]
    assert [c.postgres for c in columns[3:]] == ["bigint", "double precision", "boolean"]
    assert [c.nullable for c in columns] == [False, True, False, False, False, False]
    assert (columns[0].unique, columns[0].description) == (True, "which")
    assert "isin" in columns[1].checks[0]


class Named(pa.DataFrameModel):
    a: str = pa.Field(metadata={"postgres": "uuid"})
    b: str = pa.Field(metadata={"postgres": "timetz"})
    c: list[str] = pa.Field(metadata={"postgres": "uuid[]"})
    d: Annotated[pl.Enum, ["x", "y"]]
    e: Annotated[pl.Enum, ["x", "y"]] = pa.Field(metadata={"postgres": "order"})
    f: str = pa.Field(metadata={"postgres": "varchar"})
    g: int = pa.Field(metadata={"postgres": "bigint"})


def test_a_field_may_name_a_type_that_polars_has_not() -> None:
    columns = columns_of(Named, "events")
    assert [c.postgres for c in columns] == [
        "uuid",
        "time with time zone",
        "uuid[]",
        "public.events_d",
        "public.order",
        "text",
        "bigint",
    ]
    assert columns[3].types.labels == ("x", "y")


def a_model(annotation: Any, postgres: str | None = None, alias: str | None = None) -> Any:
    metadata = {"postgres": postgres} if postgres else None
    field = pa.Field(alias=alias, metadata=metadata)
    return type("Bad", (pa.DataFrameModel,), {"__annotations__": {"a": annotation}, "a": field})


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (a_model(str, "point"), "one of uuid, json"),
        (a_model(int, "uuid"), "is Int64 and names the PostgreSQL type 'uuid'"),
        (a_model(int, "smallint"), "is Int64 and names"),
        (a_model(list[str], "json[]"), r"list\[str\] uuid\[\]"),
        (a_model(pl.Enum(["a" * 64])), "1 to 63 bytes"),
        (a_model(pl.Enum([])), "no label"),
        (a_model(pl.Enum(["a"]), alias="A b"), "Expected a name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_type_that_cannot_be_named_is_refused(model: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        columns_of(model, "events")


def test_fields_that_share_one_field_object_are_refused() -> None:
    """Pandera would leave all but the last of them out without a word."""
    shared = pa.Field(nullable=True)

    class Shared(pa.DataFrameModel):
        a: int = shared
        b: int = shared

    with pytest.raises(SchemaError, match="share one"):
        columns_of(Shared)


def test_the_arrow_schema_says_what_may_be_null() -> None:
    schema = arrow_schema(columns_of(Model))
    assert schema.field("id") == pyarrow.field("id", pyarrow.int64(), nullable=False)
    assert schema.field('Weird "Name"').nullable
