"""How long Lakebed waits for others, and how often it tries again. Pure."""

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
    """How often an erasure looks again for rows that others brought in."""
    attempts: int = 5
    """How often a change of one partition is tried where others write the same rows."""


PATIENCE = Patience()
"""What holds where nothing else is said."""
