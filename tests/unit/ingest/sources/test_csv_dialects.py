r"""Dialects of CSV that other programs write: line breaks, spaces, short lines, COPY's text."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.ingest.sources.delimited import CsvReader
from lakebed.ingest.sources.reader import SourceError
from lakebed.spec.sources import CopyFiles, CsvFiles, JsonFiles
from tests.unit.ingest.sources.conftest import Read

DELIMITED = "lakebed.ingest.sources.delimited"
BLOCKS = pytest.mark.parametrize("block", [1, 3, 8, 1 << 20])


@pytest.fixture
def read_text(
    read: Callable[..., Read], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Read]:
    def run(text: str | bytes, block: int = 1 << 20, of: type = CsvFiles, **options: Any) -> Read:
        monkeypatch.setattr(f"{DELIMITED}.CSV_BLOCK_BYTES", block)
        data = text.encode() if isinstance(text, str) else text
        (tmp_path / "f.csv").write_bytes(data)
        return read(of("f.csv", **options))

    return run


@BLOCKS
@pytest.mark.parametrize(
    ("end", "other"),
    [("\n", "\r"), ("\r\n", "\n"), ("\r\n", "\r"), ("\r", "\n"), ("\r", "\r\n")],
)
def test_a_break_of_another_kind_ends_no_line(
    read_text: Callable[..., Read], block: int, end: str, other: str
) -> None:
    lines = [
        "id,v",
        f"1,ab{other}cd",
        f"2,note: {other}3,paid",
        '4,"x"',
        f'5,"y{other}z"',
        "6,w",
        "",
    ]
    found = read_text(end.join(lines), block)
    assert found.rows == [(b"4", b"x"), (b"5", f"y{other}z".encode()), (b"6", b"w")]
    assert found.numbers == [3, 4, 5]
    assert {n: (what.rule, text) for n, (what, text) in found.malformed.items()} == {
        1: ("other_break", f"1,ab{other}cd"),
        2: ("other_break", f"2,note: {other}3,paid"),
    }


@BLOCKS
def test_where_any_break_ends_a_line_they_may_be_mixed(
    read_text: Callable[..., Read], block: int
) -> None:
    found = read_text("a,b\n1,x\r\n2,y\r3,z\n", block, line_breaks="any")
    assert found.rows == [(b"1", b"x"), (b"2", b"y"), (b"3", b"z")]


def test_a_carriage_return_in_the_first_row_is_no_end_of_it_where_others_end_otherwise(
    read_text: Callable[..., Read],
) -> None:
    found = read_text("1,ab\rcd\n2,ef\n", columns=("id", "v"))
    assert found.rows == [(b"2", b"ef")]
    assert found.malformed.keys() == {1}


def test_in_a_line_that_ends_with_a_line_feed_a_carriage_return_before_it_is_part_of_no_value(
    read_text: Callable[..., Read],
) -> None:
    found = read_text("id,v\n1,ab\r\n2,cd\n")
    assert found.rows == [(b"2", b"cd")]
    assert found.malformed[1][0].rule == "other_break"


def test_a_file_that_windows_broke_twice_is_read(read_text: Callable[..., Read]) -> None:
    assert read_text(b"a,b\r\r\n1,x\r\r\n2,y\r\r\n").rows == [(b"1", b"x"), (b"2", b"y")]


@BLOCKS
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_name_in_quotes_may_hold_line_breaks(
    read_text: Callable[..., Read], monkeypatch: pytest.MonkeyPatch, block: int, end: str
) -> None:
    monkeypatch.setattr("lakebed.ingest.sources.header.HEAD_BYTES", block)
    text = end.join(["made by hand", "# note", 'id,"Amount\n(""EUR"")"', "1,9.99", ""])
    found = read_text(text, block, skip_rows=1, comment="#")
    assert found.columns == ["id", 'Amount\n("EUR")']
    assert found.rows == [(b"1", b"9.99")]


@BLOCKS
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_spaces_before_values_are_left_out_where_the_table_file_says_so(
    read_text: Callable[..., Read], block: int, end: str
) -> None:
    lines = ["id,  v, w", '1, "a, b",  c ', '  2,"x,  y", "q""  , z"', "3, ,  ", '4, "no" x, y', ""]
    found = read_text(end.join(lines), block, skip_initial_space=True)
    assert found.columns == ["id", "v", "w"]
    assert found.rows == [
        (b"1", b"a, b", b"c "),
        (b"2", b"x,  y", b'q"  , z'),
        (b"3", None, None),
    ]
    assert found.malformed.keys() == {4}
    assert read_text("id,v\n1, x\n").rows == [(b"1", b" x")]


@BLOCKS
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "6"])
def test_short_lines_get_nulls_where_the_table_file_says_so(
    read_text: Callable[..., Read], block: int, end: str, last: str
) -> None:
    lines = ["a,b,c", "1", "2,x", '3,"y,', 'y"', "", "4,,", "5,x,y", "6,1,2,3", last]
    if last:
        lines.append("")
    found = read_text(end.join(lines), block, short_lines="null", null_strings=("-",))
    assert found.rows == [
        (b"1", None, None),
        (b"2", b"x", None),
        (b"3", f"y,{end}y".encode(), None),
        (b"4", b"", b""),
        (b"5", b"x", b"y"),
        *([(b"6", None, None)] if last else []),
    ]
    assert {n: what.rule for n, (what, _) in found.malformed.items()} == {6: "value_count"}


COPIED = [
    (b"plain", b"plain"),
    (rb"\N", None),
    (rb"\\N", rb"\N"),
    (rb"a\tb\nc\\d\r\b\f\v", b"a\tb\nc\\d\r\b\f\x0b"),
    (rb"\x41\101\7\x4g", b"AA\x07\x04g"),
    (rb"\\\\x00ff", rb"\\x00ff"),
    (rb"\"\q", b'"q'),
    (b'"quoted', b'"quoted'),
    (b"", b""),
    (b"raw\\\nbreak\\\tand tab", b"raw\nbreak\tand tab"),
    (rb"\\\n", b"\\\n"),
    (b"\xc3\xa4", "ä".encode()),
    (b"no end\\\n\\.", b"no end\n."),
    (rb"an end\\", b"an end\\"),
]


@BLOCKS
def test_the_text_of_copy_is_read_as_postgres_reads_it(
    read_text: Callable[..., Read], block: int
) -> None:
    lines = [b"%d\t%s" % (number, text) for number, (text, _) in enumerate(COPIED)]
    data = b"\n".join([*lines, b"\\.", b"", b"select 1;\tno\trow"])
    found = read_text(data, block, of=CopyFiles, columns=("id", "v"))
    assert found.malformed == {}
    assert found.rows == [(b"%d" % n, value) for n, (_, value) in enumerate(COPIED)]


TEXTS = st.none() | st.text(st.sampled_from("ab\\N\t\n\r.x1"), max_size=6)


def copied(value: str | None) -> str:
    """Write a value as COPY does."""
    if value is None:
        return "\\N"
    for raw, name in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(raw, name)
    return value


@given(rows=st.lists(st.tuples(TEXTS, TEXTS), max_size=8), block=st.integers(1, 30))
def test_whatever_copy_writes_is_read(
    read_text: Callable[..., Read], rows: list[tuple[str | None, str | None]], block: int
) -> None:
    text = "".join("\t".join(map(copied, row)) + "\n" for row in [("x", "y"), *rows])
    found = read_text(text, block, of=CopyFiles)
    assert found.rows == [tuple(v if v is None else v.encode() for v in row) for row in rows]


@BLOCKS
def test_a_line_that_only_begins_like_the_end_of_copy_is_a_row(
    read_text: Callable[..., Read], block: int
) -> None:
    found = read_text("\\.5\tx\n1\ty\n\\.6\tz\n", block, of=CopyFiles, columns=("id", "v"))
    assert found.rows == [(b".5", b"x"), (b"1", b"y"), (b".6", b"z")]


def test_the_text_of_copy_is_read_as_types_too(tmp_path: Path) -> None:
    (tmp_path / "f.tsv").write_text("1\t2024-01-31\n\\N\t\\N\n")
    reader = CsvReader(CopyFiles("f.tsv", columns=("n", "d")), tmp_path)
    reader.expect({"n": pa.int64(), "d": pa.date32()})
    (batch,) = reader.batches(reader.find()[0], columns=["n", "d"])
    assert batch.plain is not None
    assert batch.frame["n"].to_list() == [1, None]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (CsvFiles("f.csv", delimiter=" ", skip_initial_space=True), "skip_initial_space"),
        (CsvFiles("f.csv", short_lines="pad"), "short_lines"),  # type: ignore[arg-type]
        (CsvFiles("f.csv", line_breaks="\n"), "line_breaks"),  # type: ignore[arg-type]
        (CopyFiles("f.csv", quote='"'), "COPY"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(source: CsvFiles, problem: str) -> None:
    assert problem in (source.problem() or "")


@pytest.mark.parametrize(
    ("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_packed_files_are_read_and_named_where_their_name_does_not_say_so(
    read: Callable[..., Read],
    tmp_path: Path,
    ending: str,
    pack: Callable[[bytes], bytes],
) -> None:
    # Appended to, as files that grow are.
    (tmp_path / f"f.csv{ending}").write_bytes(pack(b"a,b\n1,x\n") + pack(b"2,y\n"))
    (tmp_path / f"g.jsonl{ending}").write_bytes(pack(b'{"a": 1}\n'))
    assert read(CsvFiles(f"f.csv{ending}")).rows == [(b"1", b"x"), (b"2", b"y")]
    assert read(JsonFiles(f"g.jsonl{ending}")).rows == [("1",)]
    assert read(CsvFiles("f.csv*")).rows[0] == (b"1", b"x")
    (tmp_path / "h.csv").write_bytes(pack(b"a,b\n1,x\n"))
    with pytest.raises(SourceError, match=f"{ending}\\."):
        read(CsvFiles("h.csv"))
    (tmp_path / f"f.csv{ending}").write_bytes(pack(b"a,b\n1,x\n" * 1000)[:-9])
    with pytest.raises(SourceError, match=f"f.csv{ending}"):
        read(CsvFiles(f"f.csv{ending}"))


@pytest.mark.parametrize("encoding", ["ascii", "us-ascii", "646"])
def test_what_is_no_ascii_is_no_text_of_it(read_text: Callable[..., Read], encoding: str) -> None:
    found = read_text("a,b\n1,é\n2,x\n", encoding=encoding)
    assert found.rows == [(b"1", b"\xff\xff"), (b"2", b"x")]
