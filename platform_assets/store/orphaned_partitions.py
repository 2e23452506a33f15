"""What has settled of a table whose file declares no tiering any more: nobody looks after it."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from lakebed.spec.table import SourceTable
from lakebed.store.grain_mismatch import NAMED, Ask

DECLARE_OR_RESTORE = (
    "Declare partitioning and tiering again, as they were; to be without, then bring the rows back "
    "with `lakebed restore`, or keep a copy with `lakebed export`, before you take them out"
)


def find_orphaned_partitions(ask: Ask, table: SourceTable) -> list[str]:
    """Return the keys of the live partitions of a table that declares no tiering, in order."""
    if table.tiering is not None:
        return []
    query = sql.SQL(
        "select partition_key from lakebed.cold_file where table_name = {}"
        " and superseded_at is null order by lower_bound"
    ).format(table.name)
    return [key for (key,) in ask(query)]


def describe_orphaned_partitions(keys: Sequence[str]) -> str:
    """Say what is wrong, for people."""
    named = ", ".join(keys[:NAMED])
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return (
        f"partitions have settled ({named}{more}), and the table file declares no tiering any "
        "more: nothing folds, restores or expires them"
    )
