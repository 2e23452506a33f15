"""Which columns a table has, and which its rows have on the way there.

The contract says what a source row holds. A lookup puts a surrogate in the place of a natural key,
history adds the time for which a version holds; on the wire a row also says whether it is gone, and
where it was read, for writers that need to know. No I/O.
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
"""How the columns begin that a row has on its way only."""
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

    The surrogate of a parent stands where the first natural column of its lookup stood.
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
            _made(VALID_FROM, MOMENT, False, "from this moment on the version holds"),
            _made(
                VALID_TO, MOMENT, True, "the version holds until before this; null: it still does"
            ),
        ]
    return tuple(columns)


def columns_on_the_wire(
    contract: Sequence[Column],
    needed: Sequence[str],
    deletes: Deletes | None,
    lookups: Sequence[Lookup],
) -> tuple[Column, ...]:
    """Return the columns of the rows that are copied.

    needed: those that a row which is gone must have; of the others it may lack any.
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
