"""Read JSON lines: every value as its text, and lines that are not objects with their numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from lakebed.ingest.sources.delimited import UNREADABLE
from lakebed.ingest.sources.header import HEAD_BYTES
from lakebed.ingest.sources.json_text import Members, members_of, unquoted
from lakebed.ingest.sources.lines import LinesReader
from lakebed.ingest.sources.reader import Batch, Beginning, SourceError, SourceItem, first_line
from lakebed.ingest.sources.records import with_last
from lakebed.ingest.sources.streams import PARSERS, blocks, opened_stream, prefetch, with_packed
from lakebed.store.rejects import Malformed

JSON_BLOCK_BYTES = 8 * 2**20
LONGEST_LINE_BYTES = 64 * 2**20
_NO_OBJECT = Malformed("not_an_object", "it is not a JSON object")


class JsonReader(LinesReader):
    """Reads JsonFiles."""

    suffixes = (*with_packed(".jsonl", ".ndjson", ".json"), ".zip")
    archives = True
    _json: frozenset[str] = frozenset()

    def keep_json(self, columns: Collection[str]) -> None:
        """Let strings of these columns stay JSON strings."""
        self._json = frozenset(columns)

    def _names(self, item: SourceItem) -> list[str]:
        """Return the keys of the first lines; later lines may have more, which batches name."""
        try:
            with opened_stream(item.path) as stream:
                head = next(blocks(stream, HEAD_BYTES), b"")
        except UNREADABLE as error:
            raise SourceError(item.path, f"it cannot be read ({first_line(error)})") from error
        whole = head[: head.rfind(b"\n") + 1] or head
        with _Judge() as judge:
            good, _, _ = judge.sorted(whole)
        return members_of(good).keys.unique(maintain_order=True).to_list()

    def _lines(self, item: SourceItem, columns: list[str], beginning: Beginning) -> Iterator[Batch]:
        number = beginning.rows
        found = self._hashed(item, beginning)
        try:
            with (
                opened_stream(item.path, found=found, offset=beginning.bytes) as stream,
                _Judge() as judge,
            ):

                def parse(data: bytes) -> Batch:
                    good, numbers, malformed = judge.sorted(data)
                    frame, others = _frame(members_of(good), len(numbers), columns, self._json)
                    return Batch(frame, pl.Series(numbers, dtype=pl.Int64), malformed, 0, others)

                lines = _whole_lines(item, blocks(stream, JSON_BLOCK_BYTES))
                for batch in prefetch(lines, parse, PARSERS):
                    malformed = tuple((number + n, what, line) for n, what, line in batch.malformed)
                    yield replace(batch, numbers=batch.numbers + number, malformed=malformed)
                    number += batch.frame.height + len(malformed)
        except UNREADABLE as error:
            raise SourceError(item.path, f"it cannot be read ({first_line(error)})") from error


class _Judge:
    """Separates lines that are JSON objects from the remaining ones; DuckDB reads all at once."""

    def __enter__(self) -> _Judge:
        self._connection = duckdb.connect(config={"threads": 1})
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def sorted(self, data: bytes) -> tuple[bytes, Any, tuple[tuple[int, Malformed, str], ...]]:
        """Return the lines that are objects, their numbers from 1, and the remaining lines."""
        array = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(array == 10) + 1
        if len(data) and (len(ends) == 0 or ends[-1] != len(data)):
            ends = np.append(ends, len(data))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        bounds = np.stack([offsets[:-1], offsets[1:]], axis=1)
        is_object = self._objects(_strings(data, offsets, bounds))
        if is_object.all():
            return data, np.arange(1, len(is_object) + 1), ()
        blank = np.zeros(len(is_object), np.bool_)
        for index in np.flatnonzero(~is_object).tolist():
            begin, end = bounds[index].tolist()
            blank[index] = not data[begin:end].strip()
        bounds, is_object = bounds[~blank], is_object[~blank]
        numbers = np.arange(1, len(is_object) + 1)
        good = b"".join(data[begin:end] for begin, end in bounds[is_object].tolist())
        malformed = [
            (int(number), _NO_OBJECT, data[begin:end].rstrip(b"\r\n").decode("utf-8", "replace"))
            for number, (begin, end) in zip(
                numbers[~is_object].tolist(), bounds[~is_object].tolist(), strict=True
            )
        ]
        return good, numbers[is_object], tuple(malformed)

    def _objects(self, lines: pa.Array) -> npt.NDArray[np.bool_]:
        table = pa.table({"line": lines})
        query = (
            "select case when json_valid(line) then json_type(line) = 'OBJECT' else false end as it"
        )
        cursor = self._connection.cursor()  # one for each thread
        found = cursor.from_arrow(table).query("lines", f"{query} from lines")
        answer: npt.NDArray[np.bool_] = found.to_arrow_table()["it"].to_numpy()
        return answer


def _strings(data: bytes, offsets: npt.NDArray[np.int32], bounds: Any) -> pa.Array:
    """Return lines as Arrow; a line that is not UTF-8 is null, as DuckDB must not read it."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return pa.array([_decoded(data[begin:end]) for begin, end in bounds.tolist()], pa.string())
    return pa.StringArray.from_buffers(
        len(bounds), pa.py_buffer(offsets), pa.py_buffer(data), None, 0, 0
    )


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _frame(
    found: Members, rows: int, columns: list[str], json: frozenset[str]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the requested columns, and the names of further columns in the lines.

    A missing key is null; of a repeated key the last value counts.  json: columns
    whose values stay JSON.
    """
    keys = found.keys
    positions = pl.Series(range(len(columns)), dtype=pl.Int32)
    index = keys.replace_strict(
        pl.Series(columns, dtype=pl.String), positions, default=-1, return_dtype=pl.Int32
    ).to_numpy()
    series = []
    for number, name in enumerate(columns):
        there = np.flatnonzero(index == number)
        where = np.full(rows, -1, np.int64)
        where[found.lines[there]] = there
        taken = pl.Series(where).set(pl.Series(where == -1), None)
        values = found.values.gather(taken)
        values = values.set(values == "null", None) if name in json else unquoted(values)
        series.append(values.alias(name))
    others = keys.filter(pl.Series(index == -1)).unique().sort().to_list()
    return pl.DataFrame(series), tuple(others)


def _whole_lines(item: SourceItem, parts: Iterator[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    waiting = 0
    for part, last in with_last(parts):
        end = len(part) if last else part.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, part[:end]])
            rest, waiting = [part[end:]], len(part) - end
        else:
            rest.append(part)
            waiting += len(part)
        if waiting > LONGEST_LINE_BYTES:
            raise SourceError(
                item.path,
                f"a line of it is longer than {LONGEST_LINE_BYTES >> 20} MiB; these must be JSON "
                "lines, one object a line",
            )
