"""Extensions come from their wheels, and no query brings in one that is not signed."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from lakebed.resources.extensions import extension_file, in_memory


def test_a_query_can_load_no_extension_that_is_not_signed(tmp_path: Path) -> None:
    unsigned = tmp_path / "httpfs.duckdb_extension"
    content = bytearray(extension_file("httpfs").read_bytes())
    content[1000] ^= 1
    unsigned.write_bytes(content)
    with in_memory(["postgres_scanner"]) as connection:
        loaded = "select loaded from duckdb_extensions() where extension_name like 'postgres%'"
        assert connection.execute(loaded).fetchall() == [(True,)]
        with pytest.raises(duckdb.IOException, match="signature is either missing or invalid"):
            connection.execute(f"load '{unsigned}'")
        with pytest.raises(duckdb.InvalidInputException, match="while database is running"):
            connection.execute("set allow_unsigned_extensions = true")
