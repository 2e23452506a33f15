"""No text makes the reader of a type of PostgreSQL raise: what is none of it is null."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.pgcopy.literals import LITERAL_TYPES

LETTERS = "0123456789.:/abcdefxyzPTDHMS-+eE {}[](),'\"\\"
ODD = ["10.0.0.1/33", "10.0.0.1/999", "::1/129", "::/999", "", "/", "-", "1e", "1e999999999999",
       "P", "P1", "PT", "99999999999999999999 years", "{", "\\x", "\\x0", "-infinity", "nan",
       "24:00:00", "10.0.0.1/", "1.2.3.4.5/8", "256.0.0.1/8"]  # fmt: skip


@pytest.mark.parametrize("name", LITERAL_TYPES)
def test_odd_texts_are_null_or_read(name: str) -> None:
    read = LITERAL_TYPES[name].read(pl.Series("c", [*ODD, None]))
    assert len(read) == len(ODD) + 1
    assert read[-1] is None


@pytest.mark.parametrize("name", LITERAL_TYPES)
@given(texts=st.lists(st.text(LETTERS, max_size=24), min_size=20, max_size=60))
def test_any_texts_are_null_or_read(name: str, texts: list[str]) -> None:
    assert len(LITERAL_TYPES[name].read(pl.Series("c", texts, dtype=pl.String))) == len(texts)


def test_a_network_whose_mask_is_too_long_is_null_and_its_neighbours_are_read() -> None:
    texts = pl.Series("c", ["10.0.0.0/8", "10.0.0.1/33", "1.2.3.4", "::1/129"])
    assert LITERAL_TYPES["cidr"].read(texts).to_list() == ["10.0.0.0/8", None, "1.2.3.4/32", None]
