"""Rows as they were read, put aside in files while PostgreSQL has yet to say which of them are bad.

Only for tables of which a row can turn out to be a reject inside the load's transaction: one whose
parent is missing. By then it is shaped, and its source may say something else when asked again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lakebed.ingest.sources.reader import Batch, SourceItem
from lakebed.resources.private import make_private_folder

_NUMBER, _ROW = "number", "row"


@dataclass(frozen=True)
class Part:
    """The rows of one batch of an item. first, last: the least and the greatest row number."""

    item: SourceItem
    first: int
    last: int
    path: Path

    def read(self) -> Batch:
        """Return the batch as it was kept."""
        kept = pl.read_ipc(self.path)
        return Batch(kept[_ROW].struct.unnest(), kept[_NUMBER])


class AsRead:
    """The rows of one load, batch by batch, in a folder."""

    def __init__(self, folder: Path) -> None:
        """Keep them in folder, which is made with the first and removed by the caller."""
        self._folder = folder
        self._parts: list[Part] = []

    def keep(self, item: SourceItem, batch: Batch) -> None:
        """Put the rows of a batch aside."""
        if batch.frame.height == 0:
            return
        make_private_folder(self._folder)
        path = self._folder / f"{len(self._parts):06}.arrow"
        rows = batch.frame.to_struct(_ROW)  # whatever its columns are called
        numbers = batch.numbers.cast(pl.Int64).alias(_NUMBER)
        pl.DataFrame([numbers, rows]).write_ipc(path, compression="lz4")
        self._parts.append(Part(item, int(numbers.min()), int(numbers.max()), path))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Part]:
        """Yield the parts in the order in which they were read."""
        return iter(self._parts)
