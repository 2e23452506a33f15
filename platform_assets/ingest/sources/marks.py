"""Find quotes, escapes, delimiters and line breaks in CSV, and the bytes between quotes.

All by array, without loops over values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lakebed.ingest.sources.dialect import Dialect

Positions = npt.NDArray[np.intp]
BREAKS = b"\r\n"


def hides_escapes(data: bytes, dialect: Dialect) -> bool:
    """Return whether whole records may have an escape in quotes after a delimiter or break."""
    if dialect.quote is None or dialect.escape is None or dialect.quote not in data:
        return False
    array = np.frombuffer(data, np.uint8)
    quotes = quotes_in(array, dialect)
    if are_astray(array, quotes, dialect):
        return True
    escapes = np.flatnonzero(array == ord(dialect.escape))
    escapes = escapes[escapes > 0]
    escapes = escapes[edges_of(dialect)[array[escapes - 1]]]
    return bool((np.searchsorted(quotes, escapes) % 2).any())


def quotes_in(array: npt.NDArray[np.uint8], dialect: Dialect) -> Positions:
    """Return the positions of quotes that are not escaped."""
    if dialect.quote is None:
        return np.array([], np.intp)
    quotes = np.flatnonzero(array == ord(dialect.quote))
    if dialect.escape is None:
        return quotes
    return quotes[~escaped(array, quotes, ord(dialect.escape))]


def edges_of(dialect: Dialect) -> npt.NDArray[np.bool_]:
    """Say of each byte whether it is a delimiter or part of a line break."""
    edge = np.zeros(256, np.bool_)
    edge[[ord(dialect.delimiter), *BREAKS]] = True
    return edge


def are_astray(array: npt.NDArray[np.uint8], quotes: Positions, dialect: Dialect) -> bool:
    """Say whether a quote opens in the middle of a value, or closes before its end."""
    if len(quotes) == 0:
        return False
    edge = edges_of(dialect)
    opened, closed = quotes[0::2], quotes[1::2]
    before = _last_before(array, opened) if dialect.initial_space else opened - 1
    opens_well = (before < 0) | edge[array[np.maximum(before, 0)]]
    last = len(array) - 1
    closes_well = (closed == last) | edge[array[np.minimum(closed + 1, last)]]
    if dialect.doubled_quotes:
        pairs = min(len(opened) - 1, len(closed))
        doubled = opened[1 : pairs + 1] == closed[:pairs] + 1
        opens_well[1 : pairs + 1] |= doubled
        closes_well[:pairs] |= doubled
    return not (opens_well.all() and closes_well.all())


def _last_before(array: npt.NDArray[np.uint8], places: Positions) -> Positions:
    """Return the position of the last byte other than a space before each place, or -1."""
    solid = np.flatnonzero(array != ord(" "))
    index = np.searchsorted(solid, places) - 1
    found: Positions = np.where(index < 0, -1, solid[np.maximum(index, 0)])
    return found


def initial_spaces(array: npt.NDArray[np.uint8], dialect: Dialect) -> Positions:
    """Return the positions of spaces before values, in whole records."""
    spaces = np.flatnonzero(array == ord(" "))
    before = _last_before(array, spaces)
    quotes = quotes_in(array, dialect)
    outside = np.searchsorted(quotes, before) % 2 == 0
    edge = edges_of(dialect)[array[np.maximum(before, 0)]]
    if dialect.escape is not None:
        edge &= ~escaped(array, before, ord(dialect.escape))
    found: Positions = spaces[(before < 0) | (outside & edge)]
    return found


def may_hold_other_breaks(data: bytes, dialect: Dialect) -> bool:
    """Say whether there is a line break that ends no line, between quotes or not."""
    match dialect.line_end:
        case None:
            return False
        case b"\n":
            return b"\r" in data
        case b"\r":
            return b"\n" in data
        case _:
            array = np.frombuffer(data, np.uint8)
            feeds, behind = np.flatnonzero(array == 10), np.flatnonzero(array == 13) + 1
            # The last byte may be half of a pair.
            return not np.array_equal(feeds, behind[behind < len(array)])


def are_other_breaks_outside(
    array: npt.NDArray[np.uint8], quotes: Positions, dialect: Dialect
) -> bool:
    """Return whether an unescaped break outside of quotes has another kind than the lines' end."""
    feeds, carriages = np.flatnonzero(array == 10), np.flatnonzero(array == 13)
    match dialect.line_end:
        case None:
            return False
        case b"\n":
            places = carriages
        case b"\r":
            places = feeds
        case _:
            carriages = carriages[carriages < len(array) - 1]
            alone = carriages[array[carriages + 1] != 10]
            places = np.concatenate([feeds[(feeds == 0) | (array[feeds - 1] != 13)], alone])
    return len(_outside(array, places, quotes, dialect)) > 0


def line_ends(array: npt.NDArray[np.uint8], quotes: Positions, dialect: Dialect) -> Positions:
    """Return where the lines of whole records end: the first byte of each break."""
    breaks = np.flatnonzero((array == 10) | (array == 13))
    second = (breaks > 0) & (array[breaks] == 10) & (array[breaks - 1] == 13)
    return _outside(array, breaks[~second], quotes, dialect)


def delimiters_in(array: npt.NDArray[np.uint8], quotes: Positions, dialect: Dialect) -> Positions:
    """Return the positions of delimiters between values."""
    places = np.flatnonzero(array == ord(dialect.delimiter))
    return _outside(array, places, quotes, dialect)


def _outside(
    array: npt.NDArray[np.uint8], places: Positions, quotes: Positions, dialect: Dialect
) -> Positions:
    places = places[np.searchsorted(quotes, places) % 2 == 0]
    if dialect.escape is not None:
        places = places[~escaped(array, places, ord(dialect.escape))]
    return places


def unescaped_escapes(array: npt.NDArray[np.uint8], escape: int) -> Positions:
    """Return the positions of escape characters that are not escaped themselves."""
    escapes = np.flatnonzero(array == escape)
    found: Positions = escapes[~escaped(array, escapes, escape)]
    return found


def are_breaks_inside(array: npt.NDArray[np.uint8], quotes: Positions) -> bool:
    """Return whether quotes contain a line break."""
    breaks = np.flatnonzero((array == 10) | (array == 13))
    return bool((np.searchsorted(quotes, breaks) % 2).any())


def escaped(array: npt.NDArray[np.uint8], places: Positions, escape: int) -> npt.NDArray[np.bool_]:
    """Return for each place whether an odd number of escape characters precedes it."""
    escapes = np.flatnonzero(array == escape)
    if len(escapes) == 0 or len(places) == 0:
        return np.zeros(len(places), np.bool_)
    order = np.arange(len(escapes))
    begins = np.r_[True, np.diff(escapes) != 1]
    run = order - np.maximum.accumulate(np.where(begins, order, 0)) + 1
    index = np.minimum(np.searchsorted(escapes, places - 1), len(escapes) - 1)
    odd: npt.NDArray[np.bool_] = (escapes[index] == places - 1) & (run[index] % 2 == 1)
    return odd
