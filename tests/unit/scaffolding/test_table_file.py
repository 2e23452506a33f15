"""A table file that is written for a source declares a table, whatever its columns are called."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lakebed.scaffolding.table_file import DescribedTable, SourceColumn, table_file, write_files
from lakebed.spec.table_files import load_tables


def test_names_that_postgres_cannot_hold_are_cut_and_mapped(tmp_path: Path) -> None:
    long = ("c" * 64, "c" * 65)
    described = DescribedTable(
        name="wide",
        title="a file",
        source="CsvFiles(glob='wide.csv')",
        columns=[SourceColumn(name, pl.Int64(), nullable=False) for name in (*long, "n")],
        key=(long[1],),
    )
    write_files([table_file(described)], tmp_path)
    (table,) = load_tables(tmp_path)
    assert table.column_names == ("c" * 61 + "_1", "c" * 61 + "_2", "n")
    assert table.key == ("c" * 61 + "_2",)
    assert table.source_columns == (*long, "n")
