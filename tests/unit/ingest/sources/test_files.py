"""Files are found and told apart, on a disk or in a store; Parquet and Arrow give their rows."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakebed.ingest.sources.reader import SourceError
from lakebed.spec.sources import ArrowFiles, CsvFiles, ParquetFiles, Source
from tests.unit.ingest.sources.conftest import Read

Make = Callable[[Source], Any]


@pytest.fixture
def store() -> Iterator[Any]:
    """An object store in memory."""
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def names(found: list[Any]) -> list[str]:
    return [item.name for item in found]


def test_a_folder_stands_for_its_files_of_the_kind(reader: Make, tmp_path: Path) -> None:
    for name in (
        "d/b.csv",
        "d/year=2024/_a=1/a.csv.gz",
        "d/_SUCCESS",
        "d/.b.csv.crc",
        "d/x.parquet",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(reader(CsvFiles(glob="d")).find()) == ["d/b.csv", "d/year=2024/_a=1/a.csv.gz"]
    assert names(reader(CsvFiles(glob="d/*.csv")).find()) == ["d/b.csv"]
    assert names(reader(CsvFiles(glob=f"file://{tmp_path}/d/b.csv")).find()) == ["d/b.csv"]
    assert names(reader(CsvFiles(glob="d/**/*.gz")).find()) == ["d/year=2024/_a=1/a.csv.gz"]
    assert names(reader(CsvFiles(glob="**/**/*.gz")).find()) == ["d/year=2024/_a=1/a.csv.gz"]
    assert reader(CsvFiles(glob="nowhere")).find() == []


@pytest.mark.parametrize("place", ["d", "d/*.csv"])
def test_links_that_lead_to_no_file_are_left_out(reader: Make, tmp_path: Path, place: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/1.csv").write_bytes(b"a\n1\n")
    (tmp_path / "d/loop.csv").symlink_to("loop.csv")
    (tmp_path / "d/nowhere.csv").symlink_to("gone.csv")
    assert names(reader(CsvFiles(glob=place)).find()) == ["d/1.csv"]


def test_a_store_is_listed_and_read_like_a_disk(reader: Make, store: Any) -> None:
    store.pipe({"/b/p/1.csv": b"a\n1\n", "/b/p/q/2.csv": b"a\n2\n", "/b/p/_x.csv": b""})
    assert names(reader(CsvFiles(glob="memory://b/p/*.csv")).find()) == [
        "memory:///b/p/1.csv",
        "memory:///b/p/_x.csv",
    ]
    reading = reader(CsvFiles(glob="memory://b/p/"))
    one, two = reading.find()
    assert (one.bytes, two.bytes) == (4, 4)
    assert two.path.endswith("b/p/q/2.csv")
    (batch,) = reading.batches(two, columns=["a"])
    assert batch.frame.rows() == [(b"2",)]
    reading.check_unchanged(two)
    store.pipe("/b/p/q/2.csv", b"a\n33\n")
    with pytest.raises(SourceError, match="changed while it was read"):
        reading.check_unchanged(two)
    assert reading.find()[1].version != two.version


def test_a_store_that_fsspec_does_not_know_or_whose_package_is_missing_is_named(
    reader: Make,
) -> None:
    with pytest.raises(SourceError, match="fsspec does not know nosuch://"):
        reader(CsvFiles(glob="nosuch://b/x.csv")).find()
    with pytest.raises(SourceError, match=r"gs:// needs a package.*gcsfs"):
        reader(CsvFiles(glob="gs://b/x.csv")).find()


def test_the_columns_of_a_hive_layout_come_from_the_path(
    read: Callable[..., Read], reader: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "d" / "year=2024" / "city=New%20York" / "zone=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir(parents=True)
    (folder / "1.csv").write_text("a,year\n1,x\n2,y\n")
    source = CsvFiles(glob="d/**/*.csv", hive=("year", "city", "zone"))
    found = read(source)
    assert found.columns == ["a", "year", "city", "zone"]
    assert found.rows == [(b"1", "2024", "New York", None), (b"2", "2024", "New York", None)]
    assert read(source, ["city", "a"]).rows[0] == ("New York", b"1")
    (tmp_path / "d" / "2.csv").write_text("a\n1\n")
    reading = reader(source)
    outside = next(item for item in reading.find() if item.name == "d/2.csv")
    with pytest.raises(SourceError, match=r"no year=\.\.\. in its path"):
        reading.columns(outside)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"glob": "s3://key:word@bucket/x.csv"}, "password"),
        ({"glob": "https://h/x.csv?X-Amz-Signature=1"}, "signature"),
        ({"glob": "x", "quote": "''"}, "one character each"),
        ({"glob": "x", "delimiter": "¦"}, "ASCII"),
        ({"glob": "x", "escape": '"'}, "different characters"),
        ({"glob": "x", "encoding": "klingon"}, "encoding 'klingon' is unknown"),
        ({"glob": "x", "columns": ("a", "a")}, "twice"),
        ({"glob": "x", "hive": ("a", "a")}, "twice"),
        ({"glob": "x", "skip_rows": -1}, "skip_rows is -1"),
    ],
)
def test_a_source_that_makes_no_sense_says_why(fields: dict[str, Any], problem: str) -> None:
    found = CsvFiles(**fields).problem()
    assert found is not None
    assert problem in found


TABLE = pa.table(
    {
        "nest": [{"x": i, "y": {"at": 0}} for i in range(10)],
        "at": pa.array([datetime(2024, 1, 1 + i, tzinfo=UTC) for i in range(10)]),
        "word": pa.array(["a", "b"] * 5).dictionary_encode(),
        "big": pa.array([str(i) for i in range(10)], pa.large_string()),
    }
)


@pytest.mark.parametrize("place", ["disk", "store"])
def test_row_groups_without_new_rows_are_left_out_beside_nested_columns_too(
    read: Callable[..., Read], tmp_path: Path, store: Any, place: str
) -> None:
    pq.write_table(TABLE, tmp_path / "f.parquet", row_group_size=2)
    source = ParquetFiles(glob="f.parquet")
    if place == "store":
        store.pipe("/b/f.parquet", (tmp_path / "f.parquet").read_bytes())
        source = ParquetFiles(glob="memory://b/f.parquet")
    found = read(source, ["at", "word", "big"], ("at", datetime(2024, 1, 7, tzinfo=UTC)))
    assert (found.left_out, found.numbers) == (6, [7, 8, 9, 10])
    assert [row[1:] for row in found.rows] == [("a", "6"), ("b", "7"), ("a", "8"), ("b", "9")]
    assert len(read(source, ["at"]).rows) == 10


def test_a_nested_leaf_of_the_same_name_prunes_nothing_that_is_new(
    read: Callable[..., Read], tmp_path: Path
) -> None:
    table = pa.table({"s": [{"n": 0}] * 4, "n": [1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "f.parquet", row_group_size=1)
    assert read(ParquetFiles(glob="f.parquet"), ["n"], ("n", 3)).rows == [(3,), (4,)]


@pytest.mark.parametrize("name", ["f.arrow", "f.arrows", "f.arrows.gz", "f.arrows.zst"])
@pytest.mark.parametrize("place", ["disk", "store"])
def test_arrow_files_and_streams_give_their_rows(
    read: Callable[..., Read],
    tmp_path: Path,
    store: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    place: str,
) -> None:
    monkeypatch.setattr("lakebed.ingest.sources.arrow.BATCH_ROWS", 3)
    opener = pa.ipc.new_file if name == "f.arrow" else pa.ipc.new_stream
    codec = {"gz": "gzip", "zst": "zstd"}.get(name.rpartition(".")[2])
    with (
        pa.output_stream(str(tmp_path / name), compression=codec) as out,
        opener(out, TABLE.schema) as writer,
    ):
        writer.write_table(TABLE, max_chunksize=5)
    glob = name
    if place == "store":
        store.pipe(f"/b/{name}", (tmp_path / name).read_bytes())
        glob = f"memory://b/{name}"
    found = read(ArrowFiles(glob=glob), ["big", "word"])
    assert found.columns == ["nest", "at", "word", "big"]
    assert found.rows == [(str(i), "ab"[i % 2]) for i in range(10)]
    assert found.numbers == list(range(1, 11))


@pytest.mark.parametrize(
    "content", [b"", b"ARROW1 nothing", b"nothing at all", b"\xff\xff\xff\xff\x10"]
)
def test_what_is_no_arrow_is_named(
    read: Callable[..., Read], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "f.arrow").write_bytes(content)
    with pytest.raises(SourceError, match="deliver it again"):
        read(ArrowFiles(glob="f.arrow"))


def test_a_cut_arrow_stream_is_named_with_the_row(
    read: Callable[..., Read], tmp_path: Path
) -> None:
    with pa.ipc.new_stream(str(tmp_path / "f.arrows"), TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=5)
    size = (tmp_path / "f.arrows").stat().st_size
    os.truncate(tmp_path / "f.arrows", size - 200)
    with pytest.raises(SourceError, match="damaged after row 5"):
        read(ArrowFiles(glob="f.arrows"), ["big"])


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, f"name\n{path.stem}/{name}\n")


@pytest.mark.parametrize(
    ("pattern", "members"),
    [
        ("gtfs.zip", ["gtfs.zip/a/stops.txt", "gtfs.zip/routes.txt", "gtfs.zip/stops.txt"]),
        ("gtfs.zip/stops.txt", ["gtfs.zip/stops.txt"]),
        ("gtfs.zip/st*", ["gtfs.zip/stops.txt"]),
        ("gtfs.zip/**/stops.txt", ["gtfs.zip/a/stops.txt", "gtfs.zip/stops.txt"]),
        ("gtfs.zip/a/*", ["gtfs.zip/a/stops.txt"]),
        ("*.zip/routes.txt", ["broken.zip", "gtfs.zip/routes.txt", "more.zip/routes.txt"]),
        ("gtfs.zip/none.txt", []),
        ("folder.zip/*.txt", ["folder.zip/stops.txt"]),
        ("folder.zip", ["folder.zip/stops.txt"]),
        ("none.zip/stops.txt", []),
    ],
)
def test_members_of_an_archive_are_chosen_by_pattern(
    reader: Make, tmp_path: Path, pattern: str, members: list[str]
) -> None:
    zipped(tmp_path / "gtfs.zip", "stops.txt", "routes.txt", "a/stops.txt")
    zipped(tmp_path / "more.zip", "routes.txt")
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "folder.zip" / "stops.txt").write_text("name\nfolder\n")
    (tmp_path / "broken.zip").write_text("none")
    for found in (reader(CsvFiles(pattern)).find(), reader(CsvFiles(pattern)).glance()):
        assert [item.name for item in found] == members


def test_members_of_an_archive_in_a_store_are_chosen_by_pattern(
    reader: Make, read: Callable[..., Read], store: Any, tmp_path: Path
) -> None:
    zipped(tmp_path / "gtfs.zip", "stops.txt", "routes.txt")
    store.pipe("/b/gtfs.zip", (tmp_path / "gtfs.zip").read_bytes())
    found = read(CsvFiles("memory://b/*.zip/st*.txt"))
    assert found.rows == [(b"gtfs/stops.txt",)]
    assert reader(CsvFiles("memory://b/gtfs.zip/none")).find() == []
