"""The words of every error of Lakebed, in one file, so that a review sees wording in one place.

`UPDATE_MESSAGES=1 pytest tests/unit/test_messages.py` writes the file from the code.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.support.checkout import ROOT

MESSAGES = Path(__file__).with_name("messages.txt")
FOLDERS = (ROOT / "platform_assets", ROOT / "resources")
REFUSALS = ("refuse",)
"""Methods that raise an error of their class with the text that they are given."""


def messages() -> str:
    """Return the texts of all errors that the product raises, module by module."""
    parts = []
    for file in sorted(chain.from_iterable(folder.rglob("*.py") for folder in FOLDERS)):
        found = sorted(set(raised(ast.parse(file.read_text()))))
        if found and "platform_assets/resources" not in file.as_posix():
            parts.append(f"{file.relative_to(ROOT).as_posix()}\n" + "".join(found))
    return "\n".join(parts)


def raised(tree: ast.AST) -> Iterator[str]:
    """Yield each error's class and text, with what is filled in in braces."""
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else node
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func).split(".")[-1]
        if (isinstance(node, ast.Raise) or name in REFUSALS) and (text := said(call)):
            yield f"    {name}: {text}\n"


def said(call: ast.Call) -> str:
    """Return the texts of a call's arguments, none where it only passes on what it was given."""
    texts = [text for argument in call.args if (text := text_of(argument)) is not None]
    return " | ".join(texts).replace("\n", "\\n")


def text_of(node: ast.expr) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(text_of(value) or "" for value in values)
        case ast.FormattedValue(value=value):
            return filled_in(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            texts = text_of(left), text_of(right)
            if texts == (None, None):
                return None
            sides = zip(texts, (left, right), strict=True)
            return "".join(filled_in(side) if text is None else text for text, side in sides)
    return None


def filled_in(node: ast.expr) -> str:
    """Return an expression in braces; Python's versions write an f-string in it differently."""
    nested = any(isinstance(part, ast.JoinedStr) for part in ast.walk(node))
    return "{...}" if nested else f"{{{ast.unparse(node)}}}"


def test_the_words_of_every_error_are_those_that_were_reviewed() -> None:
    found = messages()
    if os.environ.get("UPDATE_MESSAGES"):
        MESSAGES.write_text(found)
    assert found.count("\n") > 300
    assert MESSAGES.read_text() == found, "UPDATE_MESSAGES=1 writes tests/unit/messages.txt again"


def test_a_text_is_read_from_what_is_raised() -> None:
    tree = ast.parse(
        "raise TieringError(f'{table}: {len(rows):,} rows' + more)\n"
        "self.refuse('key', 'twice')\n"
        "raise error\n"
        "raise SourceError(str(error)) from error\n"
    )
    assert list(raised(tree)) == [
        "    TieringError: {table}: {len(rows)} rows{more}\n",
        "    refuse: key | twice\n",
    ]
