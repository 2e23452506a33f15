"""Query results as a table, CSV or JSON.

DuckDB itself makes the text of every value, a line a row and streamed: a Python datetime cannot
hold DuckDB's infinity, nor a dict two columns of one name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TextIO

import duckdb
from psycopg import sql
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lakebed.cli.errors import QueryError
from lakebed.resources.session import ReadSession

Format = Literal["table", "csv", "json"]

TABLE_ROWS = 1000
BATCH_ROWS = 20_000

_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DOUBLE|FLOAT|DECIMAL.*|BIGNUM")
_FLOAT = ("DOUBLE", "FLOAT")
_UNQUOTED = re.compile(rf"{_NUMBER.pattern}|BOOLEAN|DATE|TIME.*|UUID|INTERVAL")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Rows:
    """A query whose columns are known: query gives them under the names c0, c1, ... in order."""

    query: str
    names: tuple[str, ...]
    types: tuple[str, ...]


@dataclass(frozen=True)
class Lines:
    """A query with one text a row, and what is written before, between and after the texts."""

    query: str
    first: str
    between: str
    last: str


def statements_of(session: ReadSession, text: str) -> list[str]:
    """Split a text into statements.

    Raises ReadOnlyError where one changes anything, QueryError where there is none, duckdb.Error.
    """
    session.check(text)
    found = [_bare(s.query) for s in session.bare.extract_statements(text)]
    if not found:
        raise QueryError("there is no statement in the query")
    # A PIVOT comes back as several statements without text; it has to run as it was written.
    return found if all(found) else [text]


@contextmanager
def run(session: ReadSession, text: str) -> Iterator[Rows]:
    """Run all statements of a text; yield the rows of the last one.

    The rows are good inside the block. Raises ReadOnlyError, duckdb.Error and QueryError.
    """
    *before, last = statements_of(session, text)
    for statement in before:
        with session.stream(statement) as result:
            result.fetchall()
    if _is_query(session, last):
        with session.pruned(last):
            relation = session.bare.sql(last)
            yield _rows(f"({last}\n)", relation.columns, relation.types)
        return
    with _stream(session, last) as result:
        held = result.to_arrow_table()
    held = held.rename_columns([f"c{i}" for i in range(held.num_columns)])
    names = [column[0] for column in result.description or ()]
    session.bare.register("lakebed_result", held)
    yield _rows("lakebed_result", names, session.bare.table("lakebed_result").types)


def write(
    session: ReadSession,
    rows: Rows,
    form: Format,
    stream: TextIO,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> int:
    """Write rows to a stream; return how many there were. on_rows is told those of each batch."""
    if form == "table":
        return _write_table(session, rows, stream)
    if form == "csv":
        head = ",".join(_csv_name(name) for name in rows.names)
        lines = Lines(_csv_query(rows), f"{head}\n", "\n", "\n")
    else:
        lines = Lines(_json_query(rows), "[\n", ",\n", "\n]\n")
    return _write_lines(session, lines, stream, on_rows)


@contextmanager
def _stream(session: ReadSession, statement: str) -> Iterator[duckdb.DuckDBPyConnection]:
    if len(session.bare.extract_statements(statement)) > 1:
        yield session.connection.execute(statement)  # a PIVOT; it reads every cold file
    else:
        with session.stream(statement) as result:
            yield result


def _bare(statement: str) -> str:
    """Cut off the semicolon, and the comments behind it, so that brackets can go around."""
    written = statement.encode()
    for position, kind in reversed(duckdb.tokenize(statement)):
        if kind != duckdb.token_type.operator or written[position : position + 1] != b";":
            break
        written = written[:position]
    return written.decode().strip()


def _is_query(session: ReadSession, statement: str) -> bool:
    kinds = [s.type for s in session.bare.extract_statements(statement)]
    first = re.sub(r"--[^\n]*\n|/\*.*?\*/", " ", statement, flags=re.DOTALL).split(maxsplit=1)
    return kinds == [duckdb.StatementType.SELECT] and first[0].lower() != "pragma"


def _rows(source: str, names: Sequence[str], types: Sequence[object]) -> Rows:
    columns = ", ".join(f"c{i}" for i in range(len(names)))
    query = f"from {source} as lakebed_rows ({columns})"
    return Rows(query, _distinct(names), tuple(str(kind) for kind in types))


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Give the second column of a name another one, as DuckDB does in a subquery: a, a_1."""
    found: list[str] = []
    for name in names:
        numbered = (f"{name}_{i}" for i in range(1, len(names) + 1))
        found.append(next(n for n in (name, *numbered) if n not in found))
    return tuple(found)


