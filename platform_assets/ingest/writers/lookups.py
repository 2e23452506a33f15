"""Lookups: natural keys in the stage become the surrogate keys of other tables, set by set."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from lakebed.ingest.contract import rejects_at
from lakebed.ingest.writers.writer import LoadStamp, RelatedRowsError, names
from lakebed.resources.postgres import Connection
from lakebed.spec.columns import GONE, ROW_NUMBER, SOURCE_FILE
from lakebed.spec.table import Lookup, SourceTable
from lakebed.store.rejects import Fault, RejectKind

Parent = tuple[str, tuple[str, ...]]
"""A table and its natural key."""

_MISSING = sql.Identifier("lakebed_missing")


def parent_of(lookup: Lookup) -> sql.Identifier:
    """Return the parent in PostgreSQL."""
    return sql.Identifier("public", lookup.table)


def insert_missing(connection: Connection, table: SourceTable, stage: sql.Identifier) -> None:
    """Insert the parents that rows of the stage name and that are not there yet.

    In the order of the tables and of their natural keys, one statement a parent, so that two loads
    that need the same parents wait for each other and never both.
    """
    for (name, natural_key), lookups in sorted(_by_parent(table).items()):
        wanted = sql.SQL(" union ").join(
            sql.SQL("select {} from {} where {}").format(
                sql.SQL(", ").join(
                    sql.SQL("{} as {}").format(sql.Identifier(one), sql.Identifier(other))
                    for one, other in zip(lookup.natural, natural_key, strict=True)
                ),
                stage,
                _has_parent(table, lookup),
            )
            for lookup in lookups
        )
        connection.execute(
            sql.SQL(
                "insert into {parent} ({key}) select {key} from ({wanted}) as wanted"
                " where not exists (select from {parent} as parent where {same})"
                " order by {key} on conflict ({key}) do nothing"
            ).format(
                parent=sql.Identifier("public", name),
                key=names(natural_key),
                wanted=wanted,
                same=_equal(zip(natural_key, natural_key, strict=True), "wanted"),
            )
        )


def reject_missing(
    connection: Connection, table: SourceTable, stage: sql.Identifier, load: LoadStamp, rows: int
) -> int:
    """Take rows whose parent is missing and may not be made into the quarantine; count them.

    Raises RelatedRowsError where they are more of the rows than the table allows.
    """
    if not table.rejects_missing_parents:
        return 0
    connection.execute(
        sql.SQL(
            "create temporary table {} (source_file text, row_number bigint, kind text,"
            " rule text, column_name text, message text) on commit drop"
        ).format(_MISSING)
    )
    rejected = 0
    for lookup in table.lookups:
        if lookup.insert_missing:
            continue
        rejected += connection.execute(_removal(table, lookup, stage)).rowcount
        if rejected > table.reject_share * rows:
            raise RelatedRowsError(
                f"{table.name}: {rejected} of {rows} rows name {' and '.join(lookup.natural)} that "
                f"no row of {lookup.table} has, more than the {table.reject_share:.1%} that "
                f"{table.name} allows; nothing was loaded. Load {lookup.table} first, or let the "
                "lookup insert what is missing (insert_missing=True)"
            )
    if rejected:
        _quarantine(connection, load)
    return rejected


def _quarantine(connection: Connection, load: LoadStamp) -> None:
    """Give the rows that were taken out to the quarantine, as they were read."""
    connection.execute(sql.SQL("create index on {} (row_number)").format(_MISSING))
    connection.execute(sql.SQL("analyze {}").format(_MISSING))
    query = sql.SQL(
        "select row_number, kind, rule, column_name, message from {}"
        " where source_file = %s and row_number between %s and %s"
    ).format(_MISSING)
    for part in load.as_read:
        found = connection.execute(query, [part.item.path, part.first, part.last]).fetchall()
        bad = {number: Fault(RejectKind(kind), *what) for number, kind, *what in found}
        if bad:
            load.quarantine(rejects_at(part.item, part.read(), bad))


def joined(table: SourceTable) -> tuple[dict[str, sql.Composable], sql.Composable]:
    """Return the surrogates as columns of joins to the stage, by name, and the joins."""
    found: dict[str, sql.Composable] = {}
    joins: list[sql.Composable] = []
    for number, lookup in enumerate(table.lookups):
        alias = f"lakebed_parent_{number}"
        found[lookup.column] = sql.SQL("{} as {}").format(
            sql.Identifier(alias, lookup.key), sql.Identifier(lookup.column)
        )
        joins.append(
            sql.SQL(" left join {} as {} on {}").format(
                parent_of(lookup),
                sql.Identifier(alias),
                _equal(zip(lookup.natural_key, lookup.natural, strict=True), "stage", alias),
            )
        )
    return found, sql.SQL("").join(joins)


def _by_parent(table: SourceTable) -> dict[Parent, list[Lookup]]:
    parents: dict[Parent, list[Lookup]] = {}
    for lookup in table.lookups:
        if lookup.insert_missing:
            parents.setdefault((lookup.table, lookup.natural_key), []).append(lookup)
    return parents


def _removal(table: SourceTable, lookup: Lookup, stage: sql.Identifier) -> sql.Composed:
    """Return what takes rows without a parent out of the stage, and notes where they were read."""
    text = sql.SQL(" || ', ' || ").join(
        sql.SQL("quote_literal({})").format(sql.Identifier("removed", name))
        for name in lookup.natural
    )
    return sql.SQL(
        "with removed as (delete from {stage} as stage where {has_parent}"
        " and not exists (select from {parent} as parent where {same}) returning stage.*)"
        " insert into {missing} select {file}, {number}, {kind}, {rule},"
        " {column}, {why} || ' (it is ' || {text} || ')' from removed"
    ).format(
        missing=_MISSING,
        stage=stage,
        has_parent=_has_parent(table, lookup),
        parent=parent_of(lookup),
        same=_equal(zip(lookup.natural_key, lookup.natural, strict=True), "stage"),
        file=sql.Identifier(SOURCE_FILE),
        number=sql.Identifier(ROW_NUMBER),
        kind=sql.Literal(str(RejectKind.MISSING_PARENT)),
        rule=sql.Literal(lookup.table),
        column=sql.Literal(lookup.natural[0]),
        why=sql.Literal(f"{', '.join(lookup.natural)}: no row of {lookup.table} has it"),
        text=text,
    )


def _has_parent(table: SourceTable, lookup: Lookup) -> sql.Composable:
    """Return the condition that a row names a parent: no null, and it is not a row that is gone."""
    conditions = [sql.SQL("{} is not null").format(sql.Identifier(n)) for n in lookup.natural]
    if table.marker is not None:
        conditions.append(sql.SQL("not {}").format(sql.Identifier(GONE)))
    return sql.SQL(" and ").join(conditions)


def _equal(pairs: Iterable[tuple[str, str]], other: str, parent: str = "parent") -> sql.Composable:
    return sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(sql.Identifier(parent, one), sql.Identifier(other, two))
        for one, two in pairs
    )
