"""Open the platform at the beginning of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lakebed.cli.check import warn_of_broken

if TYPE_CHECKING:
    from lakebed.resources.lake import Lake
    from lakebed.resources.settings import Settings
    from lakebed.store.platform import Platform


def open_for_writing() -> Platform:
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
    warn_of_broken(platform.broken)
    return platform


def open_for_reading() -> Platform:
    """Open the platform for reading: a home that is not there is a mistake, not a new one."""
    from lakebed.resources.settings import read_settings
    from lakebed.store.platform import open_platform

    settings = read_settings()
    platform = open_platform(settings)
    _check_home(settings)
    warn_of_broken(platform.broken)
    return platform


def open_lake_for_reading() -> Lake:
    """Open both tiers for queries alone, which need not import the table files each time."""
    from lakebed.resources.settings import read_settings
    from lakebed.store.lake_tables import open_lake

    settings = read_settings()
    lake = open_lake(settings, warn_of_broken)
    _check_home(settings)
    return lake


def _check_home(settings: Settings) -> None:
    from lakebed.resources.settings import SettingsError

    if settings.postgres_url is None and not settings.home.is_dir():
        raise SettingsError(
            f"No Lakebed home at {settings.home}. Load a table first (`lakebed load --all`), set "
            "LAKEBED_HOME, or change to the folder of the project"
        )


def say_that_no_table_is_declared(platform: Platform) -> None:
    """Say on stderr that there are no table files, and how to write one.

    Says nothing where table files are broken: `open_for_writing` has named them.
    """
    if platform.broken:
        return
    click.echo(
        f"No table is declared in {platform.settings.tables}. Write a table file there, let "
        "`lakebed add` write one, or set LAKEBED_TABLES",
        err=True,
    )