def _csv_name(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""')) if re.search(r'[",\r\n]', name) else name


def _csv_query(rows: Rows) -> str:
    """Null is nothing, the empty string is "". A lone null is "" too: no reader skips the row."""
    cells = []
    for i, kind in enumerate(rows.types):
        text = f"c{i}::varchar"
        if not _UNQUOTED.fullmatch(kind):
            quoted = f"""'"' || replace({text}, '"', '""') || '"'"""
            needs = f"""{text} = '' or regexp_matches({text}, '[",\\r\\n]')"""
            text = f"case when {needs} then {quoted} else {text} end"
        lone = "'\"\"'" if len(rows.types) == 1 else "''"
        cells.append(f"coalesce({text}, {lone})")
    return f"select concat_ws(',', {', '.join(cells)}) {rows.query}"


def _json_query(rows: Rows) -> str:
    """Times as ISO 8601; what JSON has no number for (NaN, infinity) as text."""
    pairs = []
    for i, (name, kind) in enumerate(zip(rows.names, rows.types, strict=True)):
        value = f"c{i}"
        if kind in _FLOAT:
            value = f"case when isfinite(c{i}) then to_json(c{i}) else to_json(c{i}::varchar) end"
        elif kind.startswith("TIMESTAMP"):
            spaced = f"regexp_replace(c{i}::varchar, '^(\\S+) (\\d)', '\\1T\\2')"
            value = f"regexp_replace({spaced}, '([+-]\\d\\d)$', '\\1:00')"
        elif kind == "BLOB":
            value = f"c{i}::varchar"
        pairs.append(f"{sql.Literal(name).as_string()}, {value}")
    return f"select json_object({', '.join(pairs)})::varchar {rows.query}"


def _write_lines(
    session: ReadSession, lines: Lines, stream: TextIO, on_rows: Callable[[int], None]
) -> int:
    """Write one line a row; nothing at all where the first rows cannot be had."""
    written = 0
    for batch in _batches(session, lines.query):
        stream.write(lines.between if written else lines.first)
        stream.write(lines.between.join(text for (text,) in batch))
        written += len(batch)
        on_rows(len(batch))
    stream.write(lines.last if written else f"{lines.first.strip()}{lines.last.strip()}\n")
    return written


def _batches(
    session: ReadSession, query: str, first: int = BATCH_ROWS
) -> Iterator[list[tuple[Any, ...]]]:
    try:
        result = session.bare.execute(query)
        batch = result.fetchmany(first)
        while batch:
            yield batch
            batch = result.fetchmany(BATCH_ROWS)
    except duckdb.Error as error:
        # The place that DuckDB points at is one in our text around the query.
        raise QueryError(str(error).partition("\n\nLINE ")[0]) from error


def _write_table(session: ReadSession, rows: Rows, stream: TextIO) -> int:
    columns = ", ".join(f"c{i}::varchar" for i in range(len(rows.types)))
    batches = _batches(session, f"select {columns} {rows.query}", TABLE_ROWS)
    shown = next(batches, [])
    count = len(shown) + sum(len(batch) for batch in batches)
    terminal = Console(file=stream)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name, kind in zip(rows.names, rows.types, strict=True):
        right = _NUMBER.fullmatch(kind) is not None
        table.add_column(_cell(name), justify="right" if right else "left", no_wrap=True)
    for row in shown:
        table.add_row(*(_cell(value) for value in row))
    natural = terminal.measure(table, options=terminal.options.update(width=100_000)).maximum
    if not terminal.is_terminal:
        terminal.width = natural + 1
        terminal.print(table)
    elif natural <= terminal.width:
        terminal.print(table)
    else:
        terminal.print(_records(rows, shown))
    return count


def _records(rows: Rows, shown: Sequence[Sequence[str | None]]) -> Group:
    """Return each row as a block of its own, for what is wider than the terminal."""
    blocks: list[Text | Table] = []
    for number, row in enumerate(shown, 1):
        block = Table(box=None, show_header=False)
        for name, value in zip(rows.names, row, strict=True):
            block.add_row(Text(name, "bold"), _cell(value))
        blocks += [Text(f"row {number}", "dim"), block]
    return Group(*blocks)


def _cell(value: str | None) -> Text:
    """Return a value as it is: no markup, and nothing that a terminal would obey."""
    if value is None:
        return Text("null", "dim")
    return Text(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value))
