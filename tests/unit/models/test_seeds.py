"""Every line of a seed is a row, or an error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakebed.models.model import ModelError
from lakebed.models.seeds import seed_query


def rows(path: Path, text: str) -> list[tuple[Any, ...]]:
    path.write_bytes(text.encode())
    return duckdb.sql(seed_query(path, {})).fetchall()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,b\n1,x\n#2,y\n3,z\n", [("1", "x"), ("#2", "y"), ("3", "z")]),
        ('\ufeffa,b\r\n1,"x\r\ny"\r\n', [(1, "x\r\ny")]),
        ("a,b\n", []),
        ("a\n1\n\n3", [(1,), (None,), (3,)]),
    ],
)
def test_every_line_is_a_row(tmp_path: Path, text: str, found: list[tuple[Any, ...]]) -> None:
    assert rows(tmp_path / "s.csv", text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,x\n2,y,z\n", r"s.csv:3: .*Expected Number of Columns: 2 Found: 3"),
        ("a,b\n1,x\n2\n", r"s.csv:3: .*Expected Number of Columns: 2 Found: 1"),
        ("a title\na,b\n1,x\n", r"s.csv:2: .*Expected Number of Columns: 1 Found: 2"),
        ("a,b\r\n1,x\r\n2,y\n", "CRLF and LF"),
        ("a,a\n1,2\n", "s.csv:1: two columns are called 'a'"),
        ("a,\n1,2\n", "s.csv:1: a column has no name"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        rows(tmp_path / "s.csv", text)
