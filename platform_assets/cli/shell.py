"""The shell of `lakebed sql`: statements over both tiers, each in a snapshot of its own.

On a terminal prompt_toolkit gives a history and completion. Without a terminal, or without
prompt_toolkit, lines are read as they come.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable
from shutil import get_terminal_size

import click
import duckdb

from lakebed.cli.errors import QueryError, words
from lakebed.cli.output import show
from lakebed.cli.query_output import TABLE_ROWS, run, write
from lakebed.cli.query_text import query_lines
from lakebed.cli.relations import columns_table, relations_table
from lakebed.cli.sql import clear_errors
from lakebed.errors import FAILED, LakebedError
from lakebed.resources.lake import Lake
from lakebed.resources.lake_sessions import LakeSessions
from lakebed.resources.session import ReadSession

PROMPT = "lakebed> "
CONTINUED = "      -> "
HELP = r"""End a statement with ; to run it. Each statement reads a new snapshot of both tiers.

  \d               list tables and models        \timing   show how long a statement takes
  \d TABLE         list the columns of one       \?        show this help
  \explain QUERY;  show what a query reads       \q        leave (or Ctrl-D)

The dialect is DuckDB's. The shell changes nothing; `lakebed psql` opens PostgreSQL's shell."""


class Shell:
    """Runs what is typed, one statement or command after the other.

    Attributes:
        failed: Whether a statement or command has failed.
    """

    def __init__(self, sessions: LakeSessions) -> None:
        """Take the sessions to read from."""
        self._sessions = sessions
        self._timing = False
        self.failed = False

    def execute(self, text: str) -> bool:
        """Run a statement or a command, and print what it gives; return False to leave."""
        text = text.strip()
        if not text.strip("; \n"):
            return True
        if text.rstrip(";").strip() in ("\\q", "exit", "quit"):
            return False
        start = time.perf_counter()
        try:
            self._run(text)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            self.failed = True
        except (LakebedError, duckdb.Error) as error:
            click.echo(f"error: {words(error)}", err=True)
            self.failed = True
        if self._timing and not text.startswith("\\"):
            click.echo(f"{time.perf_counter() - start:.3f} s")
        return True

    def _run(self, text: str) -> None:
        command, _, rest = text.partition(" ")
        name = rest.rstrip("; ").strip().strip('"')
        if command.rstrip(";") == "\\timing":
            self._timing = {"on": True, "off": False}.get(name, not self._timing)
            click.echo(f"timing is {'on' if self._timing else 'off'}")
        elif command.rstrip(";") in ("\\?", "\\h", "help"):
            click.echo(HELP)
        elif command.startswith("\\") and command.rstrip(";") not in ("\\d", "\\explain"):
            raise QueryError(f"There is no command {command}. \\? lists the commands")
        else:
            self._read(command.rstrip(";"), name, rest if command == "\\explain" else text)

    def _read(self, command: str, name: str, text: str) -> None:
        with self._sessions.open() as session, clear_errors(session):
            if command == "\\d":
                show(columns_table(session, name) if name else relations_table(session))
            elif command == "\\explain":
                from lakebed.cli.explain import explanation

                click.echo("\n".join(explanation(session, text)))
            else:
                _print_rows(session, text)

    def names(self) -> list[str]:
        """Return the names of tables, models and their columns, for completion."""
        from psycopg import sql

        with self._sessions.open() as session:
            found = {*session.tables, *session.models}
            for name in found - session.unreadable.keys():
                query = sql.SQL("describe {}").format(sql.Identifier(name))
                described = session.bare.execute(query.as_string()).fetchall()
                found |= {column for column, *_ in described}
        return sorted(found)


def run_shell(lake: Lake) -> None:
    """Read statements from standard input and run them until it ends.

    Exits with 1 where a statement of a script failed.
    """
    with lake.sessions() as sessions:
        shell = Shell(sessions)
        if not sys.stdin.isatty():
            _run_all(shell, query_lines())
            if shell.failed:
                sys.exit(FAILED)
            return
        click.echo(r"Both tiers in DuckDB's dialect, read-only. \? for help, \q to leave", err=True)
        _converse(shell, _prompt(shell))


def is_complete(text: str) -> bool:
    """Return whether a text is a command, or a statement that ends with a semicolon."""
    stripped = text.strip()
    if stripped in ("", "exit", "quit", "help"):
        return True
    if stripped.startswith("\\"):
        return not stripped.startswith("\\explain") or stripped.endswith(";")
    if ";" not in stripped:
        return False
    tokens = duckdb.tokenize(text)
    written = text.encode()
    # A semicolon in a string or a comment is no operator.
    return bool(tokens) and (
        tokens[-1][1] == duckdb.token_type.operator
        and written[tokens[-1][0] : tokens[-1][0] + 1] == b";"
    )


def _run_all(shell: Shell, lines: Iterable[str]) -> None:
    """Run the statements of a script, in order."""
    text = ""
    for line in lines:
        text += line
        if is_complete(text):
            if not shell.execute(text):
                return
            text = ""
    shell.execute(text)


def _converse(shell: Shell, ask: Callable[[], str]) -> None:
    """Run what the user types until the user leaves."""
    while True:
        try:
            text = ask()
        except KeyboardInterrupt:
            continue  # the line is thrown away, as in other shells
        except EOFError:
            click.echo(err=True)
            return
        if not shell.execute(text):
            return


def _prompt(shell: Shell) -> Callable[[], str]:
    """Return how to ask for a statement: with history and completion where that is installed."""
    try:
        from lakebed.cli.shell_prompt import prompt
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(("prompt_toolkit", "pygments")):
            raise
        return _plain
    return prompt(shell.names, is_complete)


def _plain() -> str:
    text = input(PROMPT)
    while not is_complete(text):
        text += "\n" + input(CONTINUED)
    return text


def _print_rows(session: ReadSession, text: str) -> None:
    """Print the rows of a statement; what is higher than the terminal goes to a pager."""
    with run(session, text) as rows:
        if not sys.stdout.isatty():
            written = write(session, rows, "table", sys.stdout)
        else:
            output = _Terminal()
            written = write(session, rows, "table", output)
            shown = output.getvalue()
            if shown.count("\n") > get_terminal_size().lines - 2:
                click.echo_via_pager(shown, color=True)
            else:
                click.echo(shown, nl=False, color=True)
    many = "1 row" if written == 1 else f"{written:,} rows"
    more = f", the first {TABLE_ROWS:,} shown" if written > TABLE_ROWS else ""
    click.echo(f"{many}{more}", err=not sys.stdout.isatty())


class _Terminal(io.StringIO):
    """A text that is written as for a terminal."""

    def isatty(self) -> bool:
        return True
