"""JSON by its text, by column: which values are JSON as PostgreSQL reads it.

No library parses a column and returns which rows are wrong, so this module applies the grammar
from the inside out: strings and other scalars become tokens, then the innermost objects and arrays
become tokens, until one token is left or nothing changes any more.
"""

from __future__ import annotations

import polars as pl

STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"'
SCALAR = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null"
MAX_DEPTH = 1000
"""PostgreSQL's own limit follows its stack and is some thousands."""

# Valid JSON contains no control characters, so they can replace the parts that were read.
_TEXT, _VALUE = "\x02", "\x01"
_INNERMOST = (
    r"\{(?:\x02:[\x01\x02](?:,\x02:[\x01\x02])*)?\}"
    r"|\[(?:[\x01\x02](?:,[\x01\x02])*)?\]"
)
_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HUGE = r"[eE][+-]?0*[1-9][0-9]{4}|[0-9]{5000}"


def is_json(texts: pl.Series) -> pl.Series:
    """Whether each text is JSON as the type json takes it; null where the text is null."""
    column = pl.col("c")
    controls = column.str.contains(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
    frame = texts.rename("c").to_frame().with_row_index("row")
    rest = frame.select(
        "row",
        c=pl.when(~controls).then(
            column.str.replace_all(STRING, _TEXT)
            .str.replace_all(SCALAR, _VALUE)
            .str.replace_all(r"[ \t\n\r]+", "")
        ),
    ).drop_nulls()
    valid = []
    for _ in range(MAX_DEPTH):
        done = column.is_in([_TEXT, _VALUE])
        valid.append(rest.filter(done)["row"])
        before = rest.filter(~done)
        # A text that gets no shorter stays what it is.
        rest = before.with_columns(shorter=column.str.replace_all(_INNERMOST, _VALUE)).filter(
            pl.col("shorter").str.len_bytes() < column.str.len_bytes()
        )
        rest = rest.select("row", c="shorter")
        if rest.is_empty():
            break
    good = pl.Series([False]).new_from_index(0, len(texts)).scatter(pl.concat(valid), True)
    return good.set(texts.is_null(), None)


def is_jsonb(texts: pl.Series) -> pl.Series:
    """Whether each text is JSON as the type jsonb takes it, which holds less than json.

    It has no NUL, no half of a surrogate pair, and no number beyond numeric's reach.
    """
    column = pl.col("c")
    escapes = column.str.replace_all(r"\\\\", "")
    beyond = (
        pl.when(column.str.contains(r"\u", literal=True))
        .then(
            escapes.str.contains(r"\\u0000")
            | escapes.str.replace_all(_PAIR, "").str.contains(r"\\u[dD][89a-fA-F]")
        )
        .otherwise(False)
    )
    huge = column.str.replace_all(STRING, "").str.contains(_HUGE)
    bad = texts.rename("c").to_frame().select(beyond | huge).to_series()
    return is_json(texts) & ~bad
