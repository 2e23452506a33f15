"""A folder of models that a test writes file by file, over a real PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lakebed.models.model import ModelSet
from lakebed.models.runner import BuildResult, build, models_of
from lakebed.models.selection import select
from lakebed.resources.settings import Settings
from lakebed.store.platform import Platform, open_platform


class Project:
    """Files of models, and what comes of building them."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self.platform: Platform = open_platform(replace(settings, models=folder), tables=())

    def write(self, files: dict[str, str]) -> Project:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return self

    @property
    def models(self) -> ModelSet:
        return models_of(self.platform)

    def build(self, *selectors: str, full_refresh: bool = False) -> dict[str, BuildResult]:
        models = self.models
        results = build(
            self.platform, models, select(models, selectors), threads=2, full_refresh=full_refresh
        )
        return {result.name: result for result in results}

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.platform.lake.session() as session:
            return session.sql(query).fetchall()
