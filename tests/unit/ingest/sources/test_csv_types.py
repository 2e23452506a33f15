"""What of a CSV file is read as its type at once is what a cast makes of its text."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakebed.ingest.casts import cast
from lakebed.ingest.sources.delimited import CsvReader
from lakebed.spec.sources import CsvFiles

EXPECTED = {
    "i8": pl.Int8(),
    "i32": pl.Int32(),
    "i64": pl.Int64(),
    "u8": pl.UInt8(),
    "u64": pl.UInt64(),
    "date": pl.Date(),
    "text": pl.String(),
}
ODD_VALUES = [
    *("", "0", "-0", "+5", "007", "127", "128", "-129", "255", "256", " 7 ", "\t7", "\u00a07"),
    *("1e2", "0x1F", "0X1f", "1_000", "1,000", "1.", "1.0", "NaN", "9223372036854775808"),
    *("18446744073709551615", "18446744073709551616", "\u0663\u0664", "null", "NULL", "\\N"),
    *("--1", "1-", "true", "2024-01-31", "2024-1-31", "2024-02-30", "0000-01-01", "9999-12-31"),
    *("a\0b", "ünïcödé \U0001f600"),
    *("20240131", "12345-01-01", "2024-01-31 ", "2024-01-31T00:00:00", "-0001-01-01"),
]


@given(
    st.sampled_from(sorted(EXPECTED)),
    st.lists(
        st.tuples(
            st.sampled_from(ODD_VALUES)
            | st.from_regex(r"[ \t]?[-+]?[0-9]{0,6}\.?[0-9]{0,2}[ ]?", fullmatch=True)
            | st.from_regex(r"[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}", fullmatch=True),
            st.booleans(),
        ),
        min_size=1,
        max_size=2,
    ),
    st.booleans(),
    st.sampled_from([("",), ("", "NULL"), ("\\N",)]),
)
def test_what_is_read_as_its_type_is_what_its_text_is_cast_to(
    tmp_path: Path,
    name: str,
    values: list[tuple[str, bool]],
    quoted_nulls: bool,
    nulls: tuple[str, ...],
) -> None:
    lines = (f'1,"{text}"' if quoted or "," in text else f"1,{text}" for text, quoted in values)
    (tmp_path / "a.csv").write_text("\n".join([f"x,{name}", *lines, ""]))
    source = CsvFiles(glob="a.csv", null_strings=nulls, quoted_nulls=quoted_nulls)
    reader = CsvReader(source, tmp_path)
    dtype = EXPECTED[name]
    arrow = pa.string() if name == "text" else pl.Series([], dtype=dtype).to_arrow().type
    reader.expect({name: arrow})
    (item,) = reader.find()
    for batch in reader.batches(item, columns=["x", name]):
        read, text = batch.frame[name], batch.as_it_is().frame[name]
        assert text.dtype == pl.Binary
        if batch.plain is not None:
            assert read.dtype == dtype
            done, again = cast(text, dtype), cast(read, dtype)
            assert [why for why, *_ in done.problems] == [why for why, *_ in again.problems]
            assert done.series.to_list() == again.series.to_list()


def test_a_batch_of_values_that_are_all_of_a_type_is_read_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,d\n 7,2024-01-31\n,\n")
    reader = CsvReader(CsvFiles(glob="a.csv"), tmp_path)
    reader.expect({"n": pa.int32(), "d": pa.date32()})
    (item,) = reader.find()
    (batch,) = reader.batches(item, columns=["n", "d"])
    assert batch.frame.rows() == [(7, date(2024, 1, 31)), (None, None)]
    assert batch.as_it_is().frame.rows() == [(b" 7", b"2024-01-31"), (None, None)]


def test_what_is_no_utf8_is_read_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"n,t\n1,caf\xe9\n2,tea\n")
    reader = CsvReader(CsvFiles(glob="a.csv"), tmp_path)
    reader.expect({"n": pa.int32(), "t": pa.string()})
    (item,) = reader.find()
    (batch,) = reader.batches(item, columns=["n", "t"])
    assert batch.frame.rows() == [(b"1", b"caf\xe9"), (b"2", b"tea")]
