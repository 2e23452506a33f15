"""The heat map's picture: an SVG, each cell in the colour of its state."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from lakebed.monitoring.heat_picture import COLOURS, ROWS, heat_picture, legend
from lakebed.monitoring.status import State
from lakebed.spec.partitions import Grain

SVG = "{http://www.w3.org/2000/svg}"


def cells(svg: bytes) -> dict[tuple[int, int], tuple[str, str]]:
    """Return the cells of a picture by row and column, each with its colour and its tooltip."""
    root = ElementTree.fromstring(svg)  # noqa: S314
    return {
        ((int(cell.get("y", "")) - 16) // 18, (int(cell.get("x", "")) - 92) // 18): (
            cell.get("fill", ""),
            cell.findtext(f"{SVG}title", ""),
        )
        for cell in root.iter(f"{SVG}rect")
        if cell.get("x")
    }


def colour(state: State) -> str:
    return "#" + bytes(COLOURS[state][1]).hex()


def test_a_month_stands_in_the_row_of_its_year_in_the_colour_of_its_state() -> None:
    states: dict[str, State] = {"2023-12": "cold", "2024-01": "late", "2024-02": "missing"}
    assert cells(heat_picture(states, Grain.MONTH)) == {
        (0, 11): (colour("cold"), "2023-12 cold"),
        (1, 0): (colour("late"), "2024-01 late"),
        (1, 1): (colour("missing"), "2024-02 missing"),
    }


@pytest.mark.parametrize(
    ("grain", "key", "column"),
    [
        (Grain.HOUR, datetime(2024, 2, 29, 23, tzinfo=UTC), 23),
        (Grain.DAY, datetime(2024, 2, 29, tzinfo=UTC), 28),
        (Grain.WEEK, datetime(2024, 12, 30, tzinfo=UTC), 0),
        (Grain.MONTH, datetime(2024, 2, 1, tzinfo=UTC), 1),
        (Grain.YEAR, datetime(2024, 1, 1, tzinfo=UTC), 4),
    ],
    ids=lambda value: value.value if isinstance(value, Grain) else "",
)
def test_each_grain_has_its_columns(grain: Grain, key: datetime, column: int) -> None:
    ((place, (shown, _)),) = cells(
        heat_picture({key.strftime(grain.key_format): "hot"}, grain)
    ).items()
    assert (place, shown) == ((0, column), colour("hot"))


def test_of_very_many_rows_the_last_ones_are_drawn() -> None:
    states: dict[str, State] = {f"{year}-01": "cold" for year in range(1900, 2000)}
    svg = heat_picture(states | {"1999-02": "hot"}, Grain.MONTH)
    found = cells(svg)
    assert len(found) == ROWS + 1
    assert found[ROWS - 1, 1] == (colour("hot"), "1999-02 hot")
    assert ElementTree.fromstring(svg).get("height") == str(16 + ROWS * 18)  # noqa: S314


def test_no_partition_makes_a_picture_without_cells() -> None:
    assert cells(heat_picture({}, Grain.DAY)) == {}


def test_the_legend_counts_the_states_that_there_are() -> None:
    assert (
        legend({"2024-01": "cold", "2024-02": "hot", "2024-03": "cold"})
        == "1 hot (red), 2 cold (blue)"
    )
