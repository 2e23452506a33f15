"""Keep rows as they were read, in files, until PostgreSQL has found out which of them are bad.

Only for tables whose rows can become rejects inside the load's transaction, because a parent is
missing. By then the row has been transformed, and reading its source again may give another row.
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
    """The rows of one batch of an item."""

    item: SourceItem
    first: int
    """The least row number."""
    last: int
    """The greatest row number."""
    path: Path

    def read(self) -> Batch:
        """Read the batch back."""
        kept = pl.read_ipc(self.path)
        return Batch(kept[_ROW].struct.unnest(), kept[_NUMBER])


class AsRead:
    """The rows of one load, batch by batch, in a folder."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that the first batch creates and the caller removes."""
        self._folder = folder
        self._parts: list[Part] = []

    def keep(self, item: SourceItem, batch: Batch) -> None:
        """Write the rows of a batch to a file."""
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
