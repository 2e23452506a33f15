"""Record what a rollback of a load needs: its writes, and the earlier versions of rows.

The xmin of rows identifies those that a load wrote. So each write inserts a row into
`lakebed.load_write`, in the same transaction or savepoint: it carries the same xmin. Rows that a
load updates or deletes are kept, with the xmin they had, in `lakebed_undo."<load_id>"`, for as many
loads as the table file says (undo_loads).
"""

from __future__ import annotations

from psycopg import sql

from lakebed.ingest.writers.writer import LoadStamp, target_of
from lakebed.resources.postgres import Connection
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable
from lakebed.store.undo_tables import undo_name

WAS = "lakebed_xmin"
"""The column of a kept row that says which transaction had written it."""
RETURNING_OLD_NEW_VERSION = 180_000
"""The first server version whose RETURNING has the old and the new row of an update."""


class Undo:
    """The undo records of one load. Each write goes through it or is reported to it."""

    def __init__(self, connection: Connection, table: SourceTable, load: LoadStamp) -> None:
        """Keep for load what is needed to undo it, on connection, which is in a transaction."""
        self._connection = connection
        self._table = table
        self._load = load
        self._columns: tuple[str, ...] | None = None

    @property
    def keeps(self) -> bool:
        """Whether rows that are updated or deleted are kept."""
        return self._table.undo_loads > 0

    @property
    def name(self) -> sql.Identifier:
        """The table of the rows that are kept."""
        return undo_name(self._load.load_id)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that are stored, those that no contract knows of included."""
        if self._columns is None:
            self._columns = stored_columns(self._connection, self._table)
        return self._columns

    def old(self, relation: str) -> sql.Composable:
        """Return the columns of a row that is to be kept, of a relation that has system columns."""
        parts: list[sql.Composable] = [sql.Identifier(relation, name) for name in self.columns]
        parts.append(
            sql.SQL("{} as {}").format(sql.Identifier(relation, "xmin"), sql.Identifier(WAS))
        )
        return sql.SQL(", ").join(parts)

    @property
    def kept(self) -> sql.Composable:
        """The names of the columns that are kept."""
        return sql.SQL(", ").join(sql.Identifier(name) for name in (*self.columns, WAS))

    def make(self) -> None:
        """Make the table of the rows that are kept, if it is missing."""
        self._connection.execute(
            sql.SQL("create table if not exists {} as select {} from {} as hot limit 0").format(
                self.name, self.old("hot"), target_of(self._table)
            )
        )

    def wrote(self, written: int, *, changed: int = 0) -> None:
        """Enter a write, in the transaction or savepoint that it was made in.

        written: rows inserted, and new versions of rows updated.  changed: rows updated or deleted.
        """
        enter_write(self._connection, self._load.load_id, written, changed)

    def delete(self, condition: sql.Composable, source: sql.Composable | None = None) -> int:
        """Delete rows of the table, as hot, and keep them; return how many.

        source: another relation that the condition speaks of.
        """
        using = sql.SQL("") if source is None else sql.SQL(" using {}").format(source)
        statement = sql.SQL("delete from {} as hot{} where {}").format(
            target_of(self._table), using, condition
        )
        if self.keeps:
            self.make()
            # In one statement: rows inserted concurrently are neither kept nor deleted.
            statement = sql.SQL(
                "with gone as ({} returning {}) insert into {} select * from gone"
            ).format(statement, self.old("hot"), self.name)
        deleted = self._connection.execute(statement).rowcount
        self.wrote(0, changed=deleted)
        return deleted

    def update(
        self,
        values: sql.Composable,
        condition: sql.Composable,
        source: sql.Composable | None = None,
    ) -> int:
        """Update rows of the table, as hot, and keep what they were; return how many."""
        more = sql.SQL("") if source is None else sql.SQL(" from {}").format(source)
        statement = sql.SQL("update {} as hot set {}{} where {}").format(
            target_of(self._table), values, more, condition
        )
        if self.keeps:
            self.make()
            if self._connection.info.server_version >= RETURNING_OLD_NEW_VERSION:
                statement = sql.SQL(
                    "with changed as ({} returning {}) insert into {} select * from changed"
                ).format(statement, self.old("old"), self.name)
            else:
                other = sql.SQL("") if source is None else sql.SQL(", {}").format(source)
                self.keep(
                    sql.SQL("{} as hot{} where {}").format(target_of(self._table), other, condition)
                )
        updated = self._connection.execute(statement).rowcount
        self.wrote(updated, changed=updated)
        return updated

    def keep(self, relation: sql.Composable, before: sql.Composable | None = None) -> None:
        """Keep rows of the table that are about to be updated, locked against other changes.

        relation: what follows FROM; the table in it is called hot.  before: its WITH clause.
        """
        self._connection.execute(
            sql.SQL("{}insert into {} select {} from {} for no key update of hot").format(
                before or sql.SQL(""), self.name, self.old("hot"), relation
            )
        )

    def delete_cold(
        self, cold: sql.Composable, overridden: sql.Composable, condition: sql.Composable
    ) -> int:
        """Insert tombstones for cold rows; return how many of them readers saw until now.

        cold: a relation with the table's key, of rows in the cold tier.  overridden: its column
        that says that a hot row stood for the cold one.  condition: which rows, of it as cold.
        """
        entered, seen = self._connection.execute(
            sql.SQL(
                "with gone as (select {key}, cold.{overridden} from {cold} as cold where {which}),"
                " entered as (insert into lakebed.cold_delete (table_name, key, moment, load_id)"
                " select {name}, (select to_jsonb(k) from (select {key_of_gone}) k), gone.{time},"
                " {load} from gone)"
                " select count(*), count(*) filter (where not {overridden}) from gone"
            ).format(
                key=sql.SQL(", ").join(sql.Identifier("cold", name) for name in self._table.key),
                key_of_gone=sql.SQL(", ").join(
                    sql.Identifier("gone", name) for name in self._table.key
                ),
                overridden=overridden,
                cold=cold,
                which=condition,
                name=self._table.name,
                time=sql.Identifier(self._table.require_partitioning.column),
                load=self._load.load_id,
            )
        ).fetchall()[0]
        if entered:
            self._connection.execute(
                "update lakebed.load set cold_deletes = cold_deletes + %s where load_id = %s",
                [entered, self._load.load_id],
            )
        return int(seen)

    def supersede(self, window: Window) -> None:
        """Supersede the live cold generation of a partition, if there is one; remember which.

        Its tombstones go with it.
        """
        self._connection.execute(
            "with live as (update lakebed.cold_file set superseded_at = clock_timestamp()"
            " where table_name = %s and partition_key = %s and lower_bound = %s"
            " and upper_bound = %s and superseded_at is null"
            " returning table_name, partition_key, generation)"
            " insert into lakebed.load_superseded select %s, * from live",
            [self._table.name, window.key, window.lower, window.upper, self._load.load_id],
        )
        self._connection.execute(
            "with gone as (delete from lakebed.cold_delete where table_name = %s"
            " and moment >= %s and moment < %s returning *)"
            " insert into lakebed.load_cold_delete select %s, gone.* from gone",
            [self._table.name, window.lower, window.upper, self._load.load_id],
        )

    def finish(self) -> None:
        """Drop what was kept in vain, and what loads too long ago kept."""
        kept = is_kept(self._connection, self._load.load_id)
        if kept and not self._any():
            self._drop(self._load.load_id)
            kept = False
        older = self._connection.execute(
            "select l.load_id from lakebed.load l join pg_class c on c.relname = l.load_id"
            " and c.relnamespace = 'lakebed_undo'::regnamespace"
            " where l.table_name = %s and l.load_id <> %s order by l.committed_at desc offset %s",
            [self._table.name, self._load.load_id, self._table.undo_loads - kept],
        ).fetchall()
        # In one order, so that two loads that drop the same ones never wait for each other.
        for load_id in sorted(row[0] for row in older):
            self._drop(load_id)

    def _any(self) -> bool:
        query = sql.SQL("select exists (select from {})").format(self.name)
        return bool(self._connection.execute(query).fetchall()[0][0])

    def _drop(self, load_id: str) -> None:
        self._connection.execute(sql.SQL("drop table if exists {}").format(undo_name(load_id)))


def is_kept(connection: Connection, load_id: str) -> bool:
    """Whether there is a table of what a load updated or deleted."""
    query = "select to_regclass('lakebed_undo.' || quote_ident(%s)) is not null"
    return bool(connection.execute(query, [load_id]).fetchall()[0][0])


def enter_write(connection: Connection, load_id: str, written: int, changed: int) -> str:
    """Enter a write of a load into the ledger; return the xmin that it and its rows carry."""
    ((number, xid),) = connection.execute(
        "insert into lakebed.load_write (load_id, written, changed) values (%s, %s, %s)"
        " returning load_write_id, xmin::text",
        [load_id, written, changed],
    ).fetchall()
    connection.execute(
        "update lakebed.load_write set xid = %s where load_write_id = %s", [xid, number]
    )
    return str(xid)


def stored_columns(connection: Connection, table: SourceTable) -> tuple[str, ...]:
    """Return the columns of a table in PostgreSQL, without those that are computed."""
    rows = connection.execute(
        "select attname::text from pg_attribute"
        " where attrelid = to_regclass('public.' || quote_ident(%s))"
        " and attnum > 0 and not attisdropped and attgenerated = '' order by attnum",
        [table.name],
    ).fetchall()
    return tuple(row[0] for row in rows)
