"""Files of lines that have grown: what is loaded of them is hashed, and not parsed again."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from lakebed.ingest.sources.reader import Beginning, Reader, SourceError
from lakebed.spec.sources import Source
from lakebed.spec.table import CsvFiles, JsonFiles

ReaderOf = Callable[[Source], Reader]


def rows_after(reader: Reader, begin: bytes, rows: int) -> list[tuple[int, object]]:
    """Return number and first column of what is read behind a beginning, as a load would."""
    (item,) = reader.find()
    assert reader.digest(item, len(begin)) == hashlib.sha256(begin).hexdigest()
    found: list[tuple[int, object]] = []
    beginning = Beginning(len(begin), rows)
    for batch in reader.batches_after(item, beginning, columns=["a"]):
        found += zip(batch.numbers, batch.frame["a"], strict=True)
    data = Path(item.path).read_bytes()
    assert reader.digest(item, len(data)) == hashlib.sha256(data).hexdigest()
    return found


def test_a_csv_is_read_on_behind_its_beginning(reader: ReaderOf, tmp_path: Path) -> None:
    begin = b"a,b\n1,x\n2,\n"
    (tmp_path / "f.csv").write_bytes(begin + b'3,"y\nz"\n4,w\n')
    assert rows_after(reader(CsvFiles(glob="f.csv")), begin, 2) == [(3, b"3"), (4, b"4")]


def test_a_beginning_may_be_the_header_alone(reader: ReaderOf, tmp_path: Path) -> None:
    begin = b"\xef\xbb\xbfa,b\n"
    (tmp_path / "f.csv").write_bytes(begin + b"1,x\n")
    assert rows_after(reader(CsvFiles(glob="f.csv")), begin, 0) == [(1, b"1")]


def test_a_file_without_more_has_no_more_rows(reader: ReaderOf, tmp_path: Path) -> None:
    begin = b"a,b\n1,x\n"
    (tmp_path / "f.csv").write_bytes(begin)
    assert rows_after(reader(CsvFiles(glob="f.csv")), begin, 1) == []


def test_json_lines_are_read_on_behind_their_beginning(reader: ReaderOf, tmp_path: Path) -> None:
    begin = b'{"a": 1}\n\n{"a": 2}\n'
    (tmp_path / "f.jsonl").write_bytes(begin + b'{"a": 3}\n')
    found = rows_after(reader(JsonFiles(glob="f.jsonl")), begin, 2)
    assert [number for number, _ in found] == [3]


@pytest.mark.parametrize(
    ("name", "begin", "more", "source"),
    [
        ("f.csv", b"a\r\n1\r", b"\n2\r\n", CsvFiles(glob="f.csv")),
        ("f.csv", b"a\n1", b"\n2\n", CsvFiles(glob="f.csv")),
        ("f.csv", "a\n1\n".encode("utf-16-le"), "2\n".encode("utf-16-le"),
         CsvFiles(glob="f.csv", encoding="utf-16-le")),
        ("f.csv.gz", gzip.compress(b"a\n1\n", mtime=0), gzip.compress(b"2\n", mtime=0),
         CsvFiles(glob="f.csv.gz")),
    ],
)  # fmt: skip
def test_where_a_beginning_cannot_be_cut_off_all_is_read(
    reader: ReaderOf, tmp_path: Path, name: str, begin: bytes, more: bytes, source: Source
) -> None:
    (tmp_path / name).write_bytes(begin + more)
    assert rows_after(reader(source), begin, 1) == [(1, b"1"), (2, b"2")]


def zstd(data: bytes) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.CompressedOutputStream(stream, "zstd") as packed:
        packed.write(data)
    return bytes(stream.getvalue().to_pybytes())


def as_it_is(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize(
    ("name", "pack"), [("f.csv", as_it_is), ("f.csv.gz", gzip.compress), ("f.csv.zst", zstd)]
)
@pytest.mark.parametrize(
    ("begin", "more", "escape", "ended"),
    [
        (b"a\n1\n", b"2\n", None, True),
        (b"a\n1", b"\n2\n", None, True),
        (b"a\n1", b"", None, True),
        (b"a\n1", b"2\n3\n", None, False),
        (b"a\n1\\\n", b"2\n", None, True),
        (b"a\n1\\\n", b"2\n", "\\", False),
        (b"a\n1\\\\\n", b"2\n", "\\", True),
        (b"a\n1\\", b"\n2\n", "\\", False),
        (b"a\n1\\\\", b"\n2\n", "\\", True),
    ],
)  # fmt: skip
def test_whether_the_last_row_was_finished_is_told_packed_or_not(
    reader: ReaderOf,
    tmp_path: Path,
    name: str,
    pack: Callable[[bytes], bytes],
    begin: bytes,
    more: bytes,
    escape: str | None,
    ended: bool,
) -> None:
    packed = pack(begin)
    (tmp_path / name).write_bytes(packed + (pack(more) if more else b""))
    reading = reader(CsvFiles(glob=name, escape=escape))
    (item,) = reading.find()
    assert reading.ends_a_line(item, len(packed)) is ended


def test_a_packed_file_with_junk_behind_its_beginning_is_named(
    reader: ReaderOf, tmp_path: Path
) -> None:
    packed = zstd(b"a\n1\n")
    (tmp_path / "f.csv.zst").write_bytes(packed + b"junk junk junk")
    reading = reader(CsvFiles(glob="f.csv.zst"))
    (item,) = reading.find()
    with pytest.raises(SourceError, match=r"f\.csv\.zst: it cannot be read"):
        reading.ends_a_line(item, len(packed))
