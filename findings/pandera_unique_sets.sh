#!/usr/bin/env bash
# pandera, polars backend: of several sets of unique columns in Config.unique, only the first set
# that has duplicates is reported. Rows that repeat another set are in no failure case, so whoever
# removes the failing rows keeps them.
#
# A guess: with unique = [["a"], ["b"]], lazy validation reports the duplicates of a and of b. The
# control, a model with the second set alone, reports them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'pandera[polars]==0.35.0' 'polars==2.1.0'
"$folder/venv/bin/python" - <<'PYTHON'
import pandera
import pandera.polars as pa
import polars as pl

rows = pl.DataFrame({"a": [1, 1, 2, 3], "b": [1, 2, 7, 7]})


def failing(sets):
    class Model(pa.DataFrameModel):
        a: pl.Int64
        b: pl.Int64

        class Config:
            unique = sets

    try:
        Model.validate(rows, lazy=True)
    except pa.errors.SchemaErrors as errors:
        return sorted(errors.failure_cases["index"].unique())
    return []


both, control = failing([["a"], ["b"]]), failing([["b"]])
print("pandera", pandera.__version__, "polars", pl.__version__)
print("duplicates of a are rows 0 and 1, of b rows 2 and 3")
print("reported for unique=[['a'], ['b']]:", both, "(one would guess [0, 1, 2, 3])")
print("reported for unique=[['b']]:       ", control)
assert control == [2, 3], control
assert both == [0, 1], f"the behaviour has changed: {both}"
PYTHON
