"""Every kind of file, on a disk or in an S3 bucket, ends in PostgreSQL row by row."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.request import Request, urlopen

import pandera.polars as pa
import polars as pl
import pyarrow
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from moto.server import ThreadedMotoServer

from lakebed.ingest.load import LoadReport, load_table
from lakebed.ingest.sources.reader import SourceError
from lakebed.spec.sources import Source
from lakebed.spec.table import ArrowFiles, CsvFiles, JsonFiles, ParquetFiles, SourceTable
from lakebed.store.platform import Platform

SECRET = "secret-of-the-tests"  # noqa: S105


class Model(pa.DataFrameModel):
    number: pl.Int64
    price: Annotated[pl.Decimal, 38, 10] = pa.Field(nullable=True)
    note: str = pa.Field(nullable=True)
    year: pl.Int32 = pa.Field(nullable=True)


Load = Callable[..., LoadReport]
Ask = Callable[[str], list[Any]]


@pytest.fixture
def load(platform_of: Callable[..., Platform]) -> Load:
    def run(source: Source, **fields: Any) -> LoadReport:
        table = SourceTable(name="things", model=Model, source=source, **fields)
        platform = platform_of(table)
        return load_table(platform.settings, platform.postgres, platform.clock, table)

    return run


@pytest.fixture
def ask(platform_of: Callable[..., Platform]) -> Ask:
    def run(query: str) -> list[Any]:
        with platform_of().postgres.connect() as connection:
            return connection.execute(query).fetchall()

    return run


@pytest.fixture
def data(platform_of: Callable[..., Platform]) -> Path:
    return platform_of().settings.data


PRICE = "1234567890123456789012345678.0123456789"
ROWS = "select number, price::text, note, year from things order by number"
FOUND = [(1, PRICE, '{"k":[1, 2.50]}', 2024), (2, None, "é", 2024)]


def frame() -> pyarrow.Table:
    import decimal

    return pyarrow.table(
        {
            "number": pyarrow.array([1, 2], pyarrow.uint8()),
            "nested": [{"a": 1}, {"a": 2}],
            "price": pyarrow.array([decimal.Decimal(PRICE), None], pyarrow.decimal128(38, 10)),
            "note": pyarrow.array(['{"k":[1, 2.50]}', "é"]).dictionary_encode(),
        }
    )


def write(kind: str, folder: Path) -> Source:
    """Write the two rows as a kind of file into folder/year=2024; return where they are."""
    place = folder / "year=2024"
    place.mkdir(parents=True)
    hive = ("year",)
    csv = f'number,price,note\n1,{PRICE},"{{""k"":[1, 2.50]}}"\n2,,é\n'
    if kind == "csv":
        (place / "1.csv").write_text(csv)
        return CsvFiles(glob="d/*/*.csv", hive=hive)
    if kind == "csv, odd":
        text = f"1|{PRICE}|'{{\"k\":[1, 2.50]}}'\r\n2|\\N|é\r\n"
        (place / "1.txt.gz").write_bytes(gzip.compress(text.encode("utf-16")))
        return CsvFiles(
            glob="d", hive=hive, delimiter="|", quote="'", escape="\\", encoding="utf-16",
            null_strings=("\\N",), columns=("number", "price", "note"),
        )  # fmt: skip
    if kind == "zip":
        with zipfile.ZipFile(place / "all.zip", "w") as archive:
            head, one, two = csv.splitlines()
            archive.writestr("1.csv", f"{head}\n{one}\n")
            archive.writestr("2.csv", f"{head}\n{two}\n")
        return CsvFiles(glob="d/**/*.zip", hive=hive)
    if kind == "json":
        text = f'{{"number":1,"price":{PRICE},"note":{{"k":[1, 2.50]}}}}\n'
        text += '{"note":"\\u00e9","number":2}\n'
        (place / "1.jsonl.gz").write_bytes(gzip.compress(text.encode()))
        return JsonFiles(glob="d/", hive=hive)
    if kind == "parquet":
        pq.write_table(frame(), place / "1.parquet")
        return ParquetFiles(glob="d", hive=hive)
    with pyarrow.ipc.new_file(place / "1.arrow", frame().schema) as writer:
        writer.write_table(frame())
    return ArrowFiles(glob="d/year=2024/1.arrow", hive=hive)


KINDS = ["csv", "csv, odd", "zip", "json", "parquet", "arrow"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_file_is_loaded_once_exactly(load: Load, ask: Ask, data: Path, kind: str) -> None:
    source = write(kind, data / "d")
    report = load(source, ignored=("nested",))
    assert (report.refused, report.rejected, report.inserted) == ((), 0, 2)
    assert ask(ROWS) == FOUND
    assert load(source, ignored=("nested",)).load_id is None
    if kind == "zip":
        assert ask("select path from lakebed.loaded_file order by path") == [
            ("d/year=2024/all.zip/1.csv",),
            ("d/year=2024/all.zip/2.csv",),
        ]


def test_json_lines_that_grew_are_read_on(load: Load, ask: Ask, data: Path) -> None:
    file = data / "f.jsonl"
    lines = [f'{{"number":{i}}}\n' for i in range(200)]
    lines[5] = "no json\n"
    file.write_text("".join(lines[:150]))
    source = JsonFiles(glob="f.jsonl")
    report = load(source)
    assert (report.inserted, report.rejected) == (149, 1)
    file.write_text("".join(lines))
    assert load(source).inserted == 50
    assert ask("select count(*), count(distinct number) from things") == [(199, 199)]
    assert ask("select row_number, source_row from lakebed.rejected_row") == [
        (6, {"line": "no json"})
    ]
    file.write_text("".join(lines).replace('{"number":9}', '{"number":8}'))
    assert "does not begin as it did" in load(source).refused[0].problem


def test_a_key_that_the_contract_does_not_know_refuses_the_file_wherever_it_comes(
    load: Load, ask: Ask, data: Path
) -> None:
    lines = ['{"number":1}\n'] * 20_000 + ['{"number":2,"new":1}\n']
    (data / "f.jsonl").write_text("".join(lines))
    source = JsonFiles(glob="f.jsonl")
    (refused,) = load(source).refused
    assert "column 'new' is not in the contract" in refused.problem
    assert load(source, new_columns="discard").inserted == 20_001


def test_utf_16_that_grew_is_read_on(load: Load, ask: Ask, data: Path) -> None:
    source = CsvFiles(
        glob="f.csv", encoding="utf-16-le", columns=("number", "price", "note", "year")
    )
    lines = [f"{i},,é,\n" for i in range(5)]
    for count in (2, 5):
        (data / "f.csv").write_bytes("".join(lines[:count]).encode("utf-16-le"))
        assert load(source).refused == ()
    assert ask("select number from things order by 1") == [(i,) for i in range(5)]
    (data / "f.csv").write_bytes(("".join(lines) + "6,,torn").encode("utf-16-le"))
    assert load(source, reject_share=1.0).rejected == 1
    (data / "f.csv").write_bytes(("".join(lines) + "6,,torn,\n").encode("utf-16-le"))
    assert "not yet finished" in load(source).refused[0].problem


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket of a local S3 server, whose address and keys are in the environment."""
    import s3fs

    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    urlopen(Request(f"{url}/moto-api/reset", method="POST")).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    filesystem.mkdir("bucket")
    yield filesystem
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_file_in_a_bucket_is_loaded_once_exactly(
    load: Load, ask: Ask, tmp_path: Path, bucket: Any, kind: str
) -> None:
    from dataclasses import replace

    local = write(kind, tmp_path / "d")
    bucket.put(str(tmp_path / "d"), "bucket/", recursive=True)
    source = replace(local, glob=f"s3://bucket/{local.glob}")
    report = load(source, ignored=("nested",))
    assert (report.refused, report.rejected, report.inserted) == ((), 0, 2)
    assert ask(ROWS) == FOUND
    assert load(source, ignored=("nested",)).load_id is None
    ((path,), *_) = ask("select path from lakebed.loaded_file order by path")
    assert path.startswith("s3://bucket/d/year=2024/")


