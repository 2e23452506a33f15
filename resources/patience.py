"""How long Lakebed waits for other processes, and how often it retries. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Limits of waiting, in seconds; a part of the settings."""

    for_other_load: float = 60.0
    """How long a load waits for another load of the same rows."""
    for_lake_copy: float = 60.0
    """How long the writer of a lake copy waits for another one of the same table."""
    for_catalog_file: float = 30.0
    """How long the writer of the catalog file waits for another one."""
    for_readers: float = 5.0
    """How long an erasure waits for readers whose snapshot names a file that goes."""
    for_movers: float = 30.0
    """How long an erasure waits for movers that began before it."""
    erase_passes: int = 20
    """How often an erasure searches for rows that other sessions added."""
    attempts: int = 5
    """How often a change of one partition is tried if other sessions write the same rows."""


PATIENCE = Patience()
"""The default limits."""
