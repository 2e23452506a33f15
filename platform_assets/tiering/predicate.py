"""Predicates that PostgreSQL and DuckDB read alike: which rows are to be erased.

A predicate is parsed, and the condition for each engine is written from the tree: comparisons of a
column with literals, IN, BETWEEN, IS NULL, LIKE, lower(), joined by AND, OR and NOT. Every literal
is checked here and given the column's type. Anything that the two engines may read differently,
such as the order of texts, is refused, and so is all other SQL. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import sqlglot
from psycopg import sql
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakebed.spec.schema import Column
from lakebed.spec.table import SourceTable
from lakebed.spec.transforms import PLAIN
from lakebed.spec.types import widest
from lakebed.store.rejects import line_key
from lakebed.tiering.line_fields import field_pattern
from lakebed.tiering.literals import PredicateError, checked, is_literal, literal_text

_ORDER = {exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<="}
_EQUAL = {exp.EQ: "=", exp.NEQ: "<>"}
_BOTH = frozenset({"this", "expression"})
_KNOWN: dict[type[exp.Expr], frozenset[str]] = {
    exp.Is: _BOTH | {"negate"},
    exp.Like: _BOTH | {"negate"},
    exp.In: frozenset({"this", "expressions", "query"}),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Column: frozenset({"this", "table"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Cast: frozenset({"this", "to"}),
    **dict.fromkeys((exp.And, exp.Or, *_ORDER, *_EQUAL), _BOTH),
    **dict.fromkeys((exp.Paren, exp.Not, exp.Neg, exp.Lower, exp.Boolean), frozenset({"this"})),
}
"""The arguments that are read of each kind of node; a node with more (SYMMETRIC) is refused."""

_FLIPPED = {exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE}


@dataclass(frozen=True)
class Predicate:
    """A predicate over the rows of a table. postgres, duckdb: conditions that follow WHERE.

    columns: the columns that it names. quarantine: the condition over `source_row` of rejected
    rows, None where it cannot be expressed. line: over `source_row` of lines that are not rows,
    whether a line holds the values that a matching row must hold; None where values alone do not
    decide. lower: whether it uses lower().
    """

    text: str
    columns: frozenset[str]
    postgres: sql.Composable
    duckdb: sql.Composable
    quarantine: sql.Composable | None
    line: sql.Composable | None
    lower: bool = False

    @property
    def sha256(self) -> str:
        """The digest of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def predicate_of(table: SourceTable, text: str) -> Predicate:
    """Parse a predicate over the columns of a table. Raises PredicateError."""
    try:
        found = sqlglot.parse(text, read="postgres")
    except SqlglotError as error:
        reason = str(error).splitlines()[0]
        raise PredicateError(f"{text!r} is not a condition: {reason}") from None
    if len(found) != 1 or found[0] is None:
        raise PredicateError(f"{text!r} is not one condition; write it like: user_id = 42")
    tree = found[0]
    for node in tree.walk():
        _refuse_unsearched(node)
    columns: set[str] = set()
    postgres = _Engine(table, lambda c: sql.SQL(widest(c.postgres)), columns).condition(tree)
    duckdb = _Engine(table, lambda c: sql.SQL(c.duckdb), columns).condition(tree)
    quarantine, line = (
        _if_searchable(engine(table, lambda c: sql.SQL("text"), columns), tree)
        for engine in (_Quarantine, _Line)
    )
    lower = any(isinstance(node, exp.Lower) for node in tree.walk())
    return Predicate(text, frozenset(columns), postgres, duckdb, quarantine, line, lower)


def _if_searchable(engine: _Engine, tree: exp.Expr) -> sql.Composable | None:
    try:
        return engine.condition(tree)
    except PredicateError:
        return None


def _refuse_unsearched(node: exp.Expr) -> None:
    given = {name for name, value in node.args.items() if value}
    if given - _KNOWN.get(type(node), given):
        raise PredicateError(f"{node.sql('postgres')}: an erasure does not take this form")


