"""What a reading session answers: queries. Everything that would change something is refused.

A statement is a query by DuckDB's own parser. A query can still change something through a table
function that runs SQL elsewhere or changes DuckDB itself: these functions are refused by name.
PostgreSQL refuses writes as well, because the session's connection is read-only there (lake.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import duckdb

from lakebed.resources.read_errors import ReadOnlyError

_KINDS = duckdb.StatementType
_TOKENS = duckdb.token_type

_WORD = re.compile(r'"(?:[^"]|"")*"|[^\W\d][\w$]*')

_RUN_SQL = {
    "json_execute_serialized_sql",
    "postgres_attach",
    "postgres_execute",
    "postgres_query",
    "postgres_scan",
    "postgres_scan_pushdown",
    "query",
}
_CHANGE_DUCKDB = {
    "checkpoint",
    "disable_logging",
    "disable_profiling",
    "enable_logging",
    "enable_profiling",
    "force_checkpoint",
    "pg_clear_cache",
    "postgres_configure_pool",
    "truncate_duckdb_logs",
    "write_log",
}

_READ_MEMORY = {"arrow_scan", "arrow_scan_dumb", "pandas_scan", "python_map_function"}
"""They take an address in memory; a wrong one ends the process."""

_ADVICE = {
    _KINDS.CREATE: "Give an intermediate result a name with WITH name AS (...), and keep a result "
    "as a model (`lakebed build`) or as a file (`lakebed sql --output`, `lakebed export`)",
    _KINDS.COPY: "Write a file with `lakebed sql --output` or `lakebed export`",
    _KINDS.EXPORT: "Write a file with `lakebed sql --output` or `lakebed export`",
    _KINDS.ATTACH: "Read a file by its name, as in FROM 'orders.parquet'",
    _KINDS.SET: "The settings of a session are fixed, so that a query has one meaning",
    _KINDS.TRANSACTION: "A session is one snapshot from its beginning to its end; open another "
    "session for a newer snapshot",
}
_CHANGES_ROWS = (
    "Change rows in PostgreSQL, with psql or the resource `hot`; delete moved rows with "
    "lakebed.delete_row()"
)
_DOES = (
    dict.fromkeys(_RUN_SQL, "runs SQL that is not checked")
    | dict.fromkeys(_CHANGE_DUCKDB, "changes DuckDB itself")
    | dict.fromkeys(_READ_MEMORY, "reads memory")
)
_OPTIONS = {"analyze", "analyse", "format"}
"""What can follow EXPLAIN, or open its brackets, without being the explained statement."""
_ROWS = {_KINDS.INSERT, _KINDS.UPDATE, _KINDS.DELETE, _KINDS.MERGE_INTO}


def check_reads_only(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Refuse statements that do anything but read.

    Args:
        connection: Parses the text. Nothing is run.
        text: One statement or more.

    Raises:
        ReadOnlyError: For the first statement that would change something.
        duckdb.Error: Where the text is not SQL.
    """
    statements = connection.extract_statements(text)
    for statement in statements:
        if not _reads(connection, statement.type, statement.query):
            # A statement that DuckDB splits into several has no text of its own.
            raise _refusal(statement.query.strip() or text, statement.type)
    for name in _called(text):
        does = _DOES.get(name)
        if does is not None:
            raise ReadOnlyError(
                f"the function {name} {does}, and this session only reads. Other tables of "
                "PostgreSQL can be read as pg.SCHEMA.TABLE; for anything else use psql"
            )


def _reads(
    connection: duckdb.DuckDBPyConnection, kind: duckdb.StatementType, statement: str
) -> bool:
    # A PIVOT that finds its columns itself is a CREATE without a text and a SELECT. CREATE TABLE
    # and COPY of such a PIVOT begin with a TRANSACTION without a text.
    if kind == _KINDS.SELECT or (kind == _KINDS.CREATE and not statement):
        return True
    if not statement:
        return False
    words = list(_tokens(statement))
    if kind == _KINDS.CALL:
        return words[0][1].lower() == "call"  # CHECKPOINT has this kind too
    if kind != _KINDS.EXPLAIN:
        return False
    explained = statement.encode()[_begin_of_explained(words) :].decode()
    return [s.type for s in connection.extract_statements(explained)] == [_KINDS.SELECT]


def _begin_of_explained(words: list[tuple[int, str]]) -> int:
    """Return the byte behind EXPLAIN, and behind ANALYZE or the options in brackets."""
    texts = [word.lower() for _, word in words]
    begin = 1
    if texts[1] in _OPTIONS:
        begin = 2
    elif texts[1] == "(" and texts[2] in _OPTIONS:
        begin = texts.index(")") + 1
    return words[begin][0]


def _refusal(text: str, kind: duckdb.StatementType) -> ReadOnlyError:
    first = next((word for _, word in _tokens(text)), kind.name).upper()
    advice = _CHANGES_ROWS if kind in _ROWS else _ADVICE.get(kind, "Ask with SELECT, FROM or WITH")
    return ReadOnlyError(f"{first} is refused: this session only reads. {advice}")


def _called(text: str) -> Iterator[str]:
    """Yield the names of functions, in lower case: an opening bracket follows them."""
    words = list(_tokens(text))
    for (_, name), (_, after) in pairwise(words):
        if after == "(":
            yield name.removeprefix('"').removesuffix('"').replace('""', '"').lower()


def _tokens(text: str) -> Iterator[tuple[int, str]]:
    """Yield the position in bytes and the text of each token, without comments.

    The text of a number or a string is empty: their content is not code.
    """
    written = text.encode()
    tokens = duckdb.tokenize(text)
    ends = [*(position for position, _ in tokens), len(written)][1:]
    for (position, kind), end in zip(tokens, ends, strict=True):
        if kind in (_TOKENS.string_const, _TOKENS.numeric_const):
            yield position, ""
            continue
        rest = written[position:end].decode(errors="replace")
        word = _WORD.match(rest)
        yield position, word[0] if word else rest[:1]
