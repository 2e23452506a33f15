"""A query that is not UTF-8 is refused in words."""

from __future__ import annotations

import io
import sys

import pytest

from lakebed.cli.errors import QueryError
from lakebed.cli.query_text import query_text


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_standard_input_must_be_utf8(monkeypatch: pytest.MonkeyPatch, errors: str) -> None:
    def give(data: bytes) -> None:
        stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors=errors)
        monkeypatch.setattr(sys, "stdin", stream)

    give("select 'café'\n, 1;\n".encode())
    assert query_text("-") == "select 'café'\n, 1;\n"
    give("select 'café';\n".encode("latin1"))
    with pytest.raises(QueryError, match="standard input has the byte 0xe9"):
        query_text("-")


def test_the_query_must_be_utf8() -> None:
    assert query_text("select 'é'") == "select 'é'"
    with pytest.raises(QueryError, match="the query has the byte 0xe9"):
        query_text("select '\udce9'")
