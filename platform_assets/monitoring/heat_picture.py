"""The heat map of a table's partitions as a picture: a cell a partition, a row a stretch of time.

Hours stand by day, days by month, weeks and months by year, years by decade. Drawn with numpy and
written as a PNG of a few colours: nothing that draws need be installed.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Mapping
from datetime import datetime

import numpy as np
import numpy.typing as npt

from lakebed.monitoring.status import State
from lakebed.spec.partitions import Grain, window_for_key

ROWS = 60
"""Of a table with more stretches of time the picture shows the last ones."""

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
_WHITE, _INK = 0, 1
_PALETTE = [(255, 255, 255), (90, 90, 90), *(colour for _, colour in COLOURS.values())]
_INDEX = {state: place for place, state in enumerate(COLOURS, start=2)}

_CELL, _STEP, _SCALE = 16, 18, 2
_LEFT, _TOP = 92, 16
_GLYPHS = {  # three by five, a row an octal digit
    "0": "75557",
    "1": "26227",
    "2": "71747",
    "3": "71717",
    "4": "55711",
    "5": "74717",
    "6": "74757",
    "7": "71111",
    "8": "75757",
    "9": "75717",
    "-": "00700",
}

_Canvas = npt.NDArray[np.uint8]


def heat_picture(states: Mapping[str, State], grain: Grain) -> bytes:
    """Return the states of partitions, by key, as a PNG."""
    cells = {_place(window_for_key(grain, key).lower, grain): s for key, s in states.items()}
    rows = sorted({row for row, _ in cells})[-ROWS:]
    height, width = _TOP + max(1, len(rows)) * _STEP, _LEFT + _COLUMNS[grain] * _STEP
    canvas: _Canvas = np.full((height, width), _WHITE, dtype=np.uint8)
    for column in range(_COLUMNS[grain]):
        _write(canvas, str(_header(column, grain)), 2, _LEFT + column * _STEP + 2)
    for line, row in enumerate(rows):
        _write(canvas, row, _TOP + line * _STEP + 3, 2)
    line_of = {row: line for line, row in enumerate(rows)}
    for (row, column), state in cells.items():
        if row in line_of:
            top, left = _TOP + line_of[row] * _STEP, _LEFT + column * _STEP
            canvas[top : top + _CELL, left : left + _CELL] = _INDEX[state]
    return _png(canvas)


def legend(states: Mapping[str, State]) -> str:
    """Return what the colours mean and how many partitions have each, as one line."""
    found = Counter(states.values())
    return ", ".join(
        f"{found[state]} {state} ({colour})"
        for state, (colour, _) in COLOURS.items()
        if found[state]
    )


def _place(lower: datetime, grain: Grain) -> tuple[str, int]:
    """Return the row that a window stands in, by its label, and its column there."""
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


def _write(canvas: _Canvas, text: str, top: int, left: int) -> None:
    for place, letter in enumerate(text):
        bits = np.array([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in _GLYPHS[letter]])
        large = np.kron(bits, np.ones((_SCALE, _SCALE), dtype=np.int64)).astype(bool)
        start = left + place * 4 * _SCALE
        canvas[top : top + 5 * _SCALE, start : start + 3 * _SCALE][large] = _INK


def _png(canvas: _Canvas) -> bytes:
    height, width = canvas.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, of a palette
    unfiltered = np.zeros((height, 1), dtype=np.uint8)
    rows = np.concatenate([unfiltered, canvas], axis=1).tobytes()
    palette = bytes(part for colour in _PALETTE for part in colour)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", palette),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
