"""Which PostgreSQL type becomes which without loss, and what a source's type is in a contract."""

from __future__ import annotations

from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.schema.evolved import evolved_column
from lakebed.spec.postgres_types import cold_type, field_line, polars_type, types_of, widening
from lakebed.spec.schema import columns_of
from lakebed.spec.types import TYPES, SchemaError, type_map


@pytest.mark.parametrize(
    ("old", "new", "how"),
    [
        ("smallint", "integer", "rewrite"),
        ("integer", "bigint", "rewrite"),
        ("bigint", "integer", None),
        ("bigint", "numeric(19,0)", "rewrite"),
        ("bigint", "numeric(20,2)", None),
        ("bigint", "double precision", None),
        ("integer", "double precision", "rewrite"),
        ("integer", "real", None),
        ("real", "double precision", "rewrite"),
        ("double precision", "real", None),
        ("numeric(10,2)", "numeric(12,2)", "instant"),
        ("numeric(10,2)", "numeric(12,4)", "rewrite"),
        ("numeric(10,2)", "numeric(11,4)", None),
        ("numeric(10,2)", "numeric(12,1)", None),
        ("numeric(10,2)", "numeric", "instant"),
        ("character varying(10)", "character varying(20)", "instant"),
        ("character varying(10)", "character varying", "instant"),
        ("character varying(20)", "character varying(10)", None),
        ("character varying", "character varying(10)", None),
        ("character varying(10)", "text", "instant"),
        ("text", "character varying(10)", None),
        ("integer", "text", None),
        ("date", "timestamp without time zone", "rewrite"),
        ("timestamp without time zone", "timestamp with time zone", None),
        ("boolean", "integer", None),
        ("uuid", "text", None),
    ],
)
def test_a_type_is_widened_where_no_value_can_change(old: str, new: str, how: str | None) -> None:
    assert widening(old, new) == how


def test_a_type_is_not_widened_to_itself() -> None:
    with pytest.raises(ValueError, match="already"):
        widening("text", "text")


@pytest.mark.parametrize(
    ("given", "postgres"),
    [
        (pl.Int8(), "smallint"),
        (pl.UInt32(), "bigint"),
        (pl.UInt64(), "numeric(20,0)"),
        (pl.Float32(), "real"),
        (pl.Decimal(10, 3), "numeric(10,3)"),
        (pl.Categorical(), "text"),
        (pl.Datetime("ns"), "timestamp without time zone"),
        (pl.Datetime("ms", "Europe/Berlin"), "timestamp with time zone"),
        (pl.Time(), "time without time zone"),
    ],
    ids=str,
)
def test_a_sources_type_has_its_place(given: pl.DataType, postgres: str) -> None:
    assert type_map("c", cold_type("c", given)).postgres == postgres


@pytest.mark.parametrize("given", [pl.Struct({"a": pl.Int64}), pl.Object(), pl.Unknown()], ids=str)
def test_a_type_that_a_model_must_declare_is_refused(given: pl.DataType) -> None:
    with pytest.raises(SchemaError, match="column 'c'"):
        cold_type("c", given)


def test_every_type_of_a_contract_is_found_again_by_its_name() -> None:
    for types in TYPES.values():
        assert types_of(types.postgres) is not None
    assert polars_type("numeric(39,0)") is None
    narrow = types_of("character varying(5)")
    assert narrow is not None
    assert (narrow.postgres, narrow.duckdb) == ("character varying(5)", "VARCHAR")
    assert types_of("uuid") is None


@pytest.mark.parametrize("name", ["plain", "a b", "class", "_x", "validate", "1st", "ünï", 'q"'])
@pytest.mark.parametrize("kind", ["bigint", "numeric(9,3)", "timestamp with time zone", "bytea"])
def test_the_proposed_field_can_be_pasted_into_a_model(name: str, kind: str) -> None:
    column = evolved_column(name, kind, 'it\'s/a "file".csv', "2024-07-01")
    scope: dict[str, Any] = {"pa": pa, "pl": pl, "Annotated": Annotated}
    code = f"class Model(pa.DataFrameModel):\n    {field_line(column)}\n"
    exec(compile(code, "model.py", "exec", dont_inherit=True), scope)  # noqa: S102
    (found,) = columns_of(scope["Model"])
    assert (found.name, found.postgres, found.nullable) == (name, kind, True)
    assert found.description == column.description
