"""What files look like: their columns and types, from the first file that a pattern finds."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from lakebed.ingest.sources.arrow import ArrowReader
from lakebed.ingest.sources.delimited import CsvReader
from lakebed.ingest.sources.files import FoundFiles
from lakebed.ingest.sources.parquet import ParquetReader
from lakebed.ingest.sources.places import found_files, is_url
from lakebed.ingest.sources.reader import SourceError, SourceItem
from lakebed.ingest.sources.streams import opened_stream
from lakebed.scaffolding.table_file import AddError, DescribedTable, SourceColumn
from lakebed.spec.sources import ArrowFiles, CsvFiles, Files, JsonFiles, ParquetFiles

SAMPLE_BYTES = 1 << 20
_PACKED = r"(\.(gz|zst|bz2|xz))?"
_KINDS: tuple[tuple[str, type[Files]], ...] = (
    (r"\.(parquet|pq)", ParquetFiles),
    (rf"\.(csv|tsv|txt){_PACKED}", CsvFiles),
    (rf"\.(jsonl|ndjson|json){_PACKED}", JsonFiles),
    (rf"\.(arrow|arrows|feather|ipc){_PACKED}", ArrowFiles),
)
_DELIMITERS = (",", ";", "\t", "|")
_NULLS = ("NA", "N/A", "NULL", "null", "\\N")
_TYPES: tuple[tuple[str, pl.DataType], ...] = (
    (r"-?(0|[1-9]\d{0,17})", pl.Int64()),
    (r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", pl.Float64()),
    (r"(?i)true|false", pl.Boolean()),
    (r"\d{4}-\d\d-\d\d", pl.Date()),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?", pl.Datetime("us")),
    (
        r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)",
        pl.Datetime("us", "UTC"),
    ),
)
"""What texts look like, the narrowest type first; a number with leading zeros stays text."""


def kind_of(pattern: str) -> type[Files] | None:
    """Return the kind of files that a pattern is of by its ending, None for another ending."""
    for ending, kind in _KINDS:
        if re.search(rf"(?i){ending}$", pattern):
            return kind
    return None


def pattern_in_data(text: str, data: Path, here: Path) -> str:
    """Return a pattern as the table file has it: relative to the data folder where that can be.

    Args:
        text: What was typed: relative to the data folder or to the working folder, or absolute.
        data: The data folder of the project.
        here: The working folder.
    """
    if is_url(text) or any(True for _ in found_files(str(data / text), ())):
        return text
    typed = here / text
    return str(typed.relative_to(data)) if typed.is_relative_to(data) else str(typed)


def describe_files(pattern: str, data: Path) -> DescribedTable:
    """Describe the table that files are of.

    Args:
        pattern: The pattern as the table file has it.
        data: The folder where a relative pattern starts.

    Raises:
        AddError: The file does not exist, its kind is unknown, or it has no columns.
        SourceError: The first file cannot be read.
    """
    kind = kind_of(pattern)
    if kind is None:
        raise AddError(
            f"{pattern}: the ending does not say what the files are. Lakebed reads .csv, .jsonl, "
            ".parquet and .arrow, also packed; or write sqlite:FILE, duckdb:FILE, sql:SETTING or "
            "adopt:SCHEMA.TABLE"
        )
    arguments = [f"glob={pattern!r}"]
    if kind is CsvFiles:
        columns, more = _csv(pattern, data)
        arguments += more
    elif kind is JsonFiles:
        columns = _json(pattern, data)
    else:
        reader = (
            ParquetReader(ParquetFiles(glob=pattern), data)
            if kind is ParquetFiles
            else ArrowReader(ArrowFiles(glob=pattern), data)
        )
        types = reader.types(_first(reader, pattern))
        columns = [SourceColumn(name, dtype or pl.String()) for name, dtype in types.items()]
    if not columns:
        raise AddError(f"{pattern}: the first file has no columns")
    return DescribedTable(
        name=_table_of(pattern),
        title=f"files {pattern}",
        source=f"{kind.__name__}({', '.join(arguments)})",
        columns=columns,
    )


def _first(reader: FoundFiles, pattern: str) -> SourceItem:
    items = reader.find()
    if not items:
        raise AddError(f"no file {pattern}. Expected at least one file at {reader.place}")
    return items[0]


def _csv(pattern: str, data: Path) -> tuple[list[SourceColumn], list[str]]:
    """Return the columns of a CSV file, and what its source must say besides the pattern."""
    item = _first(CsvReader(CsvFiles(glob=pattern), data), pattern)
    head = _sample(item).partition(b"\n")[0].decode(errors="replace")
    delimiter = max(_DELIMITERS, key=head.count)
    reader = CsvReader(CsvFiles(glob=pattern, delimiter=delimiter), data)
    names = reader.columns(item) or []
    found = next((b.frame for b in reader.batches(item, columns=names)), pl.DataFrame())
    # Bytes that are not UTF-8 do not show a type.
    frame = found.with_columns(pl.col(pl.Binary).cast(pl.String, strict=False))
    nulls = [null for null in _NULLS if _is_null_here(frame, null)]
    columns = [SourceColumn(name, _type_of(frame[name], nulls)) for name in frame.columns]
    more = [f"delimiter={delimiter!r}"] if delimiter != "," else []
    more += [f"null_strings={('', *nulls)!r}"] if nulls else []
    return columns, more


def _is_null_here(frame: pl.DataFrame, null: str) -> bool:
    """Whether a text means null in some column, whose remaining values are of a plain type."""
    for series in frame:
        if series.dtype == pl.String and (series == null).any():
            dtype = _type_of(series, [null])
            if not isinstance(dtype, pl.String | pl.Null):
                return True
    return False


def _type_of(series: pl.Series, nulls: list[str]) -> pl.DataType:
    if series.dtype != pl.String:
        return series.dtype
    texts = series.filter(~series.is_in(["", *nulls])).drop_nulls()
    if texts.is_empty():
        return pl.Null()
    for form, dtype in _TYPES:
        if texts.str.contains(f"^(?:{form})$").all():
            return dtype
    return pl.String()


def _json(pattern: str, data: Path) -> list[SourceColumn]:
    from lakebed.ingest.sources.json_lines import JsonReader

    item = _first(JsonReader(JsonFiles(glob=pattern), data), pattern)
    lines = _sample(item)
    whole = lines[: lines.rfind(b"\n") + 1] or lines
    try:
        frame = pl.read_ndjson(whole, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise SourceError(
            item.path, f"its first lines are not one JSON object each ({error})"
        ) from error
    columns = []
    for series in frame:
        if isinstance(series.dtype, pl.Struct | pl.List):
            columns.append(SourceColumn(series.name, pl.String(), remark="JSON text"))
        else:
            columns.append(SourceColumn(series.name, _type_of(series, [])))
    return columns


def _sample(item: SourceItem) -> bytes:
    with opened_stream(item.path) as stream:
        return bytes(stream.read(SAMPLE_BYTES))


def _table_of(pattern: str) -> str:
    """Return what the files are called: the folder of a pattern, or the file without its ending."""
    parts = [part for part in re.split(r"[/\\]", pattern) if part]
    name = re.split(r"\.", parts[-1])[0]
    if re.search(r"[*?\[]", name):
        plain = [part for part in parts[:-1] if not re.search(r"[*?\[:=]", part)]
        return plain[-1] if plain else re.sub(r"[*?\[\]]+", "", name)
    return name
