"""The names that users import from `lakebed`: complete, importable, documented, quick."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lakebed
from lakebed.errors import LakebedError
from tests.support.checkout import ROOT

INTERNAL = {
    # Caught inside the package, or raised by the command alone.
    "UnlocatedModelError",
    "QueryError",
    "FinerThanMicrosecondsError",
    "SchemaError",
    "TooWideError",
    "UnstorableError",
    "UpError",
    "WholeBatchError",
}


@pytest.mark.parametrize("name", lakebed.__all__)
def test_each_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(lakebed, name)
    assert inspect.getdoc(found)
    assert found.__module__.startswith("lakebed.")
    assert name in dir(lakebed)


def test_the_page_about_python_lists_the_public_names() -> None:
    page = (ROOT / "docs" / "python.md").read_text().partition("## All names")[2]
    assert sorted(re.findall(r"`(\w+)`", page)) == sorted(lakebed.__all__)


def test_a_type_checker_sees_the_names_that_are_imported() -> None:
    tree = ast.parse(Path(lakebed.__file__).read_text())
    (guarded,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        (alias.asname, f"{node.module}")
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(lakebed._MODULES.items())
    assert len(lakebed.__all__) == len(set(lakebed.__all__)) == len(seen)


def test_each_public_error_can_be_imported_from_lakebed() -> None:
    errors: set[str] = set()
    for module in pkgutil.walk_packages(lakebed.__path__, "lakebed."):
        if module.name.endswith("__main__"):
            continue
        errors |= {
            name
            for name, kind in vars(importlib.import_module(module.name)).items()
            if inspect.isclass(kind)
            and issubclass(kind, LakebedError)
            and not kind.__name__.startswith("_")
        }
    assert errors - set(lakebed.__all__) == INTERNAL


def test_each_field_type_of_a_source_table_can_be_imported_from_lakebed() -> None:
    table = lakebed.SourceTable
    kinds = {
        kind.__name__
        for module in ("policies", "sources", "queried_sources", "transforms")
        for kind in vars(importlib.import_module(f"lakebed.spec.{module}")).values()
        if inspect.isclass(kind)
        and kind.__module__ == f"lakebed.spec.{module}"
        and not kind.__name__.startswith("_")
    }
    assert table.__name__ == "SourceTable"
    assert kinds - set(lakebed.__all__) == {"Files", "RejectedRows"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="SourceTabel"):
        lakebed.SourceTabel  # noqa: B018


def test_importing_lakebed_imports_nothing_that_is_slow() -> None:
    program = (
        "import sys, lakebed, lakebed.errors;"
        "print([m for m in sys.modules if m in"
        " ('dagster', 'dlt', 'pandera', 'polars', 'pyarrow', 'duckdb', 'psycopg', 'rich')])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout == "[]\n", shown.stderr
    table = "import sys; from lakebed import SourceTable; print('dagster' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", table], capture_output=True, text=True)
    assert shown.stdout == "False\n", shown.stderr
