"""What the tests against a real PostgreSQL share beside tests/conftest.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lakebed.resources.settings import Settings
from lakebed.store.platform import Platform, open_platform
from tests.support.modes import TABLES


@pytest.fixture
def of_modes(settings: Settings) -> Platform:
    """The platform over the tables of tests/modes, one for each way of writing."""
    return open_platform(replace(settings, tables=TABLES))
