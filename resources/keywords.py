"""Words of DuckDB's SQL that a column can be called by only in double quotes, such as `at`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from functools import cache

import duckdb


@cache
def reserved_words() -> frozenset[str]:
    """Return the words that name a column only in double quotes, in lower case."""
    with duckdb.connect(":memory:") as connection:
        found = connection.execute(
            "select keyword_name from duckdb_keywords()"
            " where keyword_category in ('reserved', 'type_function')"
        ).fetchall()
    return frozenset(word for (word,) in found)


def names_to_quote(names: Iterable[str]) -> list[str]:
    """Return the names, in their order, that a query must write in double quotes."""
    return [name for name in names if name.lower() in reserved_words()]


def quoting_note(names: Iterable[str]) -> str | None:
    """Describe which columns need double quotes in a query; None if none do."""
    found = names_to_quote(names)
    if not found:
        return None
    quoted = ", ".join(f'"{name}"' for name in found)
    return f"DuckDB reserves {', '.join(found)}: write {quoted} in queries and models"


def unquoted(text: str, columns: Collection[str]) -> list[str]:
    """Return the column that DuckDB's parser stumbles over, as it needs double quotes.

    It is the word before the place of the error or at it, `at` in `select at from t`. Words
    elsewhere in the text are the keywords that they are.
    """
    position = _error_position(text)
    reserved = {name.lower(): name for name in names_to_quote(columns)}
    if position is None or not reserved:
        return []
    written = text.encode()
    tokens = duckdb.tokenize(text)
    starts = [start for start, _ in tokens]
    found: list[str] = []
    for (start, kind), end in zip(tokens, [*starts[1:], len(written)], strict=True):
        if start > position:
            break
        word = written[start:end].decode(errors="replace").split(maxsplit=1)[0].lower()
        found.append(word if kind == duckdb.token_type.keyword else "")
    near: list[str] = []  # of a text that is left open, such as a string
    if position in starts:
        near = found[-2:]
    elif position >= len(written.rstrip()):  # the text ends too early
        near = found[-1:]
    return [reserved[word] for word in near if word in reserved][:1]


def _error_position(text: str) -> int | None:
    """Return the byte of a text at which DuckDB's parser gives up; None if it does not."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("set errors_as_json = true")
        try:
            connection.extract_statements(text)
        except duckdb.ParserException as error:
            found = json.loads(str(error).partition(": ")[2]).get("position")
            # DuckDB counts characters here.
            return None if found is None else len(text[: int(found)].encode())
    return None
