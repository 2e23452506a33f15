"""A platform that waits for others as long as a test wants."""

from __future__ import annotations

from dataclasses import replace

from lakebed.store.platform import Platform


def with_patience(platform: Platform, **limits: float) -> Platform:
    """Return the platform with other limits of waiting; see Patience."""
    settings = platform.settings
    patience = replace(settings.patience, **limits)  # type: ignore[arg-type]
    return replace(platform, settings=replace(settings, patience=patience))
