"""Read blocks of docs: texts in Markdown files that descriptions name by {{ doc('name') }}."""

from __future__ import annotations

import re

from lakebed.models.model import ModelError
from lakebed.models.project import Project
from lakebed.spec.broken import Broken

_BLOCK = re.compile(r"\{%-?\s*docs\s+(\w+)\s*-?%\}(.*?)\{%-?\s*enddocs\s*-?%\}", re.S)


def blocks_of(project: Project) -> tuple[dict[str, str], list[Broken]]:
    """Return the text of each block by name, and the files that cannot be used."""
    found: dict[str, str] = {}
    broken: list[Broken] = []
    for path in project.doc_files():
        try:
            blocks = _BLOCK.findall(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            unread = ModelError(
                path, None, f"the docs cannot be read: {error}", "Save it as UTF-8."
            )
            broken.append(Broken("docs", path.name, path, unread))
            continue
        for name, text in blocks:
            if name in found:
                problem = f"the block of docs {name!r} is defined a second time"
                twice = ModelError(path, None, problem, "Rename one of them.")
                broken.append(Broken("docs", name, path, twice))
            found[name] = text.strip()
    return found, broken
