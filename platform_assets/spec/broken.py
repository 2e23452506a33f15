"""Name the parts of a project that Lakebed cannot use. It skips them, and the rest works."""

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
    """One part of a project that Lakebed cannot use.

    Attributes:
        kind: The kind of part.
        name: Its name, or the name of the file where the file reveals no names.
        path: The file to fix; None for settings.
        error: What is wrong, with file and line, and how to fix it.
        group: The first part of a model's asset key.
        reads: The broken part that this one reads, where the fault is not its own.
        about: The model that a test checks.
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
    """Raise the error of the first broken part, if there is one."""
    if broken:
        raise broken[0].error
