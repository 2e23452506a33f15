"""The demo's folders of tables and models, and the settings that name them.

Both folders are part of the package. Outside of a project the demo writes their names into the
home's settings.env, so that each later command in that folder works on the demo.
"""

from __future__ import annotations

from pathlib import Path

from lakebed.resources.embedded import make_home
from lakebed.resources.settings import Settings, SettingsError, read_settings, remember

_FOLDER = Path(__file__).resolve().parent
TABLES = _FOLDER / "tables"
MODELS = (_FOLDER / "models").resolve()


def demo_settings() -> Settings:
    """Return settings with the demo's tables and models, and write them to the home.

    Raises:
        SettingsError: The folder belongs to a project with tables of its own.
    """
    settings = read_settings()
    if settings.tables == TABLES:
        return settings
    if settings.project is not None or settings.tables.is_dir():
        raise SettingsError(
            f"The demo has its own tables, and this project has tables in {settings.tables}. Run "
            "`lakebed demo` in an empty folder"
        )
    if settings.postgres_url is None:
        make_home(settings.home)
    remember(settings.home, "LAKEBED_TABLES", str(TABLES))
    remember(settings.home, "LAKEBED_MODELS", str(MODELS))
    remember(settings.home, "LAKEBED_DATA", str(settings.home / "data"))
    return read_settings()
