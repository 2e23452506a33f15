"""Words of DuckDB's SQL that a column can be called by only in double quotes, such as `at`."""

from __future__ import annotations

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
    """Return the columns that a text names without the double quotes that they need.

    A word may be there as the keyword that it is: `order` in ORDER BY.
    """
    reserved = {name.lower(): name for name in names_to_quote(columns)}
    written = text.encode()
    tokens = duckdb.tokenize(text)
    ends = [*(position for position, _ in tokens), len(written)][1:]
    found = {
        written[position:end].decode(errors="replace").split(maxsplit=1)[0].lower()
        for (position, kind), end in zip(tokens, ends, strict=True)
        if kind == duckdb.token_type.keyword
    }
    return [name for word, name in reserved.items() if word in found]
