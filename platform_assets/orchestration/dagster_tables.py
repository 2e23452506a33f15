"""Tables in Dagster: a contract's columns, and rows of findings, as its UI shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from lakebed.spec.table import SourceTable


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


def source_schema(table: SourceTable) -> dg.TableSchema:
    """Return the columns that are read of the source, by its names; the contract's types.

    Where a column is made of others its type is not that of any of them, and none is shown.
    """
    contract = {column.name: column for column in table.contract}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, contract[name].postgres, contract[name].description or None)
            if name in contract and name not in table.transforms
            else dg.TableColumn(name, "as delivered")
            for name in table.source_columns
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
