"""Blocks of docs: texts in Markdown files that descriptions name by {{ doc('name') }}."""

from __future__ import annotations

import re

from lakebed.models.model import ModelError
from lakebed.models.project import Project

_BLOCK = re.compile(r"\{%-?\s*docs\s+(\w+)\s*-?%\}(.*?)\{%-?\s*enddocs\s*-?%\}", re.S)


def blocks_of(project: Project) -> dict[str, str]:
    """Return the text of each block by its name. Raises ModelError for two of one name."""
    found: dict[str, str] = {}
    for path in project.doc_files():
        for name, text in _BLOCK.findall(path.read_text(encoding="utf-8-sig")):
            if name in found:
                problem = f"the block of docs {name!r} is there a second time"
                raise ModelError(path, None, problem, "Rename one of them.")
            found[name] = text.strip()
    return found
