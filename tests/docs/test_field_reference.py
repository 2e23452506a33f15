"""The tables of fields in docs/tables.md are those that the strings under the fields make."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from lakebed.errors import WRONG_USAGE, LakebedError
from lakebed.spec import field_reference
from lakebed.spec.field_reference import OUTDATED, fields_of, main, render
from lakebed.spec.sources import Files
from lakebed.spec.table import (
    CsvFiles,
    Deletes,
    DltResource,
    DuckdbTable,
    Lookup,
    Mapped,
    Partitioning,
    RestApi,
    SourceTable,
    SqliteTable,
    SqlTable,
    Surrogate,
    Tiering,
)

PAGE = Path(__file__).parents[2] / "docs/tables.md"
SHOWN = (
    SourceTable,
    Partitioning,
    Tiering,
    Deletes,
    Surrogate,
    Lookup,
    Mapped,
    CsvFiles,
    SqliteTable,
    DuckdbTable,
    SqlTable,
    RestApi,
    DltResource,
)


def rows_of(page: str, name: str) -> list[str]:
    block = page.partition(f"<!-- fields of {name} -->\n")[2].partition("<!-- end")[0]
    return [line.split("`")[1] for line in block.splitlines()[2:]]


def test_the_tables_of_the_page_are_up_to_date():
    assert main([str(PAGE), "--check"]) == 0


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.__name__)
def test_the_page_shows_each_field_that_a_class_takes(shown):
    inherited = {field.name for field in fields(Files)} if issubclass(shown, Files) else set()
    taken = [field.name for field in fields(shown) if field.init and field.name not in inherited]
    assert rows_of(PAGE.read_text(), shown.__name__) == taken


def test_an_outdated_page_is_found_and_written(tmp_path):
    page = tmp_path / "page.md"
    before = "a\n<!-- fields of Surrogate -->\nold\n<!-- end of fields -->\nb\n"
    page.write_text(before)
    assert main([str(page), "--check"]) == OUTDATED
    assert page.read_text() == before
    assert main([str(page)]) == 0
    written = page.read_text()
    assert written.startswith("a\n<!-- fields of Surrogate -->\n| field ")
    assert written.endswith("|\n<!-- end of fields -->\nb\n")
    assert rows_of(written, "Surrogate") == ["column", "kind"]
    assert main([str(page), "--check"]) == 0


@pytest.mark.parametrize(
    "page", ["no mark", "<!-- fields of Nonsense -->\n<!-- end of fields -->\n"]
)
def test_a_page_without_a_known_mark_is_refused(tmp_path, page):
    with pytest.raises(LakebedError):
        render(page)
    (tmp_path / "page.md").write_text(page)
    assert main([str(tmp_path / "page.md")]) == WRONG_USAGE
    assert (tmp_path / "page.md").read_text() == page


def test_a_page_that_does_not_exist_is_refused(tmp_path):
    assert main([str(tmp_path / "page.md")]) == WRONG_USAGE


def class_of(source: str) -> ast.ClassDef:
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    return node


def test_a_field_without_a_string_is_refused_by_its_name():
    with pytest.raises(LakebedError, match=r"A\.second"):
        fields_of(class_of('class A:\n    first: int\n    """One."""\n    second: int = 2\n'))


def test_defaults_and_meanings_are_as_a_reader_needs_them():
    source = '''
class A:
    kind: ClassVar[str] = "a"
    first: str
    """One
    or two | three."""
    second: str = "x"
    """S."""
    third: Mapping = field(default_factory=dict, kw_only=True)
    """T."""
    fourth: str = field(kw_only=False)
    """F."""
    fifth: bool = field(default=False, kw_only=True)
    """V."""
    derived: int = field(init=False)
'''
    assert [
        (field.name, field.default, field.meaning) for field in fields_of(class_of(source))
    ] == [
        ("first", "", "One or two \\| three."),
        ("second", '"x"', "S."),
        ("third", "{}", "T."),
        ("fourth", "", "F."),
        ("fifth", "False", "V."),
    ]


def test_the_modules_of_the_classes_exist():
    folder = Path(field_reference.__file__).parent
    assert all((folder / name).is_file() for name in field_reference.MODULES)
