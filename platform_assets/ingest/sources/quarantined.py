"""The quarantine as a source: rejected rows are read again as they were read at first.

An item is the waiting rows of one source file that have the same columns. A row's number is its
rejected_row_id, by which the load's transaction finds the rows that leave the quarantine.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import polars as pl

from lakebed.ingest.quarantine import decode, texts_of
from lakebed.ingest.sources.reader import BATCH_ROWS, Batch, Reader, SourceItem
from lakebed.ingest.writers import LoadConflictError
from lakebed.resources.postgres import Connection, Postgres
from lakebed.spec.sources import RejectedRows
from lakebed.store.rejects import Reject, line_key

ROWS_A_BATCH = min(BATCH_ROWS, 20_000)

_WAITING = """\
table_name = %(table)s and resolved_by is null
and (%(load)s::text is null or load_id = %(load)s)
and (%(column)s::text is null or column_name = %(column)s)
and (%(kind)s::text is null or kind = %(kind)s)
and not (column_name is null and source_row ? %(line)s
         and (select count(*) = 1 from jsonb_object_keys(source_row)))"""
_GROUP = """\
source_file, array(select jsonb_object_keys(source_row) order by 1), source_types::text"""


class QuarantineReader(Reader):
    """Reads RejectedRows."""

    moves_cursor = False

    def __init__(self, source: RejectedRows, postgres: Postgres) -> None:
        """Read the rows of source that wait in the quarantine of postgres."""
        self._postgres = postgres
        self._filter = {
            "table": source.table,
            "load": source.load_id,
            "column": source.column,
            "kind": source.reject_kind,
            "line": line_key(source.columns),
        }
        self._groups: dict[SourceItem, tuple[str, list[str], str | None]] = {}
        self._read: dict[SourceItem, list[pl.DataFrame]] = {}

    def find(self) -> list[SourceItem]:
        """Return the files that have rows waiting; each try has items of its own."""
        with self._postgres.connect() as connection:
            groups = connection.execute(
                f"select {_GROUP} from lakebed.rejected_row where {_WAITING}"  # noqa: S608
                " group by 1, 2, 3 order by 1, 2, 3",
                self._filter,
            ).fetchall()
        try_id = uuid.uuid4().hex
        for number, (file, columns, types) in enumerate(groups):
            name = f"quarantine/{try_id}/{number}/{file}"
            item = SourceItem(f"rejected rows of {file} ({number})", f"0-{try_id}", 0, name)
            self._groups[item] = (file, columns, types)
        return list(self._groups)

    def columns(self, item: SourceItem) -> list[str]:
        """Return the columns that the rows were read with."""
        return self._groups[item][1]

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows as they were read, in the order in which they were rejected."""
        file, keys, types = self._groups[item]
        kinds = json.loads(types) if types else {}
        self._read[item] = []
        query = (
            "select rejected_row_id, xmin::text::bigint, source_row::text"  # noqa: S608
            f" from lakebed.rejected_row where {_WAITING} and ({_GROUP}) is not distinct from"
            " (%(file)s::text, %(keys)s::text[], %(types)s::text) order by rejected_row_id"
        )
        given = self._filter | {"file": file, "keys": keys, "types": types}
        with (
            self._postgres.connect() as connection,
            connection.cursor(name="lakebed_waiting") as cursor,
        ):
            cursor.execute(query, given)
            while found := cursor.fetchmany(ROWS_A_BATCH):
                ids, versions, rows = zip(*found, strict=True)
                numbers = pl.Series(ids, dtype=pl.Int64)
                self._read[item].append(
                    pl.DataFrame({"id": numbers, "version": pl.Series(versions, dtype=pl.Int64)})
                )
                texts = texts_of(columns, kinds)
                yield Batch(decode(rows, columns, kinds), numbers, texts=texts)

    def check_unchanged(self, item: SourceItem) -> None:
        """Do nothing: `settle` checks the rows in the load's own transaction."""

    def keep(self, connection: Connection, rejects: Sequence[Reject]) -> Sequence[Reject]:
        """Put aside which rows are still bad, and why; none of them is new."""
        connection.execute(
            "create temporary table if not exists lakebed_still_bad (rejected_row_id bigint,"
            " kind text, rule text, column_name text, message text) on commit drop"
        )
        statement = "copy lakebed_still_bad from stdin"
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for reject in rejects:
                fault = reject.fault
                copy.write_row(
                    (reject.row_number, fault.kind, fault.rule, fault.column, fault.message)
                )
        return []

    def settle(self, connection: Connection, load_id: str, items: Collection[SourceItem]) -> None:
        """Resolve the rejects that are loaded now; give the remaining ones their new reason.

        Raises LoadConflictError where a row was changed, or resolved, since it was read.
        """
        self.keep(connection, [])
        connection.execute(
            "create temporary table lakebed_retried (rejected_row_id bigint, version bigint)"
            " on commit drop"
        )
        expected = 0
        with connection.cursor() as cursor, cursor.copy("copy lakebed_retried from stdin") as copy:
            for frame in (part for item in items for part in self._read.get(item, [])):
                for row in frame.iter_rows():
                    copy.write_row(row)
                expected += frame.height
        unchanged = connection.execute(
            "select count(*) from (select from lakebed.rejected_row r join lakebed_retried t"
            " using (rejected_row_id) where r.resolved_by is null"
            " and r.xmin::text::bigint = t.version for update of r) as locked"
        ).fetchall()[0][0]
        if unchanged != expected:
            raise LoadConflictError(
                f"{self._filter['table']}: {expected - unchanged} of the rejected rows "
                "were changed while they were loaded again; nothing was changed here, run the "
                "retry again",
            )
        connection.execute(
            "update lakebed.rejected_row r set resolved_by = %s, resolved_at = clock_timestamp()"
            " from lakebed_retried t where t.rejected_row_id = r.rejected_row_id"
            " and r.rejected_row_id not in (select rejected_row_id from lakebed_still_bad)",
            [load_id],
        )
        connection.execute(
            "update lakebed.rejected_row r set kind = b.kind, rule = b.rule,"
            " column_name = b.column_name, message = b.message"
            " from lakebed_still_bad b where b.rejected_row_id = r.rejected_row_id"
            " and (r.kind, r.rule, r.column_name, r.message)"
            " is distinct from (b.kind, b.rule, b.column_name, b.message)"
        )
