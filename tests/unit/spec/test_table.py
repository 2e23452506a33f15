"""A table that makes no sense cannot be constructed, and the error says why and what to do."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.spec.table import (
    CsvFiles,
    Deletes,
    Grain,
    Lookup,
    ParquetFiles,
    Partitioning,
    SourceTable,
    TableError,
    Tiering,
)
from lakebed.spec.table_files import load_tables, table_named
from tests.support.checkout import DEMO_TABLES


class Event(pa.DataFrameModel):
    """What happened.

    More about it.
    """

    at: Annotated[pl.Datetime, "us", "UTC"]
    id: pl.Int64
    note: str = pa.Field(nullable=True)
    naive: Annotated[pl.Datetime, "us", None] = pa.Field(nullable=True)
    when: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(nullable=True)
    flag: bool


class Empty(pa.DataFrameModel):
    """No field."""


class Twins(pa.DataFrameModel):
    name: str
    other: str = pa.Field(alias="Name")


class System(pa.DataFrameModel):
    xmin: str


class Blank(pa.DataFrameModel):
    a: str
    gap: str = pa.Field(alias=" \u00a0")


class TooLong(pa.DataFrameModel):
    a: str = pa.Field(alias="ä" * 32)


class Unfinished(pa.DataFrameModel):
    a: Annotated[pl.Datetime, "us"]


class Dated(pa.DataFrameModel):
    id: pl.Int64
    valid_from: str


class Ours(pa.DataFrameModel):
    lakebed_gone: bool


class Nested(pa.DataFrameModel):
    a: pl.Struct({"b": pl.Int64})


class Measure(Event):
    exact: str = pa.Field(metadata={"postgres": "numeric"})
    doc: str = pa.Field(metadata={"postgres": "jsonb"})


START = datetime(2024, 1, 1, tzinfo=UTC)
BY_MONTH = Partitioning(column="at", grain=Grain.MONTH, start=START)
WEEK = timedelta(days=7)
MERGED: dict[str, Any] = {"write_mode": "merge", "key": ("at", "id")}
WINDOWED: dict[str, Any] = {
    "partitioning": BY_MONTH,
    "load_by": "window",
    "source": CsvFiles(glob="*.csv"),
}
SETTLING: dict[str, Any] = {"partitioning": BY_MONTH, "tiering": Tiering(hot_for=WEEK)}


def table(**fields: Any) -> SourceTable:
    return SourceTable(**{"name": "events", "model": Event} | fields)


def look(**fields: Any) -> Lookup:
    return Lookup(**{"column": "note_id", "natural": ("note",), "table": "notes"} | fields)


def by(**fields: Any) -> Partitioning:
    return Partitioning(**{"column": "at", "grain": Grain.MONTH, "start": START} | fields)


@pytest.mark.parametrize(
    ("fields", "field", "how_to_fix"),
    [
        ({"name": "Events"}, "name", "lower case"),
        ({"name": "a" * 41}, "name", "at most 40"),
        ({"model": Empty}, "model", "at least one column"),
        ({"model": Twins}, "model", "upper and lower case"),
        ({"model": System}, "model", "PostgreSQL"),
        ({"model": TooLong}, "model", "63 bytes"),
        ({"model": Blank}, "model", "blanks"),
        ({"model": Unfinished}, "model", "time_zone"),
        ({"model": Nested}, "model", "jsonb"),
        ({"model": Measure, "key": ("doc",)}, "key", "jsonb"),
        (
            {"model": Measure, "partitioning": BY_MONTH, "tiering": Tiering(hot_for=WEEK)},
            "tiering",
            "remove tiering",
        ),
        ({"source": ParquetFiles(glob="")}, "source", "glob"),
        ({"source": CsvFiles(glob="x", delimiter="||")}, "source", "one character"),
        ({"source": CsvFiles(glob="x", delimiter='"')}, "source", "different"),
        ({"cursor": "stamp"}, "cursor", "the model has no column"),
        ({"cursor": "flag"}, "cursor", "boolean"),
        ({"cursor": "when"}, "cursor", "may be null"),
        ({"key": ("id", "no")}, "key", "the model has no column"),
        ({"key": ("id", "id")}, "key", "twice"),
        ({"key": ("note",)}, "key", "nullable=False"),
        ({"write_mode": "merge"}, "write_mode", r"key=\(\.\.\.\)"),
        ({"key": "id"}, "key", r"write \('id',\)"),
        ({"reject_share": "1%"}, "reject_share", "Expected float"),
        ({"parallel_files": 1.5}, "parallel_files", "Expected int"),
        ({"source": ParquetFiles(glob=("a", "b"))}, "source.glob", "Expected str"),  # type: ignore[arg-type]
        (
            {"source": CsvFiles(glob="a", null_strings="NA")},
            "source.null_strings",
            "Expected a tuple",
        ),  # type: ignore[arg-type]
        ({"source": CsvFiles(glob="a", skip_rows=1.5)}, "source.skip_rows", "Expected int"),  # type: ignore[arg-type]
        (MERGED | {"deletes": "lake_copies"}, "deletes", "or 'full_extract'"),
        (
            MERGED | {"deletes": Deletes(marker="x", values="gone")},
            "deletes.values",
            "Expected a tuple",
        ),  # type: ignore[arg-type]
        ({"freshness": 60}, "freshness", "Expected timedelta"),
        ({"freshness": timedelta(0)}, "freshness", "above zero"),
        ({"owner": "nobody"}, "owner", "team:<name>"),
        ({"load_by": "day"}, "load_by", "'cursor', 'window'"),
        ({"load_by": "window"}, "load_by", "partitioning"),
        ({"parallel_files": 0}, "parallel_files", "Expected 1 to 64"),
        ({"undo_loads": -1}, "undo_loads", "Expected 0 to 100"),
        ({"lake_copies": -1}, "lake_copies", "Expected 0 to 1000"),
        ({"lake_copies": "3"}, "lake_copies", "Expected int"),
        ({"lake_copies": 3, **SETTLING}, "lake_copies", "without partitioning"),
        ({"parallel_files": 2, "write_mode": "merge", "key": ("id",)}, "parallel_files", "append"),
        ({"write_mode": "upsert", "key": ("id",)}, "write_mode", "append"),
        ({"changed_files": "reload"}, "changed_files", "merge"),
        (
            {"changed_files": "grown", "source": ParquetFiles(glob="*.parquet")},
            "changed_files",
            "cursor",
        ),
        ({"changed_files": "guess"}, "changed_files", "refuse"),
        ({"write_mode": "history"}, "write_mode", r"history needs a key"),
        (
            {"model": Dated, "write_mode": "history", "key": ("id",)},
            "model",
            "'valid_from'.*rename the model's",
        ),
        ({"write_mode": "history", "key": ("valid_from",)}, "key", "remove it"),
        (
            {"write_mode": "history", "key": ("at", "id"), **SETTLING},
            "tiering",
            "history stays hot",
        ),
        ({"write_mode": "replace", **SETTLING}, "tiering", "stays hot"),
        ({"write_mode": "replace", **WINDOWED}, "load_by", "remove replace or deletes"),
        ({"write_mode": "history", "key": ("at", "id"), **WINDOWED}, "load_by", "remove history"),
        (MERGED | {"deletes": "full_extract", **WINDOWED}, "load_by", "or deletes"),
        ({"write_mode": "replace", "changed_files": "refuse"}, "changed_files", "remove it"),
        ({"write_mode": "replace", "deletes": "full_extract"}, "deletes", "remove deletes"),
        ({"deletes": "full_extract"}, "deletes", "use write_mode='merge' or 'history'"),
        (MERGED | {"deletes": Deletes()}, "deletes", "give one of them"),
        (
            MERGED | {"deletes": Deletes(marker="gone", full_extract=True)},
            "deletes",
            "give one of them",
        ),
        (
            MERGED | {"deletes": Deletes(marker="gone", values=())},
            "deletes.values",
            "name at least one",
        ),
        (
            MERGED | {"deletes": Deletes(marker="gone"), "ignored": ("gone",)},
            "ignored",
            "remove it",
        ),
        (
            MERGED | {"deletes": Deletes(full_extract=True, at_most=0.0)},
            "deletes.at_most",
            "above 0 and up to 1",
        ),
        (
            MERGED
            | {"deletes": Deletes(full_extract=True), "changed_files": "grown", "cursor": "at"},
            "changed_files",
            "remove it",
        ),
        ({"model": Ours}, "model", "'lakebed_gone'.*rename it"),
        ({"lookups": (look(column="note"),)}, "lookups['note']", "has a column of that name"),
        ({"lookups": (look(natural=()),)}, "lookups['note_id']", "name the columns"),
        ({"lookups": (look(natural=("x",)),)}, "lookups['note_id']", "no column 'x'"),
        ({"lookups": (look(natural_key=("a", "b")),)}, "lookups['note_id']", "the same number"),
        (
            {
                "write_mode": "merge",
                "key": ("at", "kept_id"),
                "lookups": (look(column="kept_id", natural=("id",)),),
                **SETTLING,
            },
            "lookups['kept_id']",
            "keep=True",
        ),
        ({"lookups": (look(table="events"),)}, "lookups['note_id']", "their own table"),
        ({"lookups": (look(table="n" * 64),)}, "lookups['note_id']", "63 bytes"),
        ({"lookups": (look(key="note"),)}, "lookups['note_id']", "remove it from natural_key"),
        ({"lookups": (look(), look())}, "lookups", "rename one"),
        (
            {"lookups": (look(), look(column="b", keep=True))},
            "lookups['note_id']",
            "keep=True in both",
        ),
        ({"lookups": (look(),), "cursor": "note"}, "cursor", "the model has no column"),
        ({"lookups": (look(),), "key": ("note_id",)}, "key", "may be null"),
        ({"new_columns": "melt"}, "new_columns", "freeze"),
        ({"missing_columns": "guess"}, "missing_columns", "refuse"),
        ({"reject_share": 1.5}, "reject_share", "from 0 to 1"),
        ({"reject_share": -0.1}, "reject_share", "from 0 to 1"),
        ({"ignored": ("note",)}, "ignored", "remove it"),
        ({"tiering": Tiering(hot_for=WEEK)}, "tiering", "partitioning"),
        ({"partitioning": by(column="no")}, "partitioning.column", "no column"),
        ({"partitioning": by(column="naive")}, "partitioning.column", "Datetime"),
        ({"partitioning": by(column="when")}, "partitioning.column", "may be null"),
        ({"partitioning": by(start=datetime(2024, 1, 1))}, "partitioning.start", "UTC"),  # noqa: DTZ001
        ({"partitioning": by(start=START + WEEK)}, "partitioning.start", "start of a month"),
        ({"partitioning": by(end=START)}, "partitioning.end", "after the start"),
        ({"partitioning": by(end=START + 9 * WEEK)}, "partitioning.end", "start of a month"),
        ({"partitioning": BY_MONTH, "key": ("id",)}, "key", "add 'at'"),
        (
            {"partitioning": BY_MONTH, "tiering": Tiering(hot_for=WEEK, sort=("no",))},
            "tiering.sort",
            "no column",
        ),
        (
            {"partitioning": BY_MONTH, "tiering": Tiering(hot_for=-WEEK)},
            "hot_for",
            "Expected 0 or more",
        ),
        (
            {"partitioning": BY_MONTH, "tiering": Tiering(hot_for=WEEK, row_group_rows=10)},
            "row_group_rows",
            "2048",
        ),
        (
            {"partitioning": BY_MONTH, "tiering": Tiering(hot_for=WEEK, compression="gz")},  # type: ignore[arg-type]
            "tiering.compression",
            "zstd",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_contradiction_is_refused_with_the_field_and_how_to_fix_it(
    fields: dict[str, Any], field: str, how_to_fix: str
) -> None:
    with pytest.raises(TableError) as caught:
        table(**fields)
    text = str(caught.value)
    assert text.startswith(f"table {fields.get('name', 'events')!r}: ")
    assert field in text
    assert re.search(how_to_fix, text), text


def test_a_spec_that_makes_sense_is_frozen() -> None:
    good = table(partitioning=BY_MONTH, key=("at", "id"), cursor="at", write_mode="merge")
    with pytest.raises(FrozenInstanceError):
        good.name = "other"  # type: ignore[misc]


def test_what_happens_to_changed_files_follows_from_the_write_mode() -> None:
    assert table().changed_files == "refuse"
    assert table(cursor="at", source=ParquetFiles(glob="*.parquet")).changed_files == "refuse"
    assert table(source=CsvFiles(glob="*.csv")).changed_files == "grown"
    for mode in ("merge", "replace", "history"):
        assert table(key=("id",), write_mode=mode).changed_files == "reload"


def test_history_adds_the_time_for_which_a_version_holds() -> None:
    history = table(write_mode="history", key=("id",), deletes="full_extract")
    assert history.column_names[-2:] == ("valid_from", "valid_to")
    assert history.primary_key == ("id", "valid_from")
    assert [column.name for column in history.wire] == [column.name for column in history.contract]
    assert history.loads_whole


def test_a_lookup_puts_the_surrogate_in_the_place_of_the_natural_key() -> None:
    names = [column.name for column in table().columns]
    place = names.index("note")
    assert table(lookups=(look(),)).column_names[place] == "note_id"
    assert "note" not in table(lookups=(look(),)).column_names
    kept = table(lookups=(look(keep=True, insert_missing=False),))
    assert kept.column_names[place : place + 2] == ("note_id", "note")
    assert (kept.column("note_id").postgres, kept.column("note_id").nullable) == ("uuid", True)
    assert [column.name for column in kept.wire][-2:] == [
        "lakebed_source_file",
        "lakebed_row_number",
    ]


def test_a_row_that_is_gone_needs_its_key_and_its_cursor_only() -> None:
    marked = table(**MERGED, cursor="at", deletes=Deletes(marker="gone"))
    needed = {column.name for column in marked.wire if not column.nullable}
    assert needed == {"at", "id", "lakebed_gone"}
    assert {column.name for column in marked.columns if column.nullable} == {
        "note",
        "naive",
        "when",
    }


def test_the_docstring_of_the_model_describes_the_table() -> None:
    assert table().description == "What happened.\n\nMore about it."


def test_windows_end_with_the_one_that_holds_now_or_with_the_tables_end() -> None:
    now = datetime(2024, 3, 15, tzinfo=UTC)
    assert [w.key for w in table(partitioning=BY_MONTH).windows(now)] == [
        "2024-01",
        "2024-02",
        "2024-03",
    ]
    ends = table(partitioning=by(end=datetime(2024, 2, 1, tzinfo=UTC)))
    assert [w.key for w in ends.windows(now)] == ["2024-01"]


TABLE_FILE = """
import pandera.polars as pa
from lakebed.spec.table import SourceTable

