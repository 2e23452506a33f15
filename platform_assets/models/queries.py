"""Parse a compiled query with sqlglot: check that it is one query, find its tables and comment.

This module does not know templates or the files of models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError
from sqlglot.optimizer.scope import traverse_scope
from sqlglot.tokens import TokenType

from lakebed.models.model import ModelError

DIALECT = "duckdb"
_QUERIES = (exp.Query, exp.Values, exp.Pivot)
_MISSING_END = re.compile(r"Missing (\S+) from \d+:(\d+)")
_LEADING_COMMENT = re.compile(
    r"\s*(?:/\*(?P<block>.*?)\*/|(?P<lines>(?:[ \t]*--[^\n]*(?:\n|\Z))+))", re.S
)


def quoted(name: str) -> str:
    """Return the name as an identifier of DuckDB's SQL."""
    return exp.to_identifier(name, quoted=True).sql(DIALECT)


def parse_query(sql: str, path: Path, line_of: Callable[[int], int]) -> exp.Expr:
    """Parse a query.

    Args:
        sql: The compiled SQL.
        path: The file.
        line_of: Returns the line of the file behind a line of the SQL.

    Raises:
        ModelError: The SQL cannot be parsed, or is not exactly one query.
    """
    try:
        statements = [found for found in sqlglot.parse(sql, dialect=DIALECT) if found is not None]
    except ParseError as error:
        first = error.errors[0]
        # Only the end of the text has no word to point at; sqlglot then prints its own token.
        what = str(first["description"]).partition(" but got <Token")[0]
        raise ModelError(
            path,
            line_of(int(first["line"])),
            f"the SQL cannot be read near {first['highlight']!r}: {what}",
            "Correct the query there.",
        ) from error
    except TokenError as error:
        raise _unfinished(sql, error, path, line_of) from error
    tokens = sqlglot.tokenize(sql, dialect=DIALECT)
    for token in tokens:
        # The query becomes a part of a larger statement, which a semicolon would end.
        if token.token_type is TokenType.SEMICOLON:
            raise ModelError(
                path,
                line_of(token.line),
                "the query contains a semicolon",
                "Remove it: a file is one query without a semicolon.",
            )
    if not statements:
        raise ModelError(path, None, "the file contains no query", "Write one select.")
    query = statements[0]
    if not isinstance(query, _QUERIES):
        raise ModelError(
            path,
            line_of(tokens[0].line),
            f"the file contains a {query.key.upper()} statement, not a query",
            "Write one select; config(materialized=...) decides how its rows are stored.",
        )
    return query


def table_names(query: exp.Expr) -> Iterator[tuple[str, int]]:
    """Yield name and line of each table that the query reads by a bare name.

    Names of CTEs, qualified names and table functions are left out.
    """
    for scope in traverse_scope(query) if isinstance(query, exp.Query) else ():
        for source in scope.sources.values():
            # A table function is a table without a name to sqlglot.
            if isinstance(source, exp.Table) and source.name and not source.db:
                yield source.name, int(source.this.meta.get("line", 1))


def leading_comment(sql: str) -> str:
    """Return the text of the comment before the query: -- lines, or /* */."""
    found = _LEADING_COMMENT.match(sql)
    if found is None:
        return ""
    text = found["block"] if found["block"] is not None else found["lines"]
    leader = r"^[ \t]*\*? ?" if found["block"] is not None else r"^[ \t]*--+ ?"
    lines = [re.sub(leader, "", line).rstrip() for line in text.splitlines()]
    return "\n".join(lines).strip()


def _unfinished(
    sql: str, error: TokenError, path: Path, line_of: Callable[[int], int]
) -> ModelError:
    missing = _MISSING_END.search(str(error.__cause__))
    if missing is not None:
        # sqlglot gives the line of the end, but the offset of the start.
        line = sql.count("\n", 0, int(missing[2])) + 1
        what = f"the text that starts there has no closing {missing[1]}"
    else:
        line, what = sql.count("\n") + 1, "it ends within a comment or a name"
    problem = f"the SQL cannot be read: {what}"
    return ModelError(path, line_of(line), problem, "Close it.")
