"""Assets of what cannot be used: their description says why, and so does each of their runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence

import dagster as dg

from lakebed.orchestration.dagster_metadata import code_link
from lakebed.spec.broken import Broken
from lakebed.spec.names import export_key, hot_key
from lakebed.store.platform import Platform

_LOG = logging.getLogger("lakebed")
_KEY = re.compile(r"[A-Za-z0-9_]+")
GROUP = "broken"


def broken_assets(
    platform: Platform, broken: Sequence[Broken], taken: Collection[dg.AssetKey]
) -> list[dg.AssetsDefinition]:
    """Return an asset for each table, model and export that cannot be used.

    Broken tests, YAML files and macros have none: `lakebed check` and platform/health name them.

    Args:
        platform: What takes secrets out of texts.
        broken: What cannot be used.
        taken: The keys of the assets that work.
    """
    found: dict[dg.AssetKey, Broken] = {}
    for item in broken:
        _LOG.warning("left out: %s %s: %s", item.kind, item.name, platform.text_of(item.error))
        key = _key_of(item)
        if key is not None and key not in taken:
            found.setdefault(key, item)
    return [_asset(key, item, platform.text_of(item.error)) for key, item in found.items()]


def _key_of(item: Broken) -> dg.AssetKey | None:
    parts: Sequence[str] = ()
    if item.kind == "table":
        parts = hot_key(item.name)
    elif item.kind == "export":
        parts = export_key(item.name)
    elif item.kind == "model" and item.group is not None:
        parts = (item.group, item.name)
    return dg.AssetKey(list(parts)) if parts and all(map(_KEY.fullmatch, parts)) else None


def _asset(key: dg.AssetKey, item: Broken, problem: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=key,
        description=f"**Broken: fix its file to use it.**\n\n{problem}",
        group_name=GROUP,
        tags={"broken": item.kind},
        metadata={
            "problem": problem,
            **(code_link(item.path, f"{item.name}, its file") if item.path else {}),
        },
    )
    def refuse() -> None:
        raise dg.Failure(problem, allow_retries=False)

    return refuse
