#!/usr/bin/env bash
# DuckDB: ORDER BY on a column of floats turns the -0.0 that it gives back into 0.0.
#
# A guess: sorting changes the order of rows and none of their values. The controls give the same
# rows in the same order without sorting by the bare column, and keep the sign.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "duckdb==1.5.5"
"$folder/venv/bin/python" - <<'PYTHON'
import math
import sys

import duckdb

print("duckdb", duckdb.__version__)
connection = duckdb.connect()
connection.execute("create table zeros as select -0.0::double as d, [-0.0::double] as l")


def signs(query: str) -> tuple[bool, bool]:
    """Return whether the zero in the column, and that in the list, have a minus."""
    ((d, l),) = connection.execute(query).fetchall()
    return math.copysign(1, d) < 0, math.copysign(1, l[0]) < 0


by_column = signs("select d, l from zeros order by d, l")
unsorted = signs("select d, l from zeros")
by_expression = signs("select d, l from zeros order by coalesce(d, d), coalesce(l, l)")
print("a guess:                                   -0.0 and [-0.0] stay what they are")
print("not sorted (control):                     ", unsorted)
print("order by coalesce(d, d), ... (control):   ", by_expression)
print("order by d, l:                            ", by_column)
as_found = unsorted == by_expression == (True, True) and by_column == (False, False)
print("as found" if as_found else "DuckDB behaves otherwise now")
sys.exit(not as_found)
PYTHON
