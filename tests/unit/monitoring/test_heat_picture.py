"""The heat map's picture: a PNG that any reader takes, each cell in the colour of its state."""

from __future__ import annotations

import struct
import zlib
from datetime import UTC, datetime

import pytest

from lakebed.monitoring.heat_picture import COLOURS, ROWS, heat_picture, legend
from lakebed.monitoring.status import State
from lakebed.spec.partitions import Grain

Colour = tuple[int, int, int]


def decoded(png: bytes) -> list[list[Colour]]:
    """Read a PNG as its specification says; every checksum must be right."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size]) == (
            zlib.crc32(kind + data),
        )
        chunks[kind] = data
        at += 12 + size
    width, height, depth, colours, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colours) == (8, 3)
    palette = list(zip(*[iter(chunks[b"PLTE"])] * 3, strict=True))
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (width + 1)
    lines = [raw[y * (width + 1) : (y + 1) * (width + 1)] for y in range(height)]
    return [[palette[value] for value in line[1:]] for line in lines]


def cell(png: bytes, row: int, column: int) -> Colour:
    return decoded(png)[16 + row * 18 + 8][92 + column * 18 + 8]


def test_a_month_stands_in_the_row_of_its_year_in_the_colour_of_its_state() -> None:
    states: dict[str, State] = {"2023-12": "cold", "2024-01": "late", "2024-02": "missing"}
    png = heat_picture(states, Grain.MONTH)
    assert cell(png, 0, 11) == COLOURS["cold"][1]
    assert cell(png, 1, 0) == COLOURS["late"][1]
    assert cell(png, 1, 1) == COLOURS["missing"][1]
    assert cell(png, 1, 2) == (255, 255, 255), "what is no partition has no cell"


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
    png = heat_picture({key.strftime(grain.key_format): "hot"}, grain)
    assert cell(png, 0, column) == COLOURS["hot"][1]


def test_of_very_many_rows_the_last_ones_are_drawn() -> None:
    states: dict[str, State] = {f"{year}-01": "cold" for year in range(1900, 2000)}
    png = heat_picture(states | {"1999-02": "hot"}, Grain.MONTH)
    assert len(decoded(png)) == 16 + ROWS * 18
    assert cell(png, ROWS - 1, 1) == COLOURS["hot"][1]
    assert len(png) < 5000


def test_no_partition_makes_a_picture_without_cells() -> None:
    assert {colour for line in decoded(heat_picture({}, Grain.DAY)) for colour in line} == {
        (255, 255, 255),
        (90, 90, 90),
    }


def test_the_legend_counts_the_states_that_there_are() -> None:
    assert (
        legend({"2024-01": "cold", "2024-02": "hot", "2024-03": "cold"})
        == "1 hot (red), 2 cold (blue)"
    )
