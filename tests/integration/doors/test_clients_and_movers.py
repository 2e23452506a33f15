"""A stock DuckDB reads each row exactly once while other processes move, compact and write."""

from __future__ import annotations

import re
import time

import pytest

from lakebed.doors.write import write_catalog
from lakebed.store.platform import Platform
from tests.support.clients import attached_readers, needs_ducklake
from tests.support.tiers import EACH, MONTHS, ask, fill, settle

pytestmark = needs_ducklake

ROWS = len(MONTHS) * EACH
SUM = sum(range(ROWS))
BOTH = """
select a.n, a.total, a.ids, r.n % 2, r.total
from (select count(*) as n, sum(id) as total, count(distinct id) as ids from accounts) a,
  (select count(*) as n, sum(number) as total from readings) r"""
EXACT = (ROWS, SUM, ROWS, 0, SUM)


@pytest.fixture
def tiered(platform: Platform) -> Platform:
    fill(platform)
    fill(platform, "accounts")
    settle(platform, "accounts", MONTHS[0])
    write_catalog(platform)
    return platform


@pytest.mark.parametrize("seconds", [6, pytest.param(90, marks=pytest.mark.thorough)])
def test_no_client_ever_sees_a_row_twice_or_misses_one(tiered: Platform, seconds: int) -> None:
    with attached_readers(tiered.settings, [BOTH]) as outcome:
        time.sleep(seconds)
    print(f"{outcome['moves']} moves against {len(outcome['answers'])} reads")
    assert outcome["moves"] >= max(1, seconds // 30)
    assert len(outcome["answers"]) >= max(2, seconds // 10)
    assert [found for (found,) in outcome["answers"] if found != EXACT] == []


def test_a_client_without_the_masked_keys_would_be_wrong(tiered: Platform) -> None:
    ((query,),) = ask(
        tiered, "select document -> 'views' -> 0 ->> 'sql' from lakebed.client_catalog"
    )
    naive = re.sub(r" anti join .*? union all", " union all", query)
    assert naive != query
    with tiered.postgres.connect() as connection:
        connection.execute(
            "update lakebed.client_catalog set schema_version = schema_version + 1,"
            " document = jsonb_set(document, '{views,0,sql}', to_jsonb(%s::text))",
            [naive],
        )
    with attached_readers(tiered.settings, [BOTH], 1) as outcome:
        time.sleep(4)
    assert any(found != EXACT for (found,) in outcome["answers"])


def test_a_client_with_two_transactions_would_be_wrong(tiered: Platform) -> None:
    cold = (
        "select count(*), sum(id) from tiers.accounts__cold"
        " anti join tiers.accounts__masked using (opened, id)"
    )
    hot = "select count(*), sum(id) from tiers.accounts__hot"
    with attached_readers(tiered.settings, [cold, hot], 1) as outcome:
        time.sleep(6)
    counts = [cold[0] + hot[0] for cold, hot in outcome["answers"]]
    assert any(count != ROWS for count in counts)
