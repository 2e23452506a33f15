"""In every write mode: a load that is killed anywhere and run again leaves what one load would."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from lakebed.store.platform import Platform
from tests.support import processes
from tests.support.modes import ask, customer, day, deliver, load

STEPS = ("extracted", "began", "copied", "written", "recorded", "committed")


def _rows(name: str, round: int) -> tuple[str, list[dict[str, Any]]]:
    """Return a file and its rows for the first load of a table, or for the one that is killed."""
    many = range(200)
    if name == "prices":
        return "1.parquet", [{'the "item"': f"{i}", "Price %s": round} for i in many]
    if name == "airports":
        return "1.csv", [{"order": f"{i + round}", "name": f"{i % 2 + round}"} for i in many]
    if name == "members":
        left = [i % 3 == 0 and round for i in many]
        rows = [
            {"id": i, "select": f"{round}", "changed": day(1 + round), "left ?": str(bool(left[i]))}
            for i in many
        ]
        return f"{round}.csv", rows
    if name == "stock":
        rows = [{"day": day(1 + i), "item": "a", "pieces": round} for i in many[: 200 - 50 * round]]
        return "1.csv", rows
    if name == "customers":
        return f"{round}.csv", [customer(i, f"{round}", 1 + round) for i in many]
    rows = [
        {"url": f"{round} {i}", "publication name": f"{i % 7}", "country": "x", "city": f"{round}"}
        for i in many
    ]
    return f"{round}.parquet", rows


CONTENT = {
    "prices": "select * from prices order by 1, 2",
    "airports": "select * from airports order by 1",
    "members": "select * from members order by 1",
    "stock": "select * from stock order by 1",
    "customers": "select * from customers order by id, valid_from",
    "articles": "select url, name, p.city from articles join publications n on n.id ="
    " publication_id join places p on p.id = place order by 1",
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.thorough
def test_a_load_killed_after_a_step_and_run_again_is_as_one(
    of_modes: Platform, name: str, step: str
) -> None:
    file, rows = _rows(name, 0)
    deliver(of_modes, f"{name}/{file}", rows)
    load(of_modes, name)
    before = ask(of_modes, CONTENT[name])
    parents = _parents(of_modes, name)
    file, rows = _rows(name, 1)
    deliver(of_modes, f"{name}/{file}", rows)
    assert processes.run(processes.load, of_modes.settings, name, step, None) == -9
    shutil.rmtree(of_modes.settings.home / "dlt", ignore_errors=True)
    after_kill = ask(of_modes, CONTENT[name])
    undone = "select count(*) from pg_class where relnamespace = 'lakebed_undo'::regnamespace"
    changes = name != "articles"  # which are only appended
    if step == "committed":
        assert after_kill != before
        assert load(of_modes, name).load_id is None
        assert ask(of_modes, CONTENT[name]) == after_kill
    else:
        assert after_kill == before
        assert _parents(of_modes, name) == parents
        assert ask(of_modes, undone) == [(0,)]
        assert load(of_modes, name).load_id is not None
    _check(of_modes, name)
    assert ask(of_modes, undone) == [(int(changes),)]


def _parents(platform: Platform, name: str) -> int:
    if name != "articles":
        return 0
    return int(
        ask(platform, "select (select count(*) from publications) + count(*) from places")[0][0]
    )


def _check(platform: Platform, name: str) -> None:
    """Compare with what both deliveries come to."""
    queries: dict[str, tuple[str, tuple[Any, ...]]] = {
        "prices": ('select count(*), sum("Price %s")::int from prices', (200, 200)),
        "airports": (
            'select count(*), min("order"::int), sum(name::int)::int from airports',
            (200, 1, 300),
        ),
        "members": ("select count(*), sum(id)::int from members", (133, 19900 - 33 * 67 * 3)),
        "stock": ("select count(*), sum(pieces)::int from stock", (150, 150)),
        "customers": (
            "select count(*), count(valid_to), count(distinct id) from customers",
            (400, 200, 200),
        ),
        "articles": ("select count(*), count(distinct publication_id) from articles", (400, 7)),
    }
    query, expected = queries[name]
    assert ask(platform, query) == [expected]
