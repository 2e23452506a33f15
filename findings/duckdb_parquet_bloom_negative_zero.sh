#!/usr/bin/env bash
# DuckDB: a filter `d = 0` on a Parquet file that DuckDB wrote misses the rows with -0.0.
#
# A guess: -0.0 = 0 is true, in a table and in a file. The bloom filter that is written for a
# dictionary has the hash of -0.0, and 0 has another one. The controls find every row: the same rows
# in a table, and in a file without bloom filters.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "duckdb==1.5.5"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import duckdb

print("duckdb", duckdb.__version__)
connection = duckdb.connect()
connection.execute("create table t as select unnest(['-0.0', '-3', '1.5']::double[]) d from range(1000)")
connection.execute("copy t to 'blooms.parquet'")
connection.execute("copy t to 'plain.parquet' (write_bloom_filter false)")


def count(relation: str) -> int:
    return connection.execute(f"select count(*) from {relation} where d = 0").fetchall()[0][0]


in_table, without, found = count("t"), count("'plain.parquet'"), count("'blooms.parquet'")
print("a guess:                                1000 rows")
print("in a table (control):                  ", in_table)
print("in a file without blooms (control):    ", without)
print("in a file with bloom filters:          ", found)
as_found = (in_table, without, found) == (1000, 1000, 0)
print("as found" if as_found else "DuckDB behaves otherwise now")
sys.exit(not as_found)
PYTHON
