"""What an export may say, and what it is refused for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lakebed.spec.export import Csv, Export, ExportError, check_exports
from lakebed.spec.table import TableError
from lakebed.spec.table_files import load_tables, read_table_files


def test_defaults_come_from_the_name_and_the_path() -> None:
    export = Export(name="flights", path="x/flights.CSV.gz")
    assert (export.names, export.kind, export.ordered) == (("flights",), "csv.gz", True)
    assert Export(name="a", of="b", path="no_ending", format="parquet").kind == "parquet"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"name": "A b"}, "name: expected at most 40"),
        ({"path": "x.xlsx"}, "path: 'x.xlsx' ends with none of .csv, .csv.gz, .parquet, .duckdb"),
        ({"path": " "}, "path: it is empty"),
        ({"path": "sftp://me:geheim@host/x.csv"}, "path: the URL contains a password"),
        ({"format": "xml"}, "format: it is 'xml'. Expected one of csv"),
        ({"format": "parquet"}, "format: 'x.csv' does not end like a file of parquet"),
        ({"of": ("a", "b")}, "of: only the format duckdb"),
        (
            {"of": ("a", "b"), "path": "x.duckdb", "where": "true"},
            "of: columns, where and order_by",
        ),
        ({"columns": "a"}, "columns: it is 'a'. Expected a tuple"),
        ({"columns": ("a", "a")}, "columns: it has a column twice"),
        ({"order_by": ("a",), "ordered": False}, "ordered: False writes rows in stored order"),
        ({"path": "x.parquet", "csv": Csv(null="-")}, "csv: the format is parquet"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value),
)
def test_a_contradiction_names_the_export_and_the_field(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError) as error:
        Export(**({"name": "it", "path": "x.csv"} | more))
    assert message in str(error.value)
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize("options", [{"delimiter": '"'}, {"delimiter": "ab"}, {"null": "a,b"}])
def test_options_of_an_unreadable_csv_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ExportError, match=next(iter(options))):
        Csv(**options)  # type: ignore[arg-type]


def test_an_export_of_an_unknown_table_offers_the_closest_name() -> None:
    export = Export(name="it", of="flight", path="x.csv")
    with pytest.raises(ExportError, match="Did you mean 'flights'"):
        check_exports([export], {"flights", "weather"})
    check_exports([export], {"flight"})


def test_a_table_file_may_hold_exports_alone_and_each_name_once(tmp_path: Path) -> None:
    text = "from lakebed.spec.table import Export\nit = Export(name='it', path='it.csv')\n"
    (tmp_path / "one.py").write_text(text)
    assert [export.name for export in read_table_files(tmp_path).exports] == ["it"]
    (tmp_path / "two.py").write_text(text)
    with pytest.raises(ExportError, match=r"export 'it' is declared in .*one.py and in .*two.py"):
        load_tables(tmp_path)
    assert read_table_files(tmp_path).exports == ()
    (tmp_path / "two.py").write_text(text.replace("it.csv", "it.doc"))
    with pytest.raises(TableError, match=r"two.py, line 2: export 'it': path"):
        load_tables(tmp_path)
    assert [export.name for export in read_table_files(tmp_path).exports] == ["it"]
