"""TPC-H lineitem: its contract, its table, and the files that the cases load.

DuckDB's tpch extension makes the rows, in the order of their order key. Dates of shipping lie
anywhere in 1992 to 1998, so each batch has rows of every partition.

    python -m bench.lineitem SCALE FOLDER      writes the files, in a process of its own
"""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pandera.polars as pa
import polars as pl
from duckdb_extensions import import_extension

from lakebed.spec.table import CsvFiles, Grain, ParquetFiles, Partitioning, SourceTable

Money = Annotated[pl.Decimal, 15, 2]

KEY = ("l_shipdate", "l_orderkey", "l_linenumber")
UPSERT_ROWS = 100_000
SMALL_SAMPLE = 200_000
LARGE_SAMPLE = 600_000
UPSERTS = 6
"""How many disjoint sets of rows to upsert."""
PIECES = 4
"""How many files the table is split into, for loads that read files in parallel."""


class Lineitem(pa.DataFrameModel):
    """A line of an order, as in TPC-H."""

    l_orderkey: pl.Int64 = pa.Field(gt=0)
    l_partkey: pl.Int64 = pa.Field(gt=0)
    l_suppkey: pl.Int64 = pa.Field(gt=0)
    l_linenumber: pl.Int32 = pa.Field(in_range={"min_value": 1, "max_value": 7})
    l_quantity: Money = pa.Field(gt=0)
    l_extendedprice: Money = pa.Field(gt=0)
    l_discount: Money = pa.Field(ge=0, le=1)
    l_tax: Money = pa.Field(ge=0)
    l_returnflag: str = pa.Field(isin=["A", "N", "R"])
    l_linestatus: str = pa.Field(isin=["F", "O"])
    l_shipdate: Annotated[pl.Datetime, "us", "UTC"]
    l_commitdate: pl.Date
    l_receiptdate: pl.Date
    l_shipinstruct: str = pa.Field(str_length={"min_value": 1, "max_value": 25})
    l_shipmode: str = pa.Field(isin=["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"])
    l_comment: str = pa.Field(str_length={"max_value": 44})


def lineitem(glob: str, write_mode: str = "append", **more: Any) -> SourceTable:
    """Return the table over some files: Parquet, or CSV where the pattern ends with .csv.

    Args:
        glob: The pattern of the files.
        write_mode: The write mode.
        more: Further fields of SourceTable.

    Raises:
        LookupError: SourceTable does not have such a field.
    """
    unknown = more.keys() - {field.name for field in fields(SourceTable)}
    if unknown:
        raise LookupError(f"SourceTable has no {sorted(unknown)[0]}")
    csv = glob.endswith(".csv")
    table = SourceTable(
        name="lineitem",
        model=Lineitem,
        source=CsvFiles(glob=glob) if csv else ParquetFiles(glob=glob),
        cursor="l_orderkey",
        key=KEY,
        write_mode="merge" if write_mode == "merge" else "append",
        partitioning=Partitioning(
            column="l_shipdate",
            grain=Grain.YEAR,
            start=datetime(1992, 1, 1, tzinfo=UTC),
            end=datetime(1999, 1, 1, tzinfo=UTC),
        ),
    )
    return replace(table, **more) if more else table


# write_files fills in the names in braces; {whole} and the like are paths.
_ROWS = """\
create table rows as
select * replace (l_shipdate::timestamp at time zone 'UTC' as l_shipdate,
                  l_linenumber::integer as l_linenumber)
from lineitem"""
_NEW = """\
create table new as
select * replace (l_orderkey + (select max(l_orderkey) from rows) as l_orderkey) from rows
where l_orderkey <= (select max(l_orderkey) // 100 from rows)"""
# Half of the rows are there already, with another quantity; half are new.
_UPSERT = """\
copy (
    select * exclude (number) replace (
        case when number % 2 = 0 then l_orderkey else l_orderkey + {beyond} end as l_orderkey,
        (l_quantity + 1)::decimal(15, 2) as l_quantity
    )
    from (select *, row_number() over () as number from rows
          where hash(l_orderkey, l_linenumber) % {sets} = {index} limit {count})
) to '{path}' (format parquet)"""


def write_files(scale: float, folder: Path) -> None:
    """Write every file that the cases need into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    import_extension("tpch")
    with duckdb.connect() as connection:
        connection.execute("load tpch")
        connection.execute("set timezone = 'UTC'")
        connection.execute(f"call dbgen(sf = {scale})")
        connection.execute(_ROWS)
        connection.execute("drop table lineitem")
        connection.execute(_NEW)
        rows, last = connection.execute("select count(*), max(l_orderkey) from rows").fetchall()[0]
        for query, name in (
            ("from rows", "whole"),
            ("from new", "new"),
            ("from rows union all from new", "grown"),
        ):
            for form, options in (("parquet", "format parquet"), ("csv", "header true")):
                path = folder / f"{name}.{form}"
                connection.execute(f"copy ({query}) to '{path}' ({options})")
        connection.execute(
            f"copy (from rows limit {rows // 10}) to '{folder / 'tenth.parquet'}' (format parquet)"
        )
        for sample in (SMALL_SAMPLE, LARGE_SAMPLE):
            for form in ("parquet", "csv"):
                path = folder / f"sample_{sample}.{form}"
                connection.execute(f"copy (from rows limit {sample}) to '{path}'")
        (folder / "pieces").mkdir()
        for index in range(PIECES):
            path = folder / "pieces" / f"{index}.parquet"
            span = f"limit {rows // PIECES + 1} offset {index * (rows // PIECES + 1)}"
            connection.execute(f"copy (from rows {span}) to '{path}' (format parquet)")
        for index in range(UPSERTS):
            path = folder / f"upsert_{index}.parquet"
            connection.execute(
                _UPSERT.format(
                    # Above the keys of `new` too, and another range for each set.
                    beyond=(index + 2) * last,
                    sets=UPSERTS,
                    index=index,
                    count=min(UPSERT_ROWS, rows // 10),
                    path=path,
                )
            )


if __name__ == "__main__":
    write_files(float(sys.argv[1]), Path(sys.argv[2]))
