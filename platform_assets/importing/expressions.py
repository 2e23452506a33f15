"""Translate expressions of a source database to PostgreSQL, and refuse what does not translate.

The text goes into DDL, so only a single expression passes, made of columns of the table, constants,
operators and functions that both databases have. Subqueries and unknown functions are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakebed.errors import LakebedError

_FUNCTIONS = (
    exp.Abs,
    exp.Cast,
    exp.Coalesce,
    exp.CurrentDate,
    exp.CurrentTime,
    exp.CurrentTimestamp,
    exp.Length,
    exp.Lower,
    exp.Round,
    exp.Substring,
    exp.Trim,
    exp.Upper,
    exp.Nullif,
    exp.Case,
    exp.If,
    exp.Connector,
    exp.Greatest,
    exp.Least,
)
"""Functions that mean the same in SQLite, DuckDB and PostgreSQL."""

_REFUSED = (exp.Query, exp.Command, exp.DDL, exp.DML, exp.Window, exp.AggFunc, exp.Placeholder)


class UntranslatableError(LakebedError, ValueError):
    """An expression that has no safe translation; the text says what is in the way."""


def translate(
    text: str,
    dialect: str,
    names: Mapping[str, str],
    booleans: Collection[str] = (),
) -> str:
    """Translate an expression to SQL of PostgreSQL.

    Args:
        text: The expression in the source's SQL.
        dialect: The name of the source's dialect in sqlglot.
        names: The columns of the table by the source's name in lower case, and their names here.
        booleans: Names here of the columns that are boolean, whose 0 and 1 become false and true.

    Raises:
        UntranslatableError: The expression holds what has no safe translation.
    """
    try:
        parsed = sqlglot.parse_one(f"SELECT {text}", dialect=dialect)
    except SqlglotError as error:
        raise UntranslatableError("the expression cannot be parsed") from error
    if not isinstance(parsed, exp.Select) or len(parsed.expressions) != 1:
        raise UntranslatableError("it is more than one expression")
    if set(key for key, value in parsed.args.items() if value) - {"expressions", "kind"}:
        raise UntranslatableError("it is more than one expression")
    return translate_node(parsed.expressions[0], names, booleans)


def translate_node(
    node: exp.Expression, names: Mapping[str, str], booleans: Collection[str] = ()
) -> str:
    """Translate a parsed expression; see `translate`."""
    node = node.copy()
    for part in list(node.walk()):
        if isinstance(part, _REFUSED):
            raise UntranslatableError("it holds a subquery, an aggregate or a parameter")
        if isinstance(part, exp.DataType) and part.this == exp.DataType.Type.USERDEFINED:
            raise UntranslatableError(f"the type {part.sql(dialect='postgres')} is not here")
        if isinstance(part, exp.Func) and not isinstance(part, _FUNCTIONS):
            name = part.name if isinstance(part, exp.Anonymous) else part.sql_name()
            raise UntranslatableError(f"the function {name.lower()} has no sure translation")
    node = node.transform(lambda part: _named(part, names))
    node = node.transform(lambda part: _truth(part, booleans))
    return node.sql(dialect="postgres")


def index_parts(
    text: str | None, dialect: str, names: Mapping[str, str], booleans: Collection[str] = ()
) -> tuple[str | None, tuple[str, ...]]:
    """Translate the parts of a CREATE INDEX.

    Args:
        text: The statement; None of an index that no statement made.
        dialect: The name of the source's dialect in sqlglot.
        names: See `translate`.
        booleans: See `translate`.

    Returns:
        The condition of a partial index, and each part of the index as an expression.

    Raises:
        UntranslatableError: A part has no safe translation.
    """
    if text is None:
        return None, ()
    try:
        parsed = sqlglot.parse_one(text, dialect=dialect)
    except SqlglotError as error:
        raise UntranslatableError("the statement cannot be parsed") from error
    index = parsed.this
    parameters = index.args.get("params") if isinstance(index, exp.Index) else None
    if parameters is None:
        raise UntranslatableError("the statement cannot be parsed")
    where = parameters.args.get("where")
    condition = None
    if where is not None:
        inner = where.this if isinstance(where, exp.Where) else where
        condition = translate_node(inner, names, booleans)
    return condition, tuple(
        _index_part(part, names, booleans) for part in parameters.args.get("columns") or ()
    )


def _index_part(part: exp.Expression, names: Mapping[str, str], booleans: Collection[str]) -> str:
    node: exp.Expression = part.this if isinstance(part, exp.Ordered) else part
    down = isinstance(part, exp.Ordered) and part.args.get("desc")
    inner: exp.Expression = node.this if isinstance(node, exp.Paren) else node
    return f"({translate_node(inner, names, booleans)}){' desc' if down else ''}"


def _named(part: exp.Expression, names: Mapping[str, str]) -> exp.Expression:
    """Give a column its name here; SQLite takes an unknown name in double quotes for a text."""
    if not isinstance(part, exp.Column):
        return part
    found = names.get(part.name.lower())
    if found is not None:
        return exp.column(exp.to_identifier(found, quoted=True))
    if isinstance(part.this, exp.Identifier) and part.this.quoted and not part.table:
        return exp.Literal.string(part.name)
    raise UntranslatableError(f"{part.name} is not a column of the table")


def _truth(part: exp.Expression, booleans: Collection[str]) -> exp.Expression:
    """Write 0 and 1 as false and true where they are compared with a boolean column."""
    if isinstance(part, exp.EQ | exp.NEQ | exp.In):
        column = part.this
        if isinstance(column, exp.Column) and column.name in booleans:
            values = part.expressions if isinstance(part, exp.In) else [part.expression]
            for value in values:
                if isinstance(value, exp.Literal) and value.this in ("0", "1"):
                    value.replace(exp.Boolean(this=value.this == "1"))
    return part
