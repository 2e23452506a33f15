"""What a project declares and Lakebed cannot use: it is named and left out, and the rest works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lakebed.errors import LakebedError

Kind = Literal[
    "table", "export", "model", "test", "macros", "YAML file", "docs", "project", "settings"
]


@dataclass(frozen=True)
class Broken:
    """One thing that cannot be used.

    Attributes:
        kind: What it would be.
        name: Its name; of a file whose names are not known, the name of the file.
        path: The file that is to be mended, None for settings.
        error: What is wrong, with file and line, and what to do.
        group: Of a model, the first part of its asset key.
        reads: What it reads, where that is broken and the thing itself is not.
        about: Of a test, the model that it guards.
    """

    kind: Kind
    name: str
    path: Path | None
    error: LakebedError
    group: str | None = None
    reads: str | None = None
    about: str | None = None

    @property
    def line(self) -> str:
        """One line for a terminal or a log."""
        return f"{self.kind} {self.name}: {self.error}"


def raise_first(broken: Sequence[Broken]) -> None:
    """Raise the error of the first thing that is broken, if anything is."""
    if broken:
        raise broken[0].error
