"""Whatever a reader raises of one item refuses that item by name; the others are loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandera.polars as pa_polars
import polars as pl
import pyarrow as pa
import pytest

from lakebed.ingest import stream
from lakebed.ingest.load import load_table
from lakebed.ingest.report import LoadReport
from lakebed.ingest.sources.delimited import CsvReader
from lakebed.ingest.sources.isolation import IsolatedReader
from lakebed.ingest.sources.reader import Beginning, Reader, SourceError, SourceItem
from lakebed.spec.table import ArrowFiles, CsvFiles, ParquetFiles, SourceTable
from lakebed.store.platform import Platform

MakePlatform = Callable[..., Platform]


class Number(pa_polars.DataFrameModel):
    n: pl.Int64


NUMBERS = SourceTable(name="numbers", model=Number, source=CsvFiles(glob="*.csv"))

FAULTS = [
    ValueError("odd"),
    KeyError("n"),
    MemoryError(),
    pa.ArrowNotImplementedError("no such type"),
    pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value"),
]
ITEM = SourceItem("in/bad.csv", "1-1", 1, "bad.csv")


def of_an_item() -> list[str]:
    """The methods of a reader that concern one item, also those that come to be."""
    return [
        name
        for name, method in vars(Reader).items()
        if inspect.isfunction(method) and "item" in inspect.signature(method).parameters
    ]


class Faulty(Reader):
    """Raises an error in every call."""

    def __init__(self, fault: BaseException) -> None:
        self.fault = fault

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise self.fault

    find = glance = columns = types = batches = batches_after = check_unchanged = _fail
    count = doubt_of_end = digest = ends_a_line = _fail


def call(reader: Reader, name: str) -> Any:
    """Call a method of a reader with what it takes; read what it yields."""
    given = {
        "item": ITEM,
        "columns": ["n"],
        "count": 1,
        "beginning": Beginning(),
    }
    taken = inspect.signature(getattr(Reader, name)).parameters
    result = getattr(reader, name)(**{key: given[key] for key in taken if key in given})
    return list(result) if isinstance(result, Iterator) else result


def test_every_call_of_a_reader_is_isolated() -> None:
    public = {name for name, f in vars(Reader).items() if inspect.isfunction(f)} - {"words"}
    assert {name for name in public if not name.startswith("_")} <= vars(IsolatedReader).keys()
    assert {"columns", "types", "batches", "count"} <= set(of_an_item())


@pytest.mark.parametrize("name", of_an_item())
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_an_error_of_an_item_is_a_source_error_that_names_it(
    fault: BaseException, name: str
) -> None:
    with pytest.raises(SourceError) as raised:
        call(IsolatedReader(Faulty(fault), "in"), name)
    assert raised.value.path == "in/bad.csv"
    assert type(fault).__name__ in raised.value.problem
    assert raised.value.__cause__ is fault


@pytest.mark.parametrize("name", ["find", "glance"])
def test_an_error_of_the_source_names_the_source(name: str) -> None:
    with pytest.raises(SourceError) as raised:
        call(IsolatedReader(Faulty(FAULTS[-1]), "in/*.csv"), name)
    assert raised.value.path == "in/*.csv"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_is_no_fault_of_an_item(interrupt: BaseException) -> None:
    with pytest.raises(type(interrupt)):
        call(IsolatedReader(Faulty(interrupt), "in"), "columns")


def test_a_source_error_is_as_it_is_and_what_is_passed_on_too() -> None:
    for fault in (SourceError("x", "y"), OSError("the server is away")):
        with pytest.raises(type(fault)) as raised:
            call(IsolatedReader(Faulty(fault), "in", (OSError,)), "batches")
        assert raised.value is fault


def test_an_error_says_no_secret() -> None:
    class Secretive(Faulty):
        def words(self, error: BaseException) -> str:
            return str(error).replace("hunter2", "***")

    reader = IsolatedReader(Secretive(ValueError("no log-in by hunter2")), "in")
    with pytest.raises(SourceError) as raised:
        call(reader, "columns")
    assert "hunter2" not in str(raised.value)


def load(platform: Platform) -> LoadReport:
    (table,) = platform.tables
    return load_table(platform.settings, platform.postgres, platform.clock, table)


def numbers(platform: Platform) -> list[int]:
    with platform.postgres.connect() as connection:
        return [n for (n,) in connection.execute("select n from numbers order by n")]


@pytest.mark.parametrize("apart", [1, 2])
@pytest.mark.parametrize("name", ["columns", "batches", "check_unchanged", "count", "check"])
def test_a_load_goes_on_without_the_item(
    platform_of: MakePlatform, monkeypatch: pytest.MonkeyPatch, name: str, apart: int
) -> None:
    platform = platform_of(replace(NUMBERS, parallel_files=apart))
    for file, n in (("a.csv", 1), ("bad.csv", 2), ("c.csv", 3)):
        (platform.settings.data / file).write_text(f"n\n{n}\n")
    owner: Any = stream if name == "check" else CsvReader
    real = getattr(owner, name)

    def fail(*args: Any, **more: Any) -> Any:
        if any(isinstance(a, SourceItem) and a.path.endswith("bad.csv") for a in args):
            raise FAULTS[-1]
        return real(*args, **more)

    monkeypatch.setattr(owner, name, fail)
    report = load(platform)
    (refused,) = report.refused
    assert refused.path == str(platform.settings.data / "bad.csv")
    assert "PanicException" in refused.problem
    assert numbers(platform) == [1, 3]
    monkeypatch.setattr(owner, name, real)
    assert load(platform).inserted == 1


def test_files_with_types_that_no_library_reads_are_refused_alone(
    platform_of: MakePlatform,
) -> None:
    parquet = replace(NUMBERS, source=ParquetFiles(glob="*.parquet"), changed_files="refuse")
    ipc = replace(parquet, name="others", source=ArrowFiles(glob="*.arrow"))
    platform = platform_of(parquet, ipc)
    folder = platform.settings.data
    good = pl.DataFrame({"n": [1]})
    huge = pl.DataFrame({"n": pl.Series([2**100], dtype=pl.Int128)})
    good.write_parquet(folder / "a.parquet")
    huge.write_parquet(folder / "b.parquet")
    good.write_ipc(folder / "a.arrow")
    huge.write_ipc(folder / "b.arrow")
    run_end_encoded(folder / "c.arrow")
    for table, bad, rows in ((parquet, "b.parquet", 1), (ipc, "b.arrow", 3)):
        report = load_table(platform.settings, platform.postgres, platform.clock, table)
        assert [Path(refused.path).name for refused in report.refused] == [bad]
        assert report.inserted == rows
    with platform.postgres.connect() as connection:
        found = connection.execute("select n from others order by n").fetchall()
    assert found == [(1,), (7,), (7,)]  # what is run-end encoded is decoded


def run_end_encoded(path: Path) -> None:
    values = pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([7], pa.int64()))
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, pa.schema([("n", values.type)])) as writer,
    ):
        writer.write_batch(pa.record_batch({"n": values}))


def test_a_file_that_cannot_be_looked_at_is_refused_alone(
    platform_of: MakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = platform_of(NUMBERS)
    (platform.settings.data / "a.csv").write_text("n\n1\n")
    closed = platform.settings.data / "b.csv"
    closed.write_text("n\n2\n")
    real = Path.stat

    def stat(path: Path, **more: Any) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return real(path, **more)

    monkeypatch.setattr(Path, "stat", stat)
    report = load(platform)
    assert [(refused.path, report.inserted) for refused in report.refused] == [(str(closed), 1)]
