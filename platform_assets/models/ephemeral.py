"""Inline ephemeral models: their SQL becomes a CTE of their readers, as in dbt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import sqlglot
from sqlglot.tokens import TokenType

from lakebed.models.calls import CTE
from lakebed.models.model import SourceLocation
from lakebed.models.queries import DIALECT


class Text(NamedTuple):
    """SQL with the file and line behind each of its lines. refs: the models that it names."""

    sql: str
    places: tuple[SourceLocation, ...]
    refs: tuple[str, ...]

    @property
    def lines(self) -> tuple[int, ...]:
        """The line of the file behind each line of the SQL."""
        return tuple(place.line or 1 for place in self.places)

    def files(self, own: Path) -> tuple[Path, ...]:
        """Return the file behind each line of the SQL; empty where all come from `own`."""
        files = tuple(place.path for place in self.places)
        return files if set(files) != {own} else ()


def inlined(text: Text, ephemeral: Mapping[str, Text]) -> Text:
    """Add a CTE for each ephemeral model that the text reads, directly or through another one.

    Args:
        text: The SQL of the reader.
        ephemeral: All ephemeral models by name.
    """
    needed: dict[str, None] = {}

    def gather(refs: Sequence[str]) -> None:
        for name in refs:
            if name in ephemeral and name not in needed:
                gather(ephemeral[name].refs)
                needed[name] = None

    gather(text.refs)
    if not needed:
        return text
    head, tail, has_with = _at_the_ctes(text.sql)
    at = head.count("\n")
    start = text.places[at]
    lines = [*zip(head.split("\n"), text.places[: at + 1], strict=True)]
    opening = "" if has_with else "with"
    for name in needed:
        cte = ephemeral[name]
        lines[-1] = (f"{lines[-1][0]}{opening} {CTE}{name} as (", lines[-1][1])
        lines += zip(cte.sql.split("\n"), cte.places, strict=True)
        lines.append(("),", start))
        opening = ""
    rest = [*zip(tail.split("\n"), text.places[at:], strict=True)]
    lines[-1] = (("), " if has_with else ")\n") + rest[0][0], start)
    if not has_with:
        lines[-1:] = [(")", start), rest[0]]
    lines += rest[1:]
    return Text("\n".join(line for line, _ in lines), tuple(place for _, place in lines), text.refs)


def _at_the_ctes(sql: str) -> tuple[str, str, bool]:
    """Split SQL where a CTE can go: after `with` or `with recursive`, else at the start."""
    tokens = sqlglot.tokenize(sql, dialect=DIALECT)
    if tokens[0].token_type is not TokenType.WITH:
        return sql[: tokens[0].start], sql[tokens[0].start :], False
    last = tokens[1] if tokens[1].token_type is TokenType.RECURSIVE else tokens[0]
    return sql[: last.end + 1], sql[last.end + 1 :], True
