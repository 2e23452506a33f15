"""The prompt of `lakebed sql` on a terminal: history, completion and colours, by prompt_toolkit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from threading import Thread

import duckdb
from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from lakebed.errors import LakebedError
from lakebed.resources.settings import read_settings

HISTORY = "sql_history"
COMMANDS = ("\\d", "\\explain", "\\timing", "\\q", "\\?")
FUNCTIONS = ("avg", "count", "max", "min", "sum")
_WORD = re.compile(r"\\?\w*$")


class NameCompleter(Completer):
    """Completes tables, models, columns and SQL's words.

    Another thread reads the names when the shell starts, so that the prompt is there at once.
    """

    def __init__(self, names: Callable[[], list[str]]) -> None:
        """Take the function that reads the names."""
        self._read = names
        self._names: tuple[str, ...] = ()
        with duckdb.connect() as connection:
            found = connection.execute(
                "select keyword_name from duckdb_keywords() where keyword_category = 'reserved'"
            ).fetchall()
        self._keywords = (*FUNCTIONS, *(keyword for (keyword,) in found))

    def start(self) -> None:
        """Read the names in the background."""
        Thread(target=self._fill, daemon=True).start()

    def _fill(self) -> None:
        try:
            self._names = tuple(self._read())
        except LakebedError:
            return  # the first statement says what is wrong; only SQL's words are completed

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield what the word before the cursor can become: names first, then SQL's words."""
        match = _WORD.search(document.text_before_cursor)
        typed = match.group() if match else ""
        if not typed and not complete_event.completion_requested:
            return
        known = COMMANDS if typed.startswith("\\") else (*self._names, *self._keywords)
        for name in dict.fromkeys(known):
            if name.lower().startswith(typed.lower()) and name != typed:
                yield Completion(_quoted(name), start_position=-len(typed), display=name)


def _quoted(name: str) -> str:
    plain = name.startswith("\\") or re.fullmatch(r"[a-z_][a-z0-9_]*", name)
    return name if plain else '"{}"'.format(name.replace('"', '""'))


def prompt(names: Callable[[], list[str]], is_complete: Callable[[str], bool]) -> Callable[[], str]:
    """Return a function that asks for one statement, which may take several lines.

    Args:
        names: Reads the names of tables, models and columns.
        is_complete: Says whether Enter ends the statement; else it begins another line.
    """
    from lakebed.cli.shell import CONTINUED, PROMPT

    completer = NameCompleter(names)
    completer.start()
    session: PromptSession[str] = PromptSession(
        message=PROMPT,
        prompt_continuation=CONTINUED,
        multiline=Condition(lambda: not is_complete(get_app().current_buffer.text)),
        history=FileHistory(str(read_settings().home / HISTORY)),
        completer=completer,
        complete_while_typing=False,
        lexer=PygmentsLexer(SqlLexer),
        enable_history_search=True,
    )
    return session.prompt
