"""What an export writes of any type is, loaded again, what was exported: through every format."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg import sql

from lakebed.exports.write import write_export
from lakebed.ingest.load import load_table
from lakebed.ingest.retry import retry_rejects
from lakebed.spec.export import Export
from lakebed.spec.table import (
    CsvFiles,
    DuckdbTable,
    JsonFiles,
    Mapped,
    ParquetFiles,
    SourceTable,
    SqliteTable,
)
from lakebed.store.platform import Platform
from tests.integration.ingest.test_types import VALUES, Tiered, frame_of, nullable

FROM = SourceTable(name="origin", model=Tiered, source=ParquetFiles(glob="origin.parquet"))
BACK = {
    "csv": CsvFiles(glob="origin.csv", quoted_nulls=False),
    "csv.gz": CsvFiles(glob="origin.csv.gz", quoted_nulls=False),
    "parquet": ParquetFiles(glob="exported.parquet"),
    "duckdb": DuckdbTable(database="origin.duckdb", table="origin"),
}
FLOATS = ("f32", "f64", "a_f32", "a_f64")
FILES = {"parquet": "exported.parquet"}
ANY_ROW = {name: nullable(name, values) for name, values in VALUES.items() if name != "any"}
# DuckDB writes the offset -00:00:11 as -00:11.
ANY_ROW["tz"] = nullable("tz", VALUES["tz"].filter(lambda text: not re.search(r":00:\d\d$", text)))


@hypothesis_settings(max_examples=3, phases=[Phase.generate])
@given(made=st.lists(st.fixed_dictionaries(ANY_ROW), min_size=8, max_size=16))
def test_any_row_comes_back_from_any_format(
    platform_of: Callable[..., Platform], made: list[dict[str, Any]]
) -> None:
    tables = [
        replace(FROM, name=f"from_{form.replace('.', '_')}", source=source)
        for form, source in BACK.items()
    ]
    platform = platform_of(FROM, *tables)
    data = platform.settings.data
    frame_of(FROM, [{"id": i, **row} for i, row in enumerate(made)]).write_parquet(
        data / "origin.parquet"
    )
    names = [FROM.name, *(table.name for table in tables)]
    with platform.postgres.connect(autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(name)))
        connection.execute("truncate lakebed.loaded_file, lakebed.load cascade")
    report = load_table(platform.settings, platform.postgres, platform.clock, FROM)
    assert (report.inserted, report.refused) == (len(made), ())
    for form, table in zip(BACK, tables, strict=True):
        path = data / FILES.get(form, f"origin.{form}")
        write_export(platform, Export(name=FROM.name, path=str(path)))
        report = load_table(platform.settings, platform.postgres, platform.clock, table)
        assert (form, report.rejected, report.refused) == (form, 0, ())
        assert (form, differing(platform, table)) == (form, [])


def differing(platform: Platform, table: SourceTable) -> list[Any]:
    """Return ids and columns in which a row is not, byte for byte, the one exported.

    A DuckDB file keeps no sign of a zero.
    """
    exact = "case when row(t.{0})::record *<> row(e.{0})::record then {1} end"
    equal = "case when t.{0} is distinct from e.{0} then {1} end"
    pairs = sql.SQL(", ").join(
        sql.SQL(equal if "duckdb" in table.name and c.name in FLOATS else exact).format(
            sql.Identifier(c.name), sql.Literal(c.name)
        )
        for c in table.columns
    )
    query = sql.SQL(
        "select id, found from (select id, array_remove(array[{}], null) as found"
        " from {} t full join origin e using (id)) d where found <> '{{}}'"
    ).format(pairs, sql.Identifier(table.name))
    with platform.postgres.connect() as connection:
        return connection.execute(query).fetchall()


class Asked(pa.DataFrameModel):
    """A table of whose rows PostgreSQL is asked by a query, for its bare numeric."""

    id: pl.Int64
    exact: str = pa.Field(metadata={"postgres": "numeric"})
    parts: Annotated[pl.List, pl.Binary] = pa.Field(nullable=True)


def test_lists_of_bytes_come_back_beside_a_bare_numeric(
    platform_of: Callable[..., Platform],
) -> None:
    tables = [
        SourceTable(name=name, model=Asked, source=CsvFiles(f"{name}.csv"), lake_copies=0)
        for name in ("asked", "asked_again")
    ]
    platform = platform_of(*tables)
    data = platform.settings.data
    lists = [[b"\x00\xff", b"", None, b'a"\\'], [], None]
    written = [
        None if each is None else json.dumps([b if b is None else f"\\x{b.hex()}" for b in each])
        for each in lists
    ]
    pl.DataFrame({"id": range(3), "exact": "1.50", "parts": written}).write_csv(data / "asked.csv")
    for table in tables:
        report = load_table(platform.settings, platform.postgres, platform.clock, table)
        assert (report.inserted, report.rejected, report.refused) == (3, 0, ())
        if table.name == "asked":
            write_export(platform, Export(name="asked", path=str(data / "asked_again.csv")))
    with platform.postgres.connect() as connection:
        found = connection.execute("select parts from asked_again order by id").fetchall()
    assert found == [(each,) for each in lists]


class Blob(pa.DataFrameModel):
    id: pl.Int64
    body: pl.Binary
    low: pl.Int64 = pa.Field(lt=10)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "sqlite", "parquet"])
def test_bytes_in_text_are_hexadecimal_also_behind_the_quarantine(
    platform_of: Callable[..., Platform], kind: str
) -> None:
    source, written, expected = {
        "csv": (CsvFiles(glob="b.csv"), 'id,body,low\n1,"\\x00ff48",1\n2,\\x0aFF,70\n', b"\n\xff"),
        "jsonl": (
            JsonFiles(glob="b.jsonl"),
            "".join(
                json.dumps({"id": i, "body": body, "low": low}) + "\n"
                for i, body, low in ((1, "\\x00ff48", 1), (2, "\\x0aFF", 70))
            ),
            b"\n\xff",
        ),
        # Bytes that are no text are what they are.
        "parquet": (ParquetFiles(glob="b.parquet"), None, b"\\x0aFF"),
        "sqlite": (SqliteTable(database="b.sqlite", table="b"), None, b"\\x0aFF"),
    }[kind]
    table = SourceTable(
        name="blobs", model=Blob, source=source, reject_share=0.9, changed_files="refuse"
    )
    platform = platform_of(table)
    rows = [(1, b"\x00\xffH", 1), (2, b"\\x0aFF", 70)]
    data = platform.settings.data
    if written is not None:
        (data / f"b.{kind}").write_text(written)
    elif kind == "parquet":
        pl.DataFrame(rows, schema=["id", "body", "low"], orient="row").write_parquet(
            data / "b.parquet"
        )
    else:
        with closing(sqlite3.connect(data / "b.sqlite")) as connection:
            connection.execute("create table b (id integer, body blob, low integer)")
            connection.executemany("insert into b values (?, ?, ?)", rows)
            connection.commit()
    report = load_table(platform.settings, platform.postgres, platform.clock, table)
    assert (report.inserted, report.rejected, report.refused) == (1, 1, ())
    mended = replace(table, transforms={"low": Mapped(values={"70": "7", 70: 7})})
    retry_rejects(platform.settings, platform.postgres, platform.clock, mended)
    with platform.postgres.connect() as connection:
        found = connection.execute("select body from blobs order by id").fetchall()
    assert found == [(b"\x00\xffH",), (expected,)]
