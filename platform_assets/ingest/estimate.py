"""Estimate: what loading all of a source would take, from a sample that is loaded and thrown away.

The sample passes through all steps of a load, into its own table, in a transaction that is always
rolled back: no other session ever sees it, even if this process is killed.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from lakebed.ingest.contract import check
from lakebed.ingest.incremental import Pending
from lakebed.ingest.sources.reader import Batch, Reader, SourceError, SourceItem
from lakebed.ingest.sources.readers import reader_of
from lakebed.ingest.stream import Stream
from lakebed.ingest.writers import target_of
from lakebed.resources.clock import Clock
from lakebed.resources.lake_files import lake_files
from lakebed.resources.postgres import Postgres
from lakebed.resources.settings import Settings
from lakebed.schema.ddl import ensure_table
from lakebed.spec.table import SourceTable

SAMPLE_ROWS = 100_000
PROBED_BYTES = 8 * 2**20
REASONS = 5
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_UNREADABLE = (".zip", ".xz", ".lz4")


@dataclass(frozen=True)
class Estimate:
    """What a load of a whole source would take.

    files, bytes: of the source.  rows: of the source, None where unknown; rows_exact: whether
    they were counted.  sampled: rows that were loaded for it, in sample_seconds; rejected: of
    those, with the most frequent column, kind and rule.  The rest is for all rows: seconds, bytes
    in PostgreSQL with indexes, and bytes of the cold files of a tiered table; None where rows
    are unknown.
    """

    table: str
    files: int
    bytes: int
    rows: int | None
    rows_exact: bool
    sampled: int
    sample_seconds: float
    rejected: int
    reasons: tuple[tuple[str, int], ...]
    seconds: float | None
    hot_bytes: int | None
    cold_bytes: int | None


class _Sample(Reader):
    """The first rows of a source, of as many items as it takes."""

    def __init__(self, reader: Reader, rows: int) -> None:
        """Read at most the given number of rows from reader."""
        self._reader = reader
        self._left = rows
        self.batches_read: list[tuple[SourceItem, Batch]] = []
        self.whole = True

    def find(self) -> list[SourceItem]:
        """Return the items of the source."""
        return self._reader.find()

    def columns(self, item: SourceItem) -> list[str] | None:
        """Return an item's columns."""
        return self._reader.columns(item)

    def types(self, item: SourceItem) -> dict[str, pl.DataType | None]:
        """Return their types."""
        return self._reader.types(item)

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows of an item, as long as the sample is not full."""
        for batch in self._reader.batches(item, columns=columns, newer=newer):
            if not self._left:
                self.whole = False
                return
            cut = batch
            if batch.frame.height > self._left:
                cut = replace(
                    batch,
                    frame=batch.frame.head(self._left),
                    numbers=batch.numbers.head(self._left),
                )
                self.whole = False
            self._left -= cut.frame.height
            self.batches_read.append((item, cut))
            yield cut

    def check_unchanged(self, item: SourceItem) -> None:
        """Do nothing: growth of a file does not affect an estimate."""

    def digest(self, item: SourceItem, count: int) -> str:
        """Return nothing: the sample is not remembered."""
        return ""


def estimate(
    settings: Settings,
    postgres: Postgres,
    clock: Clock,
    table: SourceTable,
    rows: int = SAMPLE_ROWS,
) -> Estimate:
    """Load the first rows of a source for a moment, and say what all of it would take.

    Raises SourceError where there is nothing to read or all of the sample is bad, TableError.
    """
    import lakebed.resources.dlt_pipelines  # noqa: F401  (so that its import is not timed)

    reader = reader_of(table, settings)
    items = reader.find()
    if not items:
        raise SourceError(
            table.require_source.title, "the source is empty, so there is nothing to estimate"
        )
    sample = _Sample(reader, rows)
    seconds, hot = _load(settings, postgres, clock, table, sample, items)
    sampled = sum(b.frame.height + len(b.malformed) for _, b in sample.batches_read)
    if not sampled:
        raise SourceError(table.require_source.title, "it has no row to estimate from")
    reasons, cold = _check(table, sample)
    total, exact = _rows(table, items, sampled, sample)
    share = None if total is None else max(total / sampled, 1.0)
    return Estimate(
        table=table.name,
        files=len(items),
        bytes=sum(item.bytes for item in items),
        rows=total,
        rows_exact=exact,
        sampled=sampled,
        sample_seconds=round(seconds, 3),
        rejected=reasons.total(),
        reasons=tuple(reasons.most_common(REASONS)),
        seconds=None if share is None else round(seconds * share, 3),
        hot_bytes=None if share is None else round(hot * share),
        cold_bytes=None if share is None or cold is None else round(cold * share),
    )


def _load(
    settings: Settings,
    postgres: Postgres,
    clock: Clock,
    table: SourceTable,
    sample: _Sample,
    items: Sequence[SourceItem],
) -> tuple[float, int]:
    """Load a sample into a table that is rolled back; return its seconds and its bytes."""
    name = f"lakebed_estimate_{uuid.uuid4().hex[:12]}"
    scratch = replace(
        table,
        name=name,
        load_by="cursor",
        partitioning=None,
        tiering=None,
        parallel_files=1,
        reject_share=1.0,
    )
    with (
        postgres.connect(autocommit=True) as connection,
        connection.transaction(force_rollback=True),
    ):
        ensure_table(connection, scratch)
        connection.execute("set local lock_timeout = 0")
        stream = Stream(
            settings.home / "dlt",
            lake_files(settings),
            postgres,
            scratch,
            sample,
            started_at=clock.now(),
            cursor=None,
            on_rows=lambda rows: None,
            on_step=lambda step: None,
        )
        started = time.monotonic()
        try:
            stream.run(connection, [Pending(item) for item in items])
        except psycopg.errors.IntegrityError as error:
            raise SourceError(
                table.require_source.title,
                f"its first rows cannot be loaded: {error.diag.message_primary}",
            ) from error
        seconds = time.monotonic() - started
        size = connection.execute(
            sql.SQL("select pg_total_relation_size({}::regclass)").format(
                sql.Literal(target_of(scratch).as_string(connection))
            )
        ).fetchall()[0][0]
    return seconds, int(size)


def _check(table: SourceTable, sample: _Sample) -> tuple[Counter[str], int | None]:
    """Return the reasons of the sample's rejects, and the bytes of a cold file of its good rows."""
    reasons: Counter[str] = Counter()
    good: list[pl.DataFrame] = []
    for item, batch in sample.batches_read:
        checked = check(table, item, batch)
        reasons.update(reject.fault.summary for reject in checked.rejects)
        good.append(checked.good)
    if table.tiering is None or not any(frame.height for frame in good):
        return reasons, None
    sort = [
        n
        for n in table.tiering.sort or (table.require_partitioning.column,)
        if n in good[0].columns
    ]
    frame = pl.concat(good).sort(sort) if sort else pl.concat(good)
    with tempfile.TemporaryDirectory(prefix="lakebed_estimate_") as folder:
        file = Path(folder) / "sample.parquet"
        frame.write_parquet(
            file,
            compression=table.tiering.compression,
            row_group_size=table.tiering.row_group_rows,
        )
        return reasons, file.stat().st_size


def _rows(
    table: SourceTable, items: Sequence[SourceItem], sampled: int, sample: _Sample
) -> tuple[int | None, bool]:
    """Return how many rows the source has, and whether they were counted."""
    if sample.whole:
        return sampled, True
    if not all(Path(item.path).is_file() for item in items):
        return None, False  # in a store or an archive, of which only a reader knows how to open it
    if table.require_source.kind == "parquet":
        return sum(pq.read_metadata(item.path).num_rows for item in items), True
    text = table.require_source.kind in ("csv", "json")
    if not text or any(Path(item.path).suffix in _UNREADABLE for item in items):
        return None, False
    lines = [_lines(item) for item in items]
    return max(sampled, sum(lines)), False


def _lines(item: SourceItem) -> int:
    """Estimate the lines of a text file from its beginning."""
    suffix = Path(item.path).suffix
    with pa.OSFile(item.path) as raw:
        text = pa.CompressedInputStream(raw, _COMPRESSED[suffix]) if suffix in _COMPRESSED else raw
        lines = 0
        while raw.tell() < PROBED_BYTES and (block := text.read(1 << 16)):
            lines += block.count(b"\n")
        return round(lines * item.bytes / raw.tell()) if raw.tell() else 0
