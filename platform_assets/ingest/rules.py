"""The pandera rules of a table on a batch: which rows break which rule.

Each rule is judged by the mask of its check, one value a row, and not by pandera's list of failure
cases, which can be shorter than the rows that failed. Nothing outside of the table file can switch
a rule off: neither the environment nor pandera's settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
from pandera.config import ValidationDepth, config_context, get_config_global, set_config
from pandera.constants import CHECK_OUTPUT_KEY
from pandera.errors import SchemaError, SchemaErrors

from lakebed.errors import LakebedError
from lakebed.spec.table import SourceTable


class WholeBatchError(LakebedError, ValueError):
    """A rule that fails for a batch as a whole, or that cannot be judged; rule: its name."""

    def __init__(self, rule: str, problem: str) -> None:
        """Keep the rule and what is wrong with it."""
        super().__init__(f"the rule {rule} {problem}")
        self.rule = rule


@dataclass(frozen=True)
class Broken:
    """A rule that some rows break. column: None for a rule on several columns.  bad: of each row.

    rule: as people read it, such as greater_than(0).
    """

    column: str | None
    rule: str
    bad: pl.Series


def broken_rules(table: SourceTable, typed: pl.DataFrame) -> list[Broken]:
    """Return the rules of a table's model that rows of a batch break.

    typed: the rows in the types of the contract. Raises WholeBatchError.
    """
    rows = typed.drop(column.name for column in table.evolved)
    schema = table.model.to_schema()
    found = []
    with _full_depth():
        try:
            judged = schema.validate(rows, lazy=True)
        except SchemaErrors as errors:
            found = [_broken(error, rows.height) for error in errors.schema_errors]
        else:
            if judged.height != rows.height:
                raise WholeBatchError("of pandera", f"kept {judged.height} of {rows.height} rows")
    return found + _doubles(schema.unique, rows)


@contextmanager
def _full_depth() -> Iterator[None]:
    """Let pandera judge values, and with its polars backend, whatever the environment says."""
    if get_config_global().use_narwhals_backend:
        set_config(use_narwhals_backend=False)
    with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        yield


def _broken(error: SchemaError, rows: int) -> Broken:
    """Return the rows that fail a check, by its mask. Raises WholeBatchError."""
    rule = _name(error)
    masks = error.check_output
    if not isinstance(masks, pl.DataFrame) or masks.height != rows:
        cases = f": {error.failure_cases}" if isinstance(error.failure_cases, str) else ""
        raise WholeBatchError(rule, f"fails for the batch as a whole{cases}")
    bad = ~masks[CHECK_OUTPUT_KEY].fill_null(False)
    if not bad.any():
        raise WholeBatchError(rule, "fails, and names no row")
    return Broken(error.column_name, rule, bad)


def _name(error: SchemaError) -> str:
    check = error.check
    if check is None or isinstance(check, str):
        return check or "of pandera"
    return str(check.error or check.name or check)


def _doubles(unique: list[str] | list[list[str]] | None, rows: pl.DataFrame) -> list[Broken]:
    """Return the sets of columns, of several, whose values are not unique in a batch.

    pandera stops at the first of several sets.
    """
    several = [names for names in unique or [] if not isinstance(names, str)]
    found = [
        Broken(None, "multiple_fields_uniqueness", rows.select(names).is_duplicated())
        for names in several
    ]
    return [broken for broken in found if broken.bad.any()]
