"""Holding a lock of Lakebed's, as another process would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lakebed.resources.locks import move_lock
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import Platform


@contextmanager
def move_held(platform: Platform, table: str, key: str) -> Iterator[None]:
    """Hold the lock that a move of the partition needs, on a connection of its own."""
    lock = move_lock(table, window_for_key(platform.table(table).require_partitioning.grain, key))
    with platform.postgres.connect(autocommit=True) as other, lock.held(other):
        yield