class _Engine:
    """Writes a tree for one engine. type_of: what a column's literals are cast to."""

    def __init__(
        self, table: SourceTable, type_of: Callable[[Column], sql.Composable], used: set[str]
    ) -> None:
        self.table = table
        self.type_of = type_of
        self.used = used

    def condition(self, node: exp.Expr) -> sql.Composable:
        match node:
            case exp.Paren():
                return self.condition(node.this)
            case exp.And() | exp.Or():
                word = "and" if isinstance(node, exp.And) else "or"
                return sql.SQL("({} {} {})").format(
                    self.condition(node.left), sql.SQL(word), self.condition(node.right)
                )
            case exp.Not():
                return sql.SQL("(not {})").format(self.condition(node.this))
            case exp.Column():
                return self.alone(self.column(node))
            case exp.Is():
                return self.is_null(node)
            case exp.In():
                return self.member(node)
            case exp.Between():
                return self.between(node)
            case exp.Like():
                return self.like(node)
            case exp.Binary() if type(node) in _ORDER or type(node) in _EQUAL:
                return self.comparison(node)
            case _:
                raise PredicateError(
                    f"{node.sql('postgres')}: an erasure takes comparisons of a column with "
                    "literals, IN, BETWEEN, IS NULL, LIKE and lower(), joined by AND, OR and NOT; "
                    "no functions else, no subqueries. Look the values up first, and list them"
                )

    def alone(self, column: Column) -> sql.Composable:
        if column.postgres != "boolean":
            raise PredicateError(f"{column.name} is not a condition: it is {column.postgres}")
        return self.value(column, lower=False)

    def comparison(self, node: exp.Binary) -> sql.Composable:
        kind, left, right = type(node), node.left, node.right
        if is_literal(left) and not is_literal(right):
            kind, left, right = _FLIPPED.get(kind, kind), right, left
        column, lower = self.operand(left)
        if kind in _ORDER:
            self.ordered(column, node)
        return sql.SQL("{} {} {}").format(
            self.value(column, lower),
            sql.SQL(_ORDER.get(kind) or _EQUAL[kind]),
            self.literal(column, right, lower),
        )

    def between(self, node: exp.Between) -> sql.Composable:
        column, lower = self.operand(node.this)
        self.ordered(column, node)
        return sql.SQL("{} between {} and {}").format(
            self.value(column, lower),
            self.literal(column, node.args["low"], lower),
            self.literal(column, node.args["high"], lower),
        )

    def member(self, node: exp.In) -> sql.Composable:
        column, lower = self.operand(node.this)
        if node.args.get("query") is not None or not node.expressions:
            raise PredicateError(
                f"{node.sql('postgres')}: list the values; a subquery is not allowed"
            )
        values = [self.literal(column, value, lower) for value in node.expressions]
        return sql.SQL("{} in ({})").format(self.value(column, lower), sql.SQL(", ").join(values))

    def is_null(self, node: exp.Is) -> sql.Composable:
        column, lower = self.operand(node.this)
        if not isinstance(node.expression, exp.Null):
            raise PredicateError(f"{node.sql('postgres')}: only IS NULL and IS NOT NULL")
        form = "({} is not null)" if node.args.get("negate") else "({} is null)"
        return sql.SQL(form).format(self.value(column, lower))

    def like(self, node: exp.Like) -> sql.Composable:
        column, lower = self.operand(node.this)
        if column.polars != pl.String or widest(column.postgres) != "text":
            raise PredicateError(f"{node.sql('postgres')}: LIKE is for a column of text")
        if not isinstance(node.expression, exp.Literal) or "\\" in node.expression.this:
            raise PredicateError(
                f"{node.sql('postgres')}: its pattern is a literal without a backslash"
            )
        pattern = self.literal(column, node.expression, lower)
        form = "({} not like {})" if node.args.get("negate") else "({} like {})"
        return sql.SQL(form).format(self.value(column, lower), pattern)

    def operand(self, node: exp.Expr) -> tuple[Column, bool]:
        """Return the column that an operand is, and whether it is taken in lower case."""
        if isinstance(node, exp.Paren):
            return self.operand(node.this)
        if isinstance(node, exp.Lower) and isinstance(node.this, exp.Column):
            column = self.column(node.this)
            if column.postgres != "text":
                raise PredicateError(f"lower({column.name}): it is {column.postgres}")
            return column, True
        if isinstance(node, exp.Column):
            return self.column(node), False
        raise PredicateError(
            f"{node.sql('postgres')}: one side of a comparison is a column, or lower() of one, "
            "and the other a literal"
        )

    def column(self, node: exp.Column) -> Column:
        name = node.name if node.this.quoted else node.name.lower()
        known = self.table.column_names
        if node.table not in ("", self.table.name) or name not in known:
            raise PredicateError(
                f"{node.sql('postgres')} is not a column of {self.table.name} ({', '.join(known)})"
            )
        self.used.add(name)
        return self.table.column(name)

    def value(self, column: Column, lower: bool) -> sql.Composable:
        name = sql.Identifier(column.name)
        return sql.SQL("lower({})").format(name) if lower else name

    def literal(self, column: Column, node: exp.Expr, lower: bool) -> sql.Composable:
        text = checked(column, literal_text(node, column), lower)
        return sql.SQL("cast({} as {})").format(sql.Literal(text), self.type_of(column))

    def ordered(self, column: Column, node: exp.Expr) -> None:
        if not (column.polars.is_numeric() or column.polars.is_temporal()):
            raise PredicateError(
                f"{node.sql('postgres')}: {column.postgres} has not the same order in PostgreSQL "
                "and DuckDB; use =, IN or LIKE"
            )


