"""What commands note beside their results."""

from __future__ import annotations

import pytest

from lakebed.cli.output import say_what_needs_quotes
from tests.tables.accounts import accounts
from tests.tables.readings import readings


def test_columns_that_queries_must_quote_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    say_what_needs_quotes(readings)
    said = capsys.readouterr()
    assert (said.out, said.err.startswith("readings: note: "), '"at"' in said.err) == (
        "",
        True,
        True,
    )


def test_a_table_without_such_columns_is_not_noted(capsys: pytest.CaptureFixture[str]) -> None:
    say_what_needs_quotes(accounts)
    assert capsys.readouterr().err == ""
