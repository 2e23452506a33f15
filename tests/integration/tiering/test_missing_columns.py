"""Settled rows from before their table was altered: what readers see, and what a restore does."""

from __future__ import annotations

import pytest

from lakebed.errors import TieringError
from lakebed.monitoring.doctor import examine
from lakebed.monitoring.findings import Code
from lakebed.resources.settings import Settings
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain
from lakebed.store.platform import open_platform
from lakebed.tiering.restore import Restored, restore
from tests.integration.scaffolding.test_adopt import declared
from tests.support.processes import move_key
from tests.support.tiers import ask, do, seen


def test_a_default_stands_in_where_settled_rows_are_older_than_a_column(
    settings: Settings,
) -> None:
    before = open_platform(settings, ())
    do(
        before,
        "create type mood as enum ('sad', 'glad')",
        "create table feelings (at timestamptz not null, mood mood)",
        "insert into feelings values ('2024-01-05Z', 'sad'), ('2024-01-06Z', null)",
    )
    platform = open_platform(settings, (declared(settings, "feelings"),))
    move_key(platform, "feelings", "2024-01")
    do(
        before,
        "alter table feelings add n int not null default 5",
        "alter table feelings add twice int generated always as (n * 2) stored",
        "alter table feelings add x int not null",
        "alter type mood rename value 'sad' to 'gloomy'",
    )
    platform = open_platform(settings, (declared(settings, "feelings"),))
    assert seen(platform, 'select mood, n, x from feelings order by "at"') == [
        ("sad", None, None),
        (None, None, None),
    ]
    found = [f for f in examine(platform).findings if f.code is Code.COLUMN_YOUNGER_THAN_ROWS]
    (missing,) = [f for f in found if "column n," in f.what]
    assert missing.where == "feelings"
    assert missing.todo.endswith("its default, 5")
    table, window = platform.table("feelings"), window_for_key(Grain.MONTH, "2024-01")

    def bring() -> Restored:
        return restore(platform.postgres, platform.lake, table, window, platform.clock.now())

    with pytest.raises(TieringError, match=r"hold 'sad' in mood, .*ADD VALUE 'sad'"):
        bring()
    do(before, "alter type mood rename value 'gloomy' to 'sad'")
    platform = open_platform(settings, (declared(settings, "feelings"),))
    table = platform.table("feelings")
    with pytest.raises(TieringError, match=r"have no x, .*SET DEFAULT"):
        bring()
    do(before, "alter table feelings alter x set default 7")
    assert bring().rows == 2
    rows = ask(platform, 'select mood::text, n, twice, x from feelings order by "at"')
    assert rows == [("sad", 5, 10, 7), (None, 5, 10, 7)]
