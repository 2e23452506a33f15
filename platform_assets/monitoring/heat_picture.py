"""Draw the heat map of a table's partitions as SVG: one cell for each partition.

A row holds the hours of a day, the days of a month, the weeks or months of a year, or the years of
a decade. The tooltip of a cell shows the key and the state of its partition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from xml.etree import ElementTree

from lakebed.monitoring.status import State
from lakebed.spec.partitions import Grain, window_for_key

ROWS = 60
"""How many rows the picture has at most. It shows the latest ones."""

COLOURS: Mapping[State, tuple[str, tuple[int, int, int]]] = {
    "hot": ("red", (221, 46, 68)),
    "due": ("yellow", (253, 203, 88)),
    "held": ("orange", (244, 144, 12)),
    "cold": ("blue", (85, 172, 238)),
    "late": ("violet", (170, 142, 214)),
    "missing": ("black", (41, 47, 51)),
    "empty": ("grey", (225, 230, 234)),
}

_COLUMNS = {Grain.HOUR: 24, Grain.DAY: 31, Grain.WEEK: 53, Grain.MONTH: 12, Grain.YEAR: 10}
_CELL, _STEP = 16, 18
_LEFT, _TOP = 92, 16
_SVG = "http://www.w3.org/2000/svg"


def heat_picture(states: Mapping[str, State], grain: Grain) -> bytes:
    """Draw the states of partitions, by key, as SVG."""
    places = {key: _place(window_for_key(grain, key).lower, grain) for key in states}
    rows = sorted({row for row, _ in places.values()})[-ROWS:]
    height, width = _TOP + max(1, len(rows)) * _STEP, _LEFT + _COLUMNS[grain] * _STEP
    svg = ElementTree.Element(
        "svg",
        {"xmlns": _SVG, "width": str(width), "height": str(height)},
        **{"font-family": "monospace", "font-size": "11", "fill": "#5a5a5a"},
    )
    _add(svg, "rect", width=width, height=height, fill="#ffffff")
    for column in range(_COLUMNS[grain]):
        _write(svg, str(_header(column, grain)), _LEFT + column * _STEP + 2, 11)
    line_of = {row: line for line, row in enumerate(rows)}
    for row, line in line_of.items():
        _write(svg, row, 2, _TOP + line * _STEP + 12)
    for key, (row, column) in places.items():
        if row in line_of:
            colour = "#{:02x}{:02x}{:02x}".format(*COLOURS[states[key]][1])
            left, top = _LEFT + column * _STEP, _TOP + line_of[row] * _STEP
            cell = _add(svg, "rect", x=left, y=top, width=_CELL, height=_CELL, fill=colour)
            _add(cell, "title").text = f"{key} {states[key]}"
    return ElementTree.tostring(svg)


def legend(states: Mapping[str, State]) -> str:
    """Return one line that explains the colours and counts the partitions of each."""
    found = Counter(states.values())
    return ", ".join(
        f"{found[state]} {state} ({colour})"
        for state, (colour, _) in COLOURS.items()
        if found[state]
    )


def _place(lower: datetime, grain: Grain) -> tuple[str, int]:
    """Return the label of a window's row, and the number of its column."""
    match grain:
        case Grain.HOUR:
            return f"{lower:%Y-%m-%d}", lower.hour
        case Grain.DAY:
            return f"{lower:%Y-%m}", lower.day - 1
        case Grain.WEEK:
            year, week, _ = lower.isocalendar()
            return f"{year:04d}", week - 1
        case Grain.MONTH:
            return f"{lower:%Y}", lower.month - 1
        case Grain.YEAR:
            return f"{lower.year // 10 * 10:04d}", lower.year % 10


def _header(column: int, grain: Grain) -> int:
    return column if grain in (Grain.HOUR, Grain.YEAR) else column + 1


def _write(svg: ElementTree.Element, text: str, left: int, base: int) -> None:
    _add(svg, "text", x=left, y=base).text = text


def _add(parent: ElementTree.Element, tag: str, **attributes: object) -> ElementTree.Element:
    texts = {name: str(value) for name, value in attributes.items()}
    return ElementTree.SubElement(parent, tag, texts)
