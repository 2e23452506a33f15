"""CSV is read as it is written, in any dialect; what is no row is told apart alone."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.ingest.sources.reader import SourceError
from lakebed.spec.sources import CsvFiles
from tests.unit.ingest.sources.conftest import Read

Reading = Callable[..., Read]
SOURCE = CsvFiles(glob="f.csv")
DELIMITED = "lakebed.ingest.sources.delimited"


@pytest.fixture
def read_text(read: Reading, tmp_path: Path) -> Callable[..., Read]:
    def run(text: str | bytes, **options: Any) -> Read:
        data = text.encode() if isinstance(text, str) else text
        (tmp_path / "f.csv").write_bytes(data)
        return read(CsvFiles(glob="f.csv", **options))

    return run


VALUES = st.text(st.sampled_from('ab,"\n\r é#\\'), max_size=6)


@given(
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=12),
    block=st.integers(1, 40),
    ending=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    escaped=st.booleans(),
)
def test_whatever_is_written_is_read(
    read_text: Callable[..., Read],
    monkeypatch: pytest.MonkeyPatch,
    rows: list[tuple[str, str, str]],
    block: int,
    ending: str,
    last: bool,
    escaped: bool,
) -> None:
    monkeypatch.setattr(f"{DELIMITED}.CSV_BLOCK_BYTES", block)
    stream = io.StringIO()
    how = {"doublequote": False, "escapechar": "\\"} if escaped else {}
    writer = csv.writer(stream, lineterminator=ending, quoting=csv.QUOTE_ALL, **how)  # type: ignore[arg-type]
    writer.writerows([("x", "y", "z"), *rows])
    text = stream.getvalue() if last else stream.getvalue().removesuffix(ending)
    options = {"escape": "\\", "doubled_quotes": False} if escaped else {}
    found = read_text(text, null_strings=(), **options)
    assert found.malformed == {}
    assert [tuple(v.decode() for v in row) for row in found.rows] == rows
    assert found.numbers == list(range(1, len(rows) + 1))


LINES = st.sampled_from(
    ["1,a,2", '3,"b c",4', '5,"d\ne",6', "7,8", '9,"open,9', '10,"x"y,11', 'a,5" b,c']
)


@given(lines=st.lists(LINES, min_size=1, max_size=30), blocks=st.tuples(*[st.integers(1, 60)] * 2))
def test_the_rows_do_not_depend_on_where_blocks_end(
    read_text: Callable[..., Read],
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    blocks: tuple[int, int],
) -> None:
    text = "\n".join(["x,y,z", *lines])
    found = []
    for block in (*blocks, 1 << 20):
        monkeypatch.setattr(f"{DELIMITED}.CSV_BLOCK_BYTES", block)
        one = read_text(text, null_strings=())
        assert sorted([*one.numbers, *one.malformed]) == list(
            range(1, len(one.numbers) + len(one.malformed) + 1)
        )
        found.append(one)
    assert found[0] == found[1] == found[2]


def test_a_stray_quote_spoils_its_own_line_and_swallows_none(
    read_text: Callable[..., Read],
) -> None:
    found = read_text('a,b,c\n1,"open,4\n2,"x",5\n3,y,6\n4,5" pipe,7\n5,"in"side,8\n6,"z\nz",9\n')
    assert found.rows == [
        (b"2", b"x", b"5"),
        (b"3", b"y", b"6"),
        (b"4", b'5" pipe', b"7"),
        (b"6", b"z\nz", b"9"),
    ]
    assert found.numbers == [2, 3, 4, 6]
    assert {n: text for n, (_, text) in found.malformed.items()} == {
        1: '1,"open,4',
        5: '5,"in"side,8',
    }
    assert found.malformed[1][0].rule == "stray_quote"


def test_a_quote_that_is_never_closed_spoils_its_own_line_only(
    read_text: Callable[..., Read], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{DELIMITED}.CSV_BLOCK_BYTES", 500)
    lines = [f"{i},v{i}" for i in range(1000)]
    lines[3] = '3,"open'
    found = read_text("\n".join(["a,b", *lines]))
    assert list(found.malformed) == [4]
    assert found.malformed[4][0].rule == "unclosed_quote"
    assert found.numbers == [n for n in range(1, 1001) if n != 4]


TOO_LONG = {
    "a line": ("x" * 4000 + "\n", {}, "row 103 is longer than"),
    "a line that goes on where its columns are all there": ("x,,," * 900, {}, "row 103 is longer"),
    "a quoted value": ('"' + "x" * 4000 + '"\n', {}, "row 103 is longer than"),
    "a quoted value whose lines look like rows": (
        '"' + "1,row\n" * 600 + '"\n', {}, "row 103 opens a quote"
    ),
    "a quote that is not closed": ('"x\n' + "1,row\n" * 600, {}, "multiline=False"),
    "a line where no value holds breaks": (
        '"' + "x" * 4000 + '"\n', {"multiline": False}, "row 103 is longer than"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("value", "options", "problem"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_record_that_is_longer_than_memory_may_grow_refuses_the_file(
    read_text: Callable[..., Read],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    options: dict[str, Any],
    problem: str,
) -> None:
    monkeypatch.setattr("lakebed.ingest.sources.records.LONGEST_RECORD_BYTES", 2000)
    monkeypatch.setattr(f"{DELIMITED}.CSV_BLOCK_BYTES", 300)
    text = "a,b\n" + "1,row\n" * 100 + "2\n3,x\n" + "4," + value + "5,last\n"
    with pytest.raises(SourceError, match=rf"f\.csv: .*{problem}"):
        read_text(text, **options)


def test_where_no_value_holds_line_breaks_two_stray_quotes_swallow_nothing(
    read_text: Callable[..., Read],
) -> None:
    text = 'a,b,c\n1,",2\n3,",4\n5,x,6\n'
    assert read_text(text).rows == [(b"1", b",2\n3,", b"4"), (b"5", b"x", b"6")]
    found = read_text(text, multiline=False)
    assert found.rows == [(b"5", b"x", b"6")]
    assert list(found.malformed) == [1, 2]


def test_ragged_lines_and_lines_that_are_no_utf_8_are_told_apart_one_by_one(
    read_text: Callable[..., Read], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{DELIMITED}.CSV_BLOCK_BYTES", 300)
    lines = [b"%d,v" % i for i in range(200)]
    lines[50], lines[51], lines[150] = b"51,\xff,x", b"52", b"\xfe,\xff"
    found = read_text(b"\n".join([b"a,b", *lines]))
    assert {n: (why.message, text) for n, (why, text) in found.malformed.items()} == {
        51: ("3 values for 2 columns", "51,\N{REPLACEMENT CHARACTER},x"),
        52: ("1 values for 2 columns", "52"),
    }
    assert found.rows[148] == (b"\xfe", b"\xff")
    assert found.numbers[148] == 151


def test_blank_and_comment_lines_are_no_rows_but_blanks_of_one_column_are(
    read_text: Callable[..., Read],
) -> None:
    found = read_text("made by x\n# c\na,b\n\n1,2\n# no\n\n3,#4\n", skip_rows=1, comment="#")
    assert (found.columns, found.rows, found.numbers) == (
        ["a", "b"],
        [(b"1", b"2"), (b"3", b"#4")],
        [1, 2],
    )
    assert read_text("a\n1\n\n2\n").rows == [(b"1",), (None,), (b"2",)]


def test_a_file_without_a_header_takes_the_names_of_the_table_file(
    read_text: Callable[..., Read],
) -> None:
    found = read_text("1|2\n3|4\n", columns=("a", "b"), delimiter="|")
    assert (found.columns, found.rows, found.numbers) == (
        ["a", "b"],
        [(b"1", b"2"), (b"3", b"4")],
        [1, 2],
    )


def test_nulls_are_what_the_table_file_says(read_text: Callable[..., Read]) -> None:
    text = 'a,b\n,""\n\\N,x\\,y\n"\\\\N",NA\n'
    assert read_text('a,b\n,""\nNA,"NA"\n', null_strings=("", "NA"), quoted_nulls=False).rows == [
        (None, b""),
        (None, b"NA"),
    ]
    found = read_text(text, escape="\\", null_strings=("\\N", "NA"))
    assert found.rows == [(b"", b""), (None, b"x,y"), (b"\\N", None)]


@pytest.mark.parametrize("block", [16, 1 << 20])
def test_an_escaped_null_is_a_whole_value_and_no_part_of_one(
    read_text: Callable[..., Read], monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(f"{DELIMITED}.CSV_BLOCK_BYTES", block)
    text = 'a,b\n1,"x,\\N,y"\n\\N,\\N\n3,"l\n\\N\nm"\n4,m\\,\\N\n"\\",\\N",\\N\n'
    text += '6,5" in\n7,\\N\n\\N,"z"\n'
    found = read_text(text, escape="\\", null_strings=("\\N",))
    assert found.malformed == {}
    assert found.rows == [
        (b"1", b"x,N,y"),
        (None, None),
        (b"3", b"l\nN\nm"),
        (b"4", b"m,N"),
        (b'",N', None),
        (b"6", b'5" in'),
        (b"7", None),
        (None, b"z"),
    ]


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("end", "rows", "malformed"),
    [
        ("9,q\\", [], {2: "9,q\\"}),
        ("9,q\\\\", [(b"9", b"q\\")], {}),
        ('9,"q\\', [], {2: '9,"q\\'}),
        ("9,q\\\ny\n", [(b"9", b"q\ny")], {}),
    ],
)  # fmt: skip
def test_an_escape_character_at_the_end_escapes_no_line_break_that_is_not_there(
    read_text: Callable[..., Read],
    monkeypatch: pytest.MonkeyPatch,
    end: str,
    rows: list[tuple[bytes, bytes]],
    malformed: dict[int, str],
    block: int,
) -> None:
    monkeypatch.setattr(f"{DELIMITED}.CSV_BLOCK_BYTES", block)
    found = read_text("a,b\n1,x\n" + end, escape="\\")
    assert found.rows == [(b"1", b"x"), *rows]
    assert {n: text for n, (_, text) in found.malformed.items()} == malformed


def test_without_a_quote_character_quotes_mean_nothing(read_text: Callable[..., Read]) -> None:
    found = read_text('a\tb\n"x\ty"\n"\t"\n', delimiter="\t", quote=None)
    assert found.rows == [(b'"x', b'y"'), (b'"', b'"')]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_encodings_and_line_endings(
    read_text: Callable[..., Read], monkeypatch: pytest.MonkeyPatch, encoding: str, ending: str
) -> None:
    monkeypatch.setattr(f"{DELIMITED}.CSV_BLOCK_BYTES", 7)
    text = ending.join(["größe,b", "é,1", '"ü,ä",2', ""])
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    found = read_text(text.encode(encoding), encoding=name)
    assert found.columns == ["größe", "b"]
    assert found.rows == [("é".encode(), b"1"), ("ü,ä".encode(), b"2")]


def test_what_an_encoding_does_not_have_is_no_utf_8(read_text: Callable[..., Read]) -> None:
    found = read_text(b"a,b\n1,\x81\n2,x\n", encoding="cp1252")
    assert found.rows == [(b"1", b"\xff"), (b"2", b"x")]


def test_the_wrong_encoding_is_told_with_the_way_out(read_text: Callable[..., Read]) -> None:
    with pytest.raises(SourceError, match=r"header cannot be read as utf-8.*name the encoding"):
        read_text("a,b\n1,2\n".encode("utf-16"))


def test_compressed_files_and_the_members_of_an_archive(
    read: Reading, reader: Callable[..., Any], tmp_path: Path
) -> None:
    text = b"a,b\n1,x\n"
    (tmp_path / "1.csv.gz").write_bytes(gzip.compress(text) + gzip.compress(b"2,y\n"))
    assert read(CsvFiles(glob="1.csv.gz")).rows == [(b"1", b"x"), (b"2", b"y")]
    with pa.CompressedOutputStream(str(tmp_path / "1.csv.zst"), "zstd") as stream:
        stream.write(text)
    assert read(CsvFiles(glob="1.csv.zst")).rows == [(b"1", b"x")]
    with zipfile.ZipFile(tmp_path / "many.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b.csv", text)
        archive.writestr("in/a.csv", b"a,b\n2,y\n")
        archive.writestr("__MACOSX/._b.csv", b"junk")
    reading = reader(CsvFiles(glob="*.zip"))
    items = reading.find()
    assert [item.name for item in items] == ["many.zip/b.csv", "many.zip/in/a.csv"]
    rows = [
        row
        for item in items
        for batch in reading.batches(item, columns=["a", "b"])
        for row in batch.frame.rows()
    ]
    assert rows == [(b"1", b"x"), (b"2", b"y")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.csv.gz", "1.csv.zst", "many.zip"]
    with zipfile.ZipFile(tmp_path / "many.zip", "a") as archive:
        archive.writestr("c.csv", text)
    again = {item.name: item.version for item in reading.find()}
    assert {item.name: item.version for item in items}.items() < again.items()
    assert set(again) == {"many.zip/b.csv", "many.zip/c.csv", "many.zip/in/a.csv"}


def test_members_of_one_name_are_refused_by_their_name_alone(
    reader: Callable[..., Any], tmp_path: Path
) -> None:
    with (
        zipfile.ZipFile(tmp_path / "x.zip", "w") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        for name, text in (("a.csv", b"a\n1\n"), ("b.csv", b"a\n2\n"), ("a.csv", b"a\n3\n")):
            archive.writestr(name, text)
    reading = reader(CsvFiles(glob="x.zip"))
    doubled, other = reading.find()
    assert reading.columns(other) == ["a"]
    with pytest.raises(SourceError, match=r"x\.zip/a\.csv: several members .* have this name"):
        reading.columns(doubled)


def test_an_archive_that_is_none_is_named(read: Reading, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no archive")
    with pytest.raises(SourceError, match=r"x\.zip.*cannot be read"):
        read(CsvFiles(glob="x.zip"))


def test_the_hash_of_what_was_read_is_that_of_the_file(
    reader: Callable[..., Any], tmp_path: Path
) -> None:
    import hashlib

    data = gzip.compress(b"a\n" + b"1\n" * 1000)
    (tmp_path / "f.csv.gz").write_bytes(data)
    reading = reader(CsvFiles(glob="f.csv.gz"))
    (item,) = reading.find()
    for _ in reading.batches(item, columns=["a"]):
        pass
    (tmp_path / "f.csv.gz").unlink()
    assert reading.digest(item, item.bytes) == hashlib.sha256(data).hexdigest()
