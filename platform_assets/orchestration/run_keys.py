"""Run keys of deliveries: digests of the files to be loaded and of what the ledger says."""

import hashlib
from collections.abc import Iterable, Sequence

from lakebed.ingest.sources.reader import SourceItem
from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable


def digest(files: Iterable[SourceItem]) -> str:
    """Return a digest of the versions of files."""
    return _short(f"{file.path}\t{file.version}" for file in files)


def delivery_key(connection: Connection, table: SourceTable, new: Sequence[SourceItem]) -> str:
    """Return the run key of files to be loaded: a digest of them and of their ledger entries.

    The same file is another delivery after a load of it, or after that load was undone; loads of
    other files change nothing. A source that is loaded whole is one file as far as this goes.
    """
    if table.loads_whole:
        of_table = _of_table(connection, table)
        return f"{table.name}:{_short([digest(new), *of_table])}"
    last_loads = _of_files(connection, table, [file.name for file in new])
    lines = (f"{file.path}\t{file.version}\t{last_loads.get(file.name, '')}" for file in new)
    return f"{table.name}:{_short(lines)}"


def _of_files(connection: Connection, table: SourceTable, names: list[str]) -> dict[str, str]:
    """Return the last load of each file, and when one of it was last undone."""
    rows = connection.execute(
        "select distinct on (f.path) f.path,"
        " concat_ws(' ', l.load_id, max(l.rolled_back_at) over (partition by f.path))"
        " from lakebed.loaded_file f join lakebed.load l using (load_id)"
        " where f.table_name = %s and f.path = any (%s) order by f.path, l.committed_at desc",
        [table.name, names],
    ).fetchall()
    return dict(rows)


def _of_table(connection: Connection, table: SourceTable) -> list[str]:
    """Return the last load of a table, and when one was last undone; nothing before the first."""
    rows = connection.execute(
        "select concat_ws(' ', load_id, max(rolled_back_at) over ()) from lakebed.load"
        " where table_name = %s order by committed_at desc limit 1",
        [table.name],
    ).fetchall()
    return [told for (told,) in rows]


def _short(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
