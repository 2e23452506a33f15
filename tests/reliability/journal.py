"""What the players of the torture tell: lines in a file of their own, whole or not at all.

A line is written before or after what it tells of, never in between; who is killed keeps what was
written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """One player's file. Times are of the machine's monotonic clock, in seconds."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, kind: str, **told: Any) -> None:
        """Add a line."""
        line = json.dumps({"kind": kind, **told}).encode() + b"\n"
        assert os.write(self._file, line) == len(line)


class Listener:
    """Reads the journals of a folder on from where it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}

    def hear(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (player, line) of what is new, those of one player in order."""
        for path in sorted(self._folder.glob("*.journal")):
            with path.open("rb") as stream:
                stream.seek(self._read.get(path, 0))
                new = stream.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                yield path.stem, json.loads(line)
