"""Policy: which partitions are due. Pure; the time is a parameter."""

from __future__ import annotations

from datetime import datetime, timedelta

from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable


def due(table: SourceTable, now: datetime, hot_for: timedelta | None = None) -> list[Window]:
    """Return the windows that should be cold: those whose end is hot_for old or older, in order.

    hot_for defaults to the table's own. Raises TableError for a table without tiering.
    """
    patience = table.require_tiering.hot_for if hot_for is None else hot_for
    return [window for window in table.windows(now) if window.upper <= now - patience]
