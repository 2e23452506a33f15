"""Column lineage: which columns of which tables a column of a model is computed from.

sqlglot follows the columns through the SQL. What only chooses or orders rows (a join's condition,
a filter, a grouping) is no lineage of a column that is selected beside it.
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
    """Return for each column of the model the columns that it is computed from, one step up.

    schemas: the columns of all that the model reads, name -> column -> type; where the model itself
    is among them, its columns there are the ones that are answered for.
    A column that cannot be traced, or comes from no column (count(*)), has an empty list.
    """
    own = schemas.get(model.name)
    traced = _trace(model, schemas)
    if own is None:
        return traced
    by_folded = {name.casefold(): found for name, found in traced.items()}
    return {name: by_folded.get(name.casefold(), []) for name in own}


def source_lineage(models: ModelSet, schemas: Columns) -> dict[str, Lineage]:
    """Return the lineage of every model's columns, followed through the models.

    It ends at source tables and seeds.
    """
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
    # DuckDB's names ignore case, and sqlglot folds them; answers have the catalogue's spelling.
    return {
        UpstreamColumn(table.casefold(), column.casefold()): UpstreamColumn(table, column)
        for table, columns in schemas.items()
        for column in columns
    }
