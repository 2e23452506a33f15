"""What a move did, for people, checks and metadata."""

from __future__ import annotations

from dataclasses import dataclass, field

from lakebed.store.fingerprint import Fingerprint


@dataclass(frozen=True)
class Moved:
    """What a move did.

    rows: of the new generation's file, 0 if no file was written: no work, or no row is left.
    rows_in_file: rows of the partition's file now, whichever move wrote it.
    moved: hot rows that went into it.
    overridden: cold rows that did not, as a hot row replaced them or a tombstone hid them.
    deletes: tombstones that were applied.
    """

    table: str
    partition_key: str
    generation: int = 0
    path: str | None = None
    rows: int = 0
    rows_in_file: int = 0
    moved: int = 0
    overridden: int = 0
    deletes: int = 0
    bytes: int = 0
    seconds: float = 0.0
    fingerprint: Fingerprint | None = field(default=None, repr=False)
