"""Bytes that are no UTF-8 come out of the marking as they went in."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from platform_assets.ingest.sources.broken_utf8 import BrokenUtf8

TEXTS = st.text(st.sampled_from("a,\nü€\U0001f600\U0010ff80\U0010fff0\U0010ffff")).map(str.encode)
BLOCKS = st.lists(st.one_of(TEXTS, st.binary(max_size=6)).filter(bool), max_size=6)


BINARY: dict[str, Any] = {"a": pl.Binary, "b": pl.Binary}


def marked(broken: BrokenUtf8, blocks: list[bytes]) -> list[bytes]:
    return [broken.mark(block) for block in [*blocks, b""]]


@example([b"\xc1", "\U0010ffc1".encode()])
@given(BLOCKS)
def test_marked_bytes_are_utf_8_and_come_back_as_they_were(blocks: list[bytes]) -> None:
    broken = BrokenUtf8()
    found = b"".join(marked(broken, blocks))
    found.decode()
    frame = pl.DataFrame({"a": [found, None], "b": [None, found]}, schema_overrides=BINARY)
    whole = b"".join(blocks)
    assert broken.unmark(frame).rows() == [(whole, None), (None, whole)]


def test_what_is_utf_8_is_not_touched_even_where_a_block_ends_inside_a_character() -> None:
    whole = "für 5 €, \U0001f600".encode()
    for size in range(1, len(whole)):
        blocks = [whole[i : i + size] for i in range(0, len(whole), size)]
        assert b"".join(marked(BrokenUtf8(), blocks)) == whole


def test_a_marked_text_is_shown_with_replacement_characters() -> None:
    broken = BrokenUtf8()
    found = b"".join(marked(broken, [b"f\xfcr \xc3", b"\xbc 5\xff"])).decode()
    assert broken.shown(found) == "f\ufffdr \u00fc 5\ufffd"
