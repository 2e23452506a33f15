"""Settled rows from before their table was altered: what they lack of it, and what stands in.

For readers a column that a row is older than is null. PostgreSQL does not take a null where the
column is NOT NULL: a restore puts the column's default there. A label of an enum stays as it was
in the files, whatever becomes of it in the type.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from lakebed.errors import TieringError
from lakebed.resources.postgres import Connection
from lakebed.schema.ddl import HOLDS_NO_NULL
from lakebed.spec.table import SourceTable
from lakebed.tiering.transaction import HotTable


@dataclass(frozen=True)
class MissingColumn:
    """A NOT NULL column that live cold files are older than. partitions: how many.

    default: PostgreSQL's expression, None where the column has none.
    """

    column: str
    default: str | None
    partitions: int


def find_missing_columns(connection: Connection, table: SourceTable) -> list[MissingColumn]:
    """Return the NOT NULL columns that settled rows of a table lack."""
    rows = connection.execute(
        "select attname::text, pg_get_expr(adbin, adrelid), count(*)"
        " from pg_attribute a join lakebed.cold_file f on f.table_name = %s"
        " and superseded_at is null left join pg_attrdef on adrelid = attrelid and adnum = attnum"
        " where attrelid = to_regclass(%s) and attnum > 0 and attnotnull and not attisdropped"
        " and not exists (select from jsonb_array_elements(f.columns) c"
        " where c->>'name' = attname) group by 1, 2, attnum order by attnum",
        [table.name, table.relation.as_string()],
    ).fetchall()
    return [MissingColumn(*row) for row in rows]


def check_labels(partition: HotTable, rows: sql.Composable) -> None:
    """Raise TieringError where settled rows hold labels that their enum has no more.

    rows: DuckDB's query of them.
    """
    for column in partition.table.columns:
        if not column.types.labels:
            continue
        ((there,),) = partition.ask(
            sql.SQL("select enum_range(null::{})::text[]").format(sql.SQL(column.postgres))
        )
        query = sql.SQL("select distinct {0} from ({1}) where {0} not in ({2}) order by 1").format(
            sql.Identifier(column.name), rows, sql.SQL(", ").join(map(sql.Literal, there))
        )
        lost = [label for (label,) in partition.connection.execute(query.as_string()).fetchall()]
        if lost:
            raise TieringError(
                f"{partition}: nothing was restored: settled rows hold {lost[0]!r} in "
                f"{column.name}, a label that {column.postgres} has no more. ALTER TYPE "
                f"{column.postgres} ADD VALUE {sql.Literal(lost[0]).as_string()}, restore, and "
                "UPDATE the rows"
            )


def fill_defaults(partition: HotTable, stage: sql.Identifier) -> None:
    """Put defaults in the place of nulls that the hot table would not take.

    Generated columns are computed, as PostgreSQL does for rows that are inserted.
    stage: the settled rows, in a table of the transaction.  Raises TieringError.
    """
    columns = partition.ask(
        sql.SQL(
            "select attname::text, pg_get_expr(adbin, adrelid),"  # noqa: S608
            f" attnotnull and not {HOLDS_NO_NULL} from pg_attribute"
            " left join pg_attrdef on adrelid = attrelid and adnum = attnum"
            " where attrelid = to_regclass({}) and attnum > 0 and not attisdropped"
            " and (attnotnull or attgenerated <> '') order by attnum"
        ).format(partition.table.oid)
    )
    for name, default, may_hold_nulls in columns:
        null = sql.SQL("{} where {} is null").format(stage, sql.Identifier(name))
        if not partition.ask(sql.SQL("select exists (select from {})").format(null))[0][0]:
            continue
        if may_hold_nulls:
            raise TieringError(
                f"{partition}: nothing was restored: settled rows hold null in {name}, which is "
                "NOT NULL NOT VALID: PostgreSQL keeps such rows and takes none back. ALTER TABLE "
                f"{partition.table.place} ALTER COLUMN {name} DROP NOT NULL, restore, and add the "
                "constraint again"
            )
        if default is None:
            raise TieringError(
                f"{partition}: nothing was restored: settled rows have no {name}, which is NOT "
                f"NULL and has no default. ALTER TABLE {partition.table.place} ALTER COLUMN "
                f"{name} SET DEFAULT ..., which then stands in for it"
            )
        partition.do(
            sql.SQL("update {0} set {1} = {2} where {1} is null").format(
                stage, sql.Identifier(name), sql.SQL(default)
            )
        )
