"""Explain why a session no longer finds a file of the lake that its snapshot names.

An erasure destroys files at once, and gives readers that began earlier only seconds. Or the lake
belongs to another database, or another program removed the file.
"""

from __future__ import annotations

import duckdb

from lakebed.resources.lake_owner import ForeignLakeError, LakeOwner
from lakebed.resources.postgres import Connection, Postgres, PostgresUnavailableError
from lakebed.resources.read_errors import ErasedError, FileMissingError, LakeReadError

_MISSING_TEXTS = ("No files found that match the pattern", "Cannot open file", "404")
"""What DuckDB says where a file is missing, in a folder and in a bucket."""

_NAMED = """
select path, removed_at is not null from (
    select path, removed_at from lakebed.cold_file
    union all select path, removed_at from lakebed.lake_copy
    union all select path, removed_at from lakebed.model_version where path is not null
    union all select path, removed_at from lakebed.model_file
) named where position(path in %s) > 0 order by (removed_at is null), path limit 1
"""


def explain_missing(
    error: duckdb.Error, postgres: Postgres, owner: LakeOwner
) -> LakeReadError | ForeignLakeError | None:
    """Return the error that explains a missing file, None if the error is of another kind."""
    text = str(error)
    if not any(fragment in text for fragment in _MISSING_TEXTS):
        return None
    try:
        with postgres.connect() as connection:
            named = _named(connection, text)
            if named is None:
                return None  # a file that the query itself names
            path, given_up = named
    except PostgresUnavailableError:
        return None
    if given_up:
        return ErasedError(
            f"{path} was destroyed while the session was open: rows in it were erased, and an "
            "erasure gives earlier readers five seconds. Open another session and query again: it "
            "reads the remaining rows"
        )
    problem = owner.problem()
    if problem is not None:
        return ForeignLakeError(problem)
    return FileMissingError(
        f"{path} is missing in the lake, although the manifest names it. `lakebed verify` names "
        "all that are missing; bring them back from a backup of the lake"
    )


def _named(connection: Connection, text: str) -> tuple[str, bool] | None:
    """Return the path of the manifest that a text names, and whether it was given up."""
    rows = connection.execute(_NAMED.encode(), [text]).fetchall()
    return (str(rows[0][0]), bool(rows[0][1])) if rows else None