class Model(pa.DataFrameModel):
    a: int

{name} = SourceTable(name="{name}", model=Model{more})
"""


def write(folder: Path, file: str, name: str, more: str = "") -> Path:
    path = folder / file
    path.write_text(TABLE_FILE.format(name=name, more=more))
    return path


def test_every_file_of_a_folder_is_a_table(tmp_path: Path) -> None:
    write(tmp_path, "b.py", "zebra")
    write(tmp_path, "c.py", "ant")
    (tmp_path / "_shared.py").write_text("raise RuntimeError")
    (tmp_path / "notes.txt").touch()
    tables = load_tables(tmp_path)
    assert [t.name for t in tables] == ["ant", "zebra"]
    assert table_named(tables, "ant").name == "ant"
    with pytest.raises(TableError, match=r"unknown table 'bee'. Expected one of: ant, zebra"):
        table_named(tables, "bee")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("x = 1\ny = (\n", 2, "never closed"),
        ("x = 1\n\nraise RuntimeError('no luck')\n", 3, "no luck"),
        ("import not_there_at_all\n", 1, "not_there_at_all"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(TableError, match=problem) as caught:
        load_tables(tmp_path)
    assert str(caught.value).startswith(f"{file}, line {line}: ")


def test_a_broken_table_is_named_with_its_file_and_line(tmp_path: Path) -> None:
    file = write(tmp_path, "t.py", "t", ', cursor="b"')
    with pytest.raises(
        TableError, match=r"t\.py, line 8: table 't': cursor: the model has no column 'b'"
    ):
        load_tables(tmp_path)
    write(tmp_path, file.name, "t")
    assert len(load_tables(tmp_path)) == 1


def test_a_file_without_a_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.py").touch()
    with pytest.raises(TableError, match=r"empty\.py declares no SourceTable"):
        load_tables(tmp_path)


def test_two_tables_of_one_name_are_refused_with_both_files(tmp_path: Path) -> None:
    write(tmp_path, "one.py", "twice")
    write(tmp_path, "two.py", "twice")
    with pytest.raises(TableError, match=r"'twice' is declared in .*one\.py and in .*two\.py"):
        load_tables(tmp_path)


def test_the_shipped_tables_load() -> None:
    names = [t.name for t in load_tables(DEMO_TABLES)]
    assert names == ["airlines", "airports", "flights", "planes", "weather"]