def test_an_object_that_changed_is_told_by_its_etag(load: Load, ask: Ask, bucket: Any) -> None:
    head = b"number,price,note,year\n"
    source = CsvFiles(glob="s3://bucket/in/*.csv")
    bucket.pipe("bucket/in/1.csv", head + b"1,,,\n")
    assert load(source).inserted == 1
    bucket.pipe("bucket/in/1.csv", head + b"1,,,\n")
    assert load(source).load_id is None
    bucket.pipe("bucket/in/1.csv", head + b"1,,,\n2,,,\n")
    assert load(source).inserted == 1
    bucket.pipe("bucket/in/1.csv", head + b"7,,,\n2,,,\n")
    assert "does not begin as it did" in load(source).refused[0].problem


def test_a_bucket_that_is_not_there_is_named(load: Load, bucket: Any) -> None:
    with pytest.raises(SourceError, match=r"s3://nowhere/\*\.csv: the bucket or folder does"):
        load(CsvFiles(glob="s3://nowhere/*.csv"))
    assert load(CsvFiles(glob="s3://bucket/nothing/*.csv")).load_id is None


@pytest.mark.parametrize(
    ("raised", "problem"),
    [
        (PermissionError("Forbidden"), "access is denied"),
        (NoCredentialsError(), "the environment has no credentials"),
        (EndpointConnectionError(endpoint_url="http://h"), "cannot be reached"),
    ],
)
def test_a_store_that_does_not_answer_says_what_to_set_and_no_secret(
    load: Load, bucket: Any, monkeypatch: pytest.MonkeyPatch, raised: Exception, problem: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("lakebed.ingest.sources.places._listed", fail)
    with pytest.raises(SourceError, match=problem) as caught:
        load(CsvFiles(glob="s3://bucket/*.csv"))
    assert "s3://bucket/*.csv" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_object_that_may_not_be_read_is_left_out_and_the_next_one_loads(
    load: Load, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    opened = s3fs.S3FileSystem.open

    def guarded(self: Any, path: str, *args: Any, **options: Any) -> Any:
        if path.endswith("1.csv"):
            raise PermissionError("Forbidden")
        return opened(self, path, *args, **options)

    for name in ("1.csv", "2.csv"):
        bucket.pipe(f"bucket/{name}", b"number,price,note,year\n1,,,\n")
    monkeypatch.setattr(s3fs.S3FileSystem, "open", guarded)
    report = load(CsvFiles(glob="s3://bucket/*.csv"))
    assert [refused.path for refused in report.refused] == ["s3://bucket/1.csv"]
    assert report.inserted == 1
