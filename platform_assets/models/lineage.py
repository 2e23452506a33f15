"""Find the lineage of columns: the table columns that a model's column is computed from.

sqlglot follows the columns through the SQL. Expressions that only choose or order rows (a join
condition, a filter, a grouping) do not count as lineage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.schema import MappingSchema

from lakebed.models.model import Model, ModelSet
from lakebed.models.queries import DIALECT, parse_query

Columns = Mapping[str, Mapping[str, str]]


class UpstreamColumn(NamedTuple):
    """A column of a source table or of a model."""

    table: str
    column: str


Lineage = dict[str, list[UpstreamColumn]]


def column_lineage(model: Model, schemas: Columns) -> Lineage:
    """Return the columns that each column of a model is computed from, one step up.

    A column that cannot be traced, or has no origin such as count(*), has an empty list.

    Args:
        model: The model.
        schemas: Name -> column -> type of all inputs of the model. If it has an entry for the
            model itself, the result covers the columns of that entry.
    """
    own = schemas.get(model.name)
    traced = _trace(model, schemas)
    if own is None:
        return traced
    by_folded = {name.casefold(): found for name, found in traced.items()}
    return {name: by_folded.get(name.casefold(), []) for name in own}


def source_lineage(models: ModelSet, schemas: Columns) -> dict[str, Lineage]:
    """Return the lineage of every model's columns back to source tables and seeds."""
    seeds = {model.name for model in models.models if model.materialized == "seed"}
    answer: dict[str, Lineage] = {}
    for model in models.models:
        answer[model.name] = {
            column: sorted({origin for step in steps for origin in _origins(step, answer, seeds)})
            for column, steps in column_lineage(model, schemas).items()
        }
    return answer


def _origins(
    step: UpstreamColumn, known: Mapping[str, Lineage], seeds: Collection[str]
) -> list[UpstreamColumn]:
    if step.table not in known or step.table in seeds:
        return [step]
    return known[step.table].get(step.column, [])


def _trace(model: Model, schemas: Columns) -> Lineage:
    query = parse_query(model.sql, model.path, model.line_of)
    # Only names are followed, so sqlglot need not know every type of DuckDB.
    schema = MappingSchema(
        {name: dict.fromkeys(columns, "UNKNOWN") for name, columns in schemas.items()},
        dialect=DIALECT,
    )
    try:
        scope = build_scope(
            qualify(
                query,
                dialect=DIALECT,
                schema=schema,
                validate_qualify_columns=False,
                identify=False,
            )
        )
    except SqlglotError:
        scope = None
    if scope is None or not isinstance(scope.expression, exp.Query):
        return {}
    written = _names_as_written(schemas)
    return {
        name: _trace_column(name, scope, schema, written)
        for name in scope.expression.named_selects
        if name != "*"
    }


def _trace_column(
    name: str, scope: Scope, schema: MappingSchema, written: Mapping[UpstreamColumn, UpstreamColumn]
) -> list[UpstreamColumn]:
    try:
        tree = lineage(
            exp.column(name, quoted=True),
            scope.expression,
            schema,
            scope=scope,
            dialect=DIALECT,
            copy=False,
            trim_selects=False,
        )
    except SqlglotError:
        return []
    return sorted({written[leaf] for leaf in _leaves(tree) if leaf in written})


def _leaves(tree: Node) -> Iterator[UpstreamColumn]:
    for node in tree.walk():
        if isinstance(node.expression, exp.Table):
            column = exp.to_column(node.name).name
            yield UpstreamColumn(node.expression.name.casefold(), column.casefold())


def _names_as_written(schemas: Columns) -> dict[UpstreamColumn, UpstreamColumn]:
    # DuckDB ignores the case of names, and sqlglot lowers it; results have the catalog's spelling.
    return {
        UpstreamColumn(table.casefold(), column.casefold()): UpstreamColumn(table, column)
        for table, columns in schemas.items()
        for column in columns
    }
