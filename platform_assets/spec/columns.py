"""Derive the columns of a table, and of the rows that a load sends to PostgreSQL. No I/O.

The contract has the columns of a source row. A lookup replaces a natural key by a surrogate, and a
history adds the time for which a version is valid. The rows that a load sends also say whether the
source deleted them, and where a load read them, for writers that need to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from lakebed.spec.policies import Deletes, Lookup, Surrogate
from lakebed.spec.schema import Column
from lakebed.spec.surrogates import surrogate_column
from lakebed.spec.types import type_map

OURS = "lakebed_"
"""The prefix of columns that rows have during a load only."""
GONE = f"{OURS}gone"
SOURCE_FILE = f"{OURS}source_file"
ROW_NUMBER = f"{OURS}row_number"
VALID_FROM = "valid_from"
VALID_TO = "valid_to"

MOMENT = pl.Datetime("us", "UTC")


def columns_in_table(
    contract: Sequence[Column],
    lookups: Sequence[Lookup],
    surrogate: Surrogate | None,
    *,
    history: bool,
) -> tuple[Column, ...]:
    """Return the columns of the table: its own surrogate, and then those of the contract.

    The surrogate of a parent takes the position of the first natural column of its lookup.
    """
    dropped = {name for lookup in lookups if not lookup.keep for name in lookup.natural}
    columns: list[Column] = []
    if surrogate is not None:
        made = "made by PostgreSQL"
        columns.append(surrogate_column(surrogate.column, surrogate.kind, False, made))
    for column in contract:
        columns += [
            _surrogate(contract, lookup)
            for lookup in lookups
            if lookup.natural[:1] == (column.name,)
        ]
        if column.name not in dropped:
            columns.append(column)
    if history:
        columns += [
            _made(VALID_FROM, MOMENT, False, "the version is valid from this moment on"),
            _made(
                VALID_TO, MOMENT, True, "the version is valid before this moment; null: still valid"
            ),
        ]
    return tuple(columns)


def columns_on_the_wire(
    contract: Sequence[Column],
    needed: Sequence[str],
    deletes: Deletes | None,
    lookups: Sequence[Lookup],
) -> tuple[Column, ...]:
    """Return the columns of the rows that a load sends to PostgreSQL.

    Args:
        contract: The columns of a source row.
        needed: The columns that a deleted row must have. Its other columns may be null.
        deletes: How the source marks deleted rows.
        lookups: The lookups of the table.
    """
    columns = list(contract)
    if deletes is not None and deletes.marker is not None:
        columns = [replace(c, nullable=c.nullable or c.name not in needed) for c in columns]
        columns.append(_made(GONE, pl.Boolean(), False, ""))
    if any(not lookup.insert_missing for lookup in lookups):
        columns.append(_made(SOURCE_FILE, pl.String(), False, ""))
        columns.append(_made(ROW_NUMBER, pl.Int64(), False, ""))
    return tuple(columns)


def _surrogate(contract: Sequence[Column], lookup: Lookup) -> Column:
    natural = [column for column in contract if column.name in lookup.natural]
    return surrogate_column(
        lookup.column,
        lookup.key_kind,
        any(column.nullable for column in natural),
        f"{lookup.table}.{lookup.key} of {', '.join(lookup.natural)}",
    )


def _made(name: str, dtype: pl.DataType, nullable: bool, description: str) -> Column:
    return Column(
        name=name,
        polars=dtype,
        types=type_map(name, dtype),
        nullable=nullable,
        unique=False,
        description=description,
        checks=(),
    )
