"""The entry point for Dagster: settings from the environment, and the map of the platform."""

from pathlib import Path

import dagster as dg

from lakebed.build import build_defs
from lakebed.resources.settings import read_settings


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of the platform that the environment describes.

    Where neither it nor the working folder names a project, the checkout of Lakebed is one: its
    workspace file works from any folder.
    """
    settings = read_settings()
    if settings.project is None and not settings.tables.is_dir():
        settings = read_settings(folder=Path(__file__).parent)
    return build_defs(settings)
