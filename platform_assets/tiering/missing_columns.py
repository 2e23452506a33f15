"""Handle columns that were added to a table after some of its partitions were moved.

Readers see null in such a column of an older row. PostgreSQL refuses a null where the column is NOT
NULL, so a restore fills in the column's default. Labels of an enum stay in the files as they were
written, even if the type drops them.
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
    """A NOT NULL column that some live cold files do not have. partitions: how many files.

    default: PostgreSQL's expression, None where the column has no default.
    """

    column: str
    default: str | None
    partitions: int


def find_missing_columns(connection: Connection, table: SourceTable) -> list[MissingColumn]:
    """Find the NOT NULL columns that cold files of a table do not have."""
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
    """Raise TieringError if cold rows hold labels that their enum no longer has.

    rows: DuckDB's query of the cold rows.
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
                f"{partition}: nothing was restored: cold rows hold {lost[0]!r} in {column.name}, "
                f"a label that {column.postgres} no longer has. ALTER TYPE {column.postgres} ADD "
                f"VALUE {sql.Literal(lost[0]).as_string()}, restore, and UPDATE the rows"
            )


def fill_defaults(partition: HotTable, stage: sql.Identifier) -> None:
    """Replace nulls that the hot table would refuse by the column's default.

    Generated columns are computed, as PostgreSQL does for inserted rows.
    stage: the cold rows, in a table of the transaction.  Raises TieringError.
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
                f"{partition}: nothing was restored: cold rows hold null in {name}, which is NOT "
                "NULL NOT VALID: PostgreSQL keeps such rows, but refuses to insert them. ALTER "
                "TABLE "
                f"{partition.table.place} ALTER COLUMN {name} DROP NOT NULL, restore, and add the "
                "constraint again"
            )
        if default is None:
            raise TieringError(
                f"{partition}: nothing was restored: cold rows have no {name}, which is NOT NULL "
                f"without a default. ALTER TABLE {partition.table.place} ALTER COLUMN {name} SET "
                "DEFAULT ..., which the restore then uses"
            )
        partition.do(
            sql.SQL("update {0} set {1} = {2} where {1} is null").format(
                stage, sql.Identifier(name), sql.SQL(default)
            )
        )
