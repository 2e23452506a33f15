"""Files of the lake are written so that DuckDB finds each value in them again."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from psycopg import sql

from lakebed.resources.tiers import blooms


@pytest.mark.parametrize(
    ("kind", "written", "asked", "more"),
    [
        ("DOUBLE", "-0.0::double", "0", "-3, 1.5"),
        ("FLOAT", "-0.0::float", "0", "-3, 1.5"),
        ("BLOB", "'\\xff\\x00'::blob", "'\\xff\\x00'::blob", "'', '\\xff\\xff'::blob"),
        ("VARCHAR", "'x'", "'x'", "'a', 'z'"),
        ("BIGINT", "7", "7", "-3, 8"),
        ("DECIMAL(9,2)", "1.5", "1.5", "-3, 8"),
    ],
)
def test_a_value_is_found_by_its_equal(
    tmp_path: Path, kind: str, written: str, asked: str, more: str
) -> None:
    file = tmp_path / "values.parquet"
    with duckdb.connect() as connection:
        copy = sql.SQL(
            "copy (select unnest([{}, {}])::{} as v from range(1000)) to {} (format parquet{})"
        )
        statement = copy.format(
            sql.SQL(written),
            sql.SQL(more),
            sql.SQL(kind),
            sql.Literal(str(file)),
            blooms([kind]),
        )
        connection.execute(statement.as_string())
        query = sql.SQL("select count(*) from read_parquet({}) where v = {}")
        found = connection.execute(
            query.format(sql.Literal(str(file)), sql.SQL(asked)).as_string()
        ).fetchall()
    assert found == [(1000,)]
