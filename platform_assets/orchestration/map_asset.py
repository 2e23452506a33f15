"""platform/start_here: the map of the platform, for a user who opens the browser first.

It is an asset that nothing writes. Its description is the map: the flow of the rows as a picture,
what each group of assets is, and what to click.
"""

from __future__ import annotations

from collections import Counter

import dagster as dg

from lakebed.models.model import ModelSet
from lakebed.orchestration.dagster_metadata import code_link
from lakebed.store.platform import Platform

KEY = dg.AssetKey(["platform", "start_here"])

_PICTURE = """\
```
             load                move when due
 source/… ─────────▶ hot/… ───────────────────▶ cold/…
 files, databases    PostgreSQL                 Parquet in the lake
                        └───────────┬──────────────┘
                                    │  one table for every reader
                                    ▼
                              models, exports
```"""

_CLICKS = """\
| to do this | click |
|---|---|
| see all assets | [Lineage](/asset-groups), then right-click the background: *Expand all groups* |
| load a table now | its `hot/…` asset, *Materialize* |
| see where old rows are | a `cold/…` asset, *Partitions*: the metadata `state` of each says it |
| move partitions now | a `cold/…` asset, *Materialize…*; partitions that are not due stay \
(tag `lakebed/before_due` moves them too) |
| see rows that broke the contract | a `hot/…` asset, *Checks* |
| restore a partition | [Jobs](/jobs), `restore`, *Launchpad* |
| see what runs by itself | [Automation](/automation): sensors and schedules say what they do |
| see how everything is | [platform/health](/assets/platform/health) |

Commands such as `lakebed load` and `lakebed move` show here within half a minute, too."""


def map_spec(platform: Platform, models: ModelSet) -> dg.AssetSpec:
    """Return the asset whose description is the map of the platform."""
    return dg.AssetSpec(
        KEY,
        description=f"Start here: how rows flow, and what to click.\n\n{_PICTURE}\n\n"
        f"{_groups(platform, models)}\n\n{_CLICKS}",
        group_name="platform",
        kinds={"markdown"},
        tags={"explains": "everything"},
        metadata=code_link(__file__, "the map"),
    )


def _groups(platform: Platform, models: ModelSet) -> str:
    """Return a table of the groups of assets: what each is, and how many assets it has."""
    tables = platform.tables
    rows = [
        ("source", sum(t.source is not None for t in tables), "What is delivered. Read only."),
        ("hot", len(tables), "The tables in PostgreSQL: a run loads what is new in the source."),
        (
            "cold",
            sum(t.tiering is not None for t in tables),
            "Old partitions as Parquet: a run moves what is due.",
        ),
    ]
    built = Counter(model.group for model in models.built())
    rows += [
        (group, number, "SQL models, built when what they read changed.")
        for group, number in sorted(built.items())
    ]
    if platform.exports:
        rows.append(("exports", len(platform.exports), "Files for readers outside the platform."))
    rows.append(("platform", 2, "This map, and the health of everything."))
    lines = [f"| `{group}` | {number} | {what} |" for group, number, what in rows]
    return "\n".join(["| group | assets | what it is |", "|---|---|---|", *lines])
