"""A type is carried without damage by every engine, or the model is refused with the reason."""

from __future__ import annotations

from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pyarrow
import pytest

from platform_assets.quality.schema import SchemaError, arrow_schema, columns_of, type_map

SUPPORTED = [
    (pl.Int8, "int16", "smallint", "SMALLINT"),
    (pl.Int16, "int16", "smallint", "SMALLINT"),
    (pl.Int32, "int32", "integer", "INTEGER"),
    (pl.Int64, "int64", "bigint", "BIGINT"),
    (pl.UInt8, "int16", "smallint", "SMALLINT"),
    (pl.UInt16, "int32", "integer", "INTEGER"),
    (pl.UInt32, "int64", "bigint", "BIGINT"),
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
        (pl.UInt64, r"Decimal\(20, 0\)"),
        (pl.Int128, "no lossless form"),
        (pl.Datetime, "'us', 'UTC'"),
        (pl.Datetime("ns"), "'us', 'UTC'"),
        (pl.Datetime("ms", "UTC"), "'us', 'UTC'"),
        (pl.Datetime("us", "Europe/Berlin"), "'us', 'UTC'"),
        (pl.Duration, "Int64"),
        (pl.Duration("us"), "Int64"),
        (pl.Categorical, "isin"),
        (pl.Enum(["a"]), "isin"),
        (pl.List(pl.Int64), "no lossless form"),
        (pl.Struct({"a": pl.Int64}), "no lossless form"),
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


def test_the_arrow_schema_says_what_may_be_null() -> None:
    schema = arrow_schema(columns_of(Model))
    assert schema.field("id") == pyarrow.field("id", pyarrow.int64(), nullable=False)
    assert schema.field('Weird "Name"').nullable
