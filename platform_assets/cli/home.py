"""What commands begin and end with: the platform is opened, the catalog file is written anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lakebed.cli.errors import words
from lakebed.errors import FAILED, exit_code

if TYPE_CHECKING:
    from lakebed.spec.partitions import Window
    from lakebed.spec.table import SourceTable
    from lakebed.store.platform import Platform


def open_home() -> Platform:
    """Open the platform, and say where its clock stands still."""
    from lakebed.resources.clock import FixedClock
    from lakebed.resources.settings import read_settings
    from lakebed.store.platform import open_platform

    platform = open_platform(read_settings())
    if isinstance(platform.clock, FixedClock):
        click.echo(
            f"the clock of this home stands still at {platform.clock.at:%Y-%m-%d %H:%M} UTC "
            "(LAKEBED_CLOCK, as the demo sets it)",
            err=True,
        )
    return platform


def opened() -> Platform:
    """Open the platform for reading: a home that is not there is a mistake, not a new one."""
    from lakebed.resources.settings import SettingsError, read_settings
    from lakebed.store.platform import open_platform

    settings = read_settings()
    platform = open_platform(settings)
    if settings.postgres_url is None and not settings.home.is_dir():
        raise SettingsError(
            f"No Lakebed home at {settings.home}. Load a table first (`lakebed load --all`), set "
            "LAKEBED_HOME, or change to the folder of the project"
        )
    return platform


def windows_of(table: SourceTable, keys: Sequence[str]) -> list[Window]:
    """Return the windows that partition keys name, in order. Raises TableError."""
    from lakebed.spec.partitions import window_for_key
    from lakebed.spec.table import TableError

    try:
        return sorted({window_for_key(table.require_partitioning.grain, key) for key in keys})
    except ValueError as error:
        raise TableError(f"table {table.name}: {error}") from error


def refresh_catalog(platform: Platform) -> list[str]:
    """Write the catalog file; return why it could not be written, if it could not."""
    from lakebed.tiering.catalog_file import write_catalog

    try:
        write_catalog(platform)
    except Exception as error:
        if exit_code(error) != FAILED:
            raise
        return [f"the catalog file could not be written: {words(error)}"]
    return []
