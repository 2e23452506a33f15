"""Tables in Dagster: a contract's columns, and rows of findings, as its UI shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from platform_assets.catalog import SourceTable


def table_schema(table: SourceTable) -> dg.TableSchema:
    """Return the contract's columns as Dagster shows them: types, rules, descriptions."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.postgres,
                description=column.description or None,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable,
                    unique=column.unique or table.key == (column.name,),
                    other=list(column.checks),
                ),
            )
            for column in table.columns
        ]
    )


def metadata_table(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dg.TableMetadataValue:
    """Return rows as a table of the named columns."""
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(name, "int" if rows and isinstance(rows[0][name], int) else "string")
            for name in names
        ]
    )
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows], schema=schema)
