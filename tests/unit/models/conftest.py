"""A folder of models that a test writes file by file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakebed.models.model import ModelError, ModelSet
from lakebed.models.parser import load_models

SOURCES = {"lakebed": frozenset({"flights", "airlines"})}


class Project:
    """Files of SQL below a folder, and what comes of loading them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, files: dict[str, str]) -> Project:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return self

    def load(self, files: dict[str, str], **variables: object) -> ModelSet:
        return load_models(self.write(files).folder, SOURCES, variables)

    def error(self, files: dict[str, str], **variables: object) -> str:
        """Return the text of the error that loading raises, its paths relative to the folder."""
        with pytest.raises(ModelError) as caught:
            self.load(files, **variables)
        return str(caught.value).replace(f"{self.folder}/", "")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "sql"
    folder.mkdir()
    return Project(folder)
