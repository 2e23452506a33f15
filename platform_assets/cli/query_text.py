"""The text of a query, from the command line or standard input; it must be UTF-8."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from lakebed.cli.errors import QueryError


def query_text(query: str) -> str:
    """Return a query, for - what standard input holds. Raises QueryError if it is not UTF-8."""
    return "".join(query_lines()) if query == "-" else _checked(query, "the query")


def query_lines() -> Iterator[str]:
    """Yield the lines of standard input. Raises QueryError at one that is not UTF-8."""
    try:
        for line in sys.stdin:
            yield _checked(line, "standard input")
    except UnicodeDecodeError as error:
        raise _not_utf8("standard input", error.object[error.start]) from error


def _checked(text: str, what: str) -> str:
    """Return a text. Python keeps bytes that are not UTF-8 as surrogates, which no query has."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _not_utf8(what, ord(text[error.start]) & 0xFF) from error
    return text


def _not_utf8(what: str, byte: int) -> QueryError:
    return QueryError(
        f"{what} has the byte 0x{byte:02x} where UTF-8 has none: write it in UTF-8. "
        "`iconv -f latin1 -t utf-8` converts text in Latin-1"
    )
