"""What people see and click in the Dagster UI of `lakebed up`; each test builds on the one before.

SCREENSHOTS=1 writes the pictures of the README anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest

from tests.browser.conftest import Up, wait_until
from tests.support.checkout import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.thorough]

IMAGES = ROOT / "docs" / "images"
FLIGHTS = 336_776
GROUPS = ("source", "hot", "cold", "staging", "marts", "platform")
ASSETS = ("airlines", "airports", "planes", "weather", "flights", "stg_flights", "daily_traffic")


def picture(page: Any, name: str, x: int, y: int, width: int, height: int) -> None:
    """Write a picture for the README, where pictures are asked for."""
    if os.environ.get("SCREENSHOTS"):
        IMAGES.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(1500)  # for what fades in and out
        clip = {"x": x, "y": y, "width": width, "height": height}
        page.screenshot(path=IMAGES / name, clip=clip)


def picture_of_graph(page: Any, up: Up) -> None:
    """Show what the two tiered tables and the models are made of, all groups expanded."""
    shown = quote('key:"*flights" or key:"*/weather" or group:"marts"', safe="")
    groups = quote(",".join(f"global@global:{name}" for name in GROUPS), safe="")
    page.set_viewport_size({"width": 1672, "height": 1200})
    page.goto(up.page(f"/asset-groups~{shown}/?expanded={groups}"))
    page.get_by_text("stg_flights").first.wait_for()
    page.get_by_text("Hide navigation").click()
    page.locator("button:has([aria-label=panel_show_right])").last.click()
    page.mouse.dblclick(1640, 140)  # fits the graph to the window
    page.locator("[aria-label=zoom_in]").evaluate(
        "e => { while (getComputedStyle(e).position !== 'absolute') e = e.parentElement;"
        " e.style.visibility = 'hidden' }"
    )
    page.add_style_tag(content="[style*='data:image'] { background: #fff !important }")
    picture(page, "graph.png", 70, 110, 1600, 1020)


def cells(page: Any) -> list[list[str]]:
    """Return the rows of the table that a check shows."""
    rows = page.locator("table table tbody tr")
    rows.first.wait_for()
    return [row.locator("td").all_inner_texts() for row in rows.all()]


def heat_map(page: Any) -> Any:
    """Return what shows the heat map, its picture being drawn."""
    shown = page.locator("tr", has_text="heat_map").last
    folded = shown.get_by_text("[Show Markdown]")
    drawn = shown.locator("img[alt=partitions]").first
    folded.or_(drawn).first.wait_for()
    if folded.count():
        folded.click()
        shown = page.locator("[role=dialog]").last
        drawn = shown.locator("img[alt=partitions]").first
    drawn.scroll_into_view_if_needed()
    assert drawn.evaluate("image => image.naturalWidth") == 92 + 12 * 18
    return shown


def test_the_graph_shows_every_group_and_its_assets(page: Any, up: Up) -> None:
    page.goto(up.page("/asset-groups"))
    graph = page.locator("svg foreignObject")
    for group in GROUPS:
        graph.get_by_text(group, exact=True).first.wait_for()
    assert graph.get_by_text("daily_traffic").count() == 0
    page.mouse.click(1000, 800, button="right")
    page.get_by_role("menuitem", name="Expand all groups").click()
    graph.get_by_text("daily_traffic").first.wait_for()
    page.mouse.move(1200, 500)
    for _ in range(3):
        page.locator("button:has([aria-label=zoom_out])").click()
    for asset in ASSETS:
        graph.get_by_text(asset, exact=True).first.wait_for()


def test_what_a_command_moved_is_green_with_its_figures(page: Any, up: Up) -> None:
    page.goto(up.page("/assets/cold/flights?view=partitions&partition=2014-01"))
    page.get_by_text("Materialized (1)").wait_for(timeout=60_000)
    page.get_by_text("Missing (12)").wait_for()
    page.get_by_text("generation 1", exact=True).first.wait_for()
    page.get_by_text("committed_at").first.wait_for()
    picture(page, "moved_by_command.png", 240, 0, 1360, 760)


def test_the_map_says_what_to_click(page: Any, up: Up) -> None:
    page.goto(up.page("/assets/platform/start_here"))
    page.get_by_text("how rows flow, and what to click").first.wait_for()
    page.get_by_text("partitions that are not due stay").first.wait_for()
    picture(page, "start_here.png", 240, 0, 1360, 900)


def test_a_backfill_of_nine_months_is_started_by_clicks_and_gets_green(page: Any, up: Up) -> None:
    page.goto(up.page("/assets/cold/flights?view=partitions"))
    page.get_by_text("Missing (12)").wait_for()
    page.get_by_role("button", name="Materialize…").click()
    field = page.get_by_placeholder("ex: 2013-01")
    field.fill("[2013-01...2013-09]")
    field.blur()
    page.get_by_text("9 partitions").first.wait_for()
    page.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("Created backfill").wait_for()
    page.get_by_text("Materialized (10)").wait_for(timeout=90_000)
    page.get_by_text("Failed (0)").wait_for()
    page.get_by_text("Missing (3)").wait_for()
    page.get_by_text("2013-07", exact=True).first.click()
    page.get_by_text("dagster/partition_row_count").wait_for()
    page.get_by_text("29428").first.wait_for()
    picture(page, "cold_partitions.png", 240, 0, 1360, 760)
    assert up.ask("select count(*) from flights") == FLIGHTS
    picture_of_graph(page, up)


def test_the_last_partition_of_a_backfill_shows_the_heat_map(page: Any, up: Up) -> None:
    page.goto(up.page("/assets/cold/flights?view=partitions&partition=2013-09"))
    page.get_by_text("seconds_verify").wait_for()
    shown = heat_map(page)
    shown.get_by_text("3 due (yellow), 10 cold (blue)").wait_for()


def test_a_look_at_the_platform_is_taken_by_a_click(page: Any, up: Up) -> None:
    page.goto(up.page("/assets/platform/health?view=events"))
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("overdue_partitions").wait_for(timeout=90_000)
    shown = heat_map(page)
    for table in ("flights", "weather"):
        shown.get_by_text(table, exact=True).wait_for()
    page.goto(up.page("/assets/platform/health?view=checks"))
    page.get_by_text("nothing_is_wrong", exact=True).first.wait_for()


def test_a_partition_that_cannot_be_moved_fails_alone(page: Any, up: Up) -> None:
    with up.locked("weather", "2013-02"):
        page.goto(up.page("/assets/cold/weather?view=partitions"))
        page.get_by_role("button", name="Materialize…").click()
        field = page.get_by_placeholder("ex: 2013-01")
        field.fill("[2013-01...2013-03]")
        field.blur()
        page.get_by_text("3 partitions").first.wait_for()
        page.get_by_role("button", name="Launch backfill").click()
        page.get_by_text("Failed (1)").wait_for(timeout=90_000)
    # The two that were moved, and 2014-01, which has no rows.
    page.get_by_text("Materialized (3)").wait_for()


def test_a_new_file_is_loaded_without_a_hand(up: Up) -> None:
    december = pl.read_parquet(up.data / "flights" / "flights_2013_12.parquet")
    rows = december.head(200).with_columns(
        flight=pl.int_range(9001, 9201, dtype=december.schema["flight"]),
        origin=pl.when(pl.int_range(200) == 7).then(pl.lit("XXX")).otherwise("origin"),
    )
    unfinished = up.data / "flights" / "more.part"
    rows.write_parquet(unfinished)
    unfinished.rename(Path(unfinished).with_suffix(".parquet"))
    wait_until(
        lambda: up.ask("select count(*) from flights") == FLIGHTS + 199, 60, "the rows of the file"
    )


def test_the_checks_of_the_hot_table_show_the_rejected_row(page: Any, up: Up) -> None:
    page.goto(up.page("/assets/hot/flights?view=checks&checkDetail=contract_values"))
    page.get_by_text("Rows that wait in the quarantine: 1.").wait_for()
    for name in ("contract_values", "freshness", "reconciliation", "source_files"):
        assert page.get_by_text(name, exact=True).count() >= 1, name
    ((column, kind, rule, rows, example),) = cells(page)
    assert (column, kind, rows) == ("origin", "rule", "1")
    assert "EWR" in rule
    assert "more.parquet, row 8" in example


def test_the_check_of_the_cold_table_names_its_partition(page: Any, up: Up) -> None:
    page.goto(up.page("/assets/cold/flights?view=checks&checkDetail=fingerprint"))
    page.get_by_text("fingerprint", exact=True).first.wait_for()
    page.get_by_text(
        "27529 rows, 14 columns: PostgreSQL and the re-read file are equal."
    ).wait_for()
    page.get_by_text("2013-09", exact=True).first.wait_for()


def test_the_automation_page_shows_everything_switched_on(page: Any, up: Up) -> None:
    page.goto(up.page("/automation"))
    for name in (
        "alert_on_failure",
        "commands_in_the_ui",
        "daily_upkeep",
        "due_flights",
        "due_weather",
        "hourly_health",
        "models_follow_data",
        "new_files",
        "watch_tables",
    ):
        page.get_by_text(name, exact=True).wait_for()
    page.locator("input[type=checkbox]:checked").nth(8).wait_for(state="attached")
    switches = page.locator("input[type=checkbox]")  # one to select all, two of each
    assert [switch.is_checked() for switch in switches.all()] == [False] + [False, True] * 9


def test_the_models_follow_the_new_file(up: Up) -> None:
    wait_until(
        lambda: up.ask("select sum(flights)::bigint from delays_by_carrier_month") == FLIGHTS + 199,
        90,
        "the model with the rows of the file",
    )


def test_ctrl_c_stops_every_process(up: Up) -> None:
    commands = [" ".join(process.cmdline()) for process in up.processes()]
    for name in ("dagster-webserver", "dagster-daemon", "postgres"):
        assert any(name in command for command in commands), name
    assert up.stop() == 0
    wait_until(lambda: not up.processes(), 15, f"the end of {up.processes()}")
