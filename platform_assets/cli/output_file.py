"""A file of output: whole, or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from lakebed.resources.private import as_users


@contextmanager
def open_output(output: Path) -> Iterator[TextIO]:
    """Yield a file beside the output that is renamed when all is written.

    What is no plain file, a pipe or a device, is written as it is; a link to one keeps its place.
    """
    output = output.resolve()
    if output.exists() and not output.is_file():
        with output.open("w", newline="", encoding="utf-8") as stream:
            yield stream
        return
    unfinished = output.with_name(f".{output.name}.part")
    try:
        with as_users():
            stream = unfinished.open("w", newline="", encoding="utf-8")
        with stream:
            yield stream
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(output)