class _Quarantine(_Engine):
    """Writes a tree over the rows of the quarantine, which are as the source had them: texts."""

    def value(self, column: Column, lower: bool) -> sql.Composable:
        transform = self.table.transforms.get(column.name)
        if column.name not in self.table.contract_names or (
            transform is not None and (transform.expr is not None or transform.values)
        ):
            raise PredicateError(f"{column.name} is not in the source")
        name = column.name if transform is None else transform.column or column.name
        text = sql.SQL("trim(source_row ->> {})").format(sql.Literal(name))
        return sql.SQL("lower({})").format(text) if lower else text

    def alone(self, column: Column) -> sql.Composable:
        raise PredicateError("a source has many texts for true")

    def ordered(self, column: Column, node: exp.Expr) -> None:
        raise PredicateError("texts have another order")


class _Line(_Quarantine):
    """Writes a tree over lines that are not rows: they contain the literals of = and IN."""

    def condition(self, node: exp.Expr) -> sql.Composable:
        if not isinstance(node, exp.Paren | exp.And | exp.Or | exp.EQ | exp.In):
            raise PredicateError(f"{node.sql('postgres')} names no value that a line would hold")
        return super().condition(node)

    def comparison(self, node: exp.Binary) -> sql.Composable:
        left, right = node.left, node.right
        if is_literal(left) and not is_literal(right):
            left, right = right, left
        return self.holds(left, right)

    def member(self, node: exp.In) -> sql.Composable:
        found = [self.holds(node.this, value) for value in node.expressions]
        return sql.SQL("({})").format(sql.SQL(" or ").join(found))

    def holds(self, operand: exp.Expr, literal: exp.Expr) -> sql.Composable:
        column, lower = self.operand(operand)
        self.value(column, lower)  # refuses what is not in the source
        number = column.polars.is_numeric()
        source = self.table.source
        transform = self.table.transforms.get(column.name, PLAIN)
        in_path = (transform.column or column.name) in getattr(source, "hive", ())
        text = checked(column, literal_text(literal, column), lower).strip()
        if in_path or not text or column.polars.is_temporal() or column.polars == pl.Boolean:
            raise PredicateError(f"{column.name}: a line may hold its values in many forms")
        pattern = field_pattern(
            text,
            number=number,
            delimiter=getattr(source, "delimiter", None),
            thousands=transform.thousands,
        )
        key = sql.Literal(line_key(self.table.source_columns))
        return sql.SQL("source_row ->> {} ~* {}").format(key, sql.Literal(pattern))
