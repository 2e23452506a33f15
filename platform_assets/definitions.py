"""The entry point for Dagster: settings from the environment, and the map of the platform."""

import dagster as dg

from lakebed.build import build_defs
from lakebed.resources.settings import read_settings


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of the platform that the environment describes."""
    return build_defs(read_settings())
