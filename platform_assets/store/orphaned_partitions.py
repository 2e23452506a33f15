"""Find cold partitions of tables that no longer declare tiering."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from lakebed.spec.table import SourceTable
from lakebed.store.grain_mismatch import NAMED, Ask

DECLARE_OR_RESTORE = (
    "Declare partitioning and tiering as they were. To end tiering, first run `lakebed restore`, "
    "or keep a copy with `lakebed export`, and remove the declaration then"
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
        f"partitions are cold ({named}{more}), and the table file no longer declares tiering: "
        "nothing compacts, restores or expires them"
    )
