"""A table file that cannot be used is left out, and named; the other files count."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lakebed.spec.table import TableError
from lakebed.spec.table_files import read_table_files, table_named

HEAD = """
import pandera.polars as pa
from lakebed.spec.export import Export
from lakebed.spec.table import SourceTable

class Model(pa.DataFrameModel):
    a: int

def table(name, **more):
    return SourceTable(name=name, model=Model, **more)

"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("x = (", {"bad"}),
        ("1 / 0", {"bad"}),
        ("import sys; sys.exit(0)", {"bad"}),
        ("raise BaseException('panic')", {"bad"}),
        ("one = SourceTable(name='one', model=Model, cursor='zz')", {"one"}),
        ("one = table('one')\ntwo = table('two', cursor='zz')", {"one"}),
        ("x = Export(name='x', path='x.doc')", {"x"}),
        ("", {"bad"}),
    ],
)
def test_a_broken_file_is_left_out_whole_and_named(
    tmp_path: Path, text: str, names: set[str]
) -> None:
    (tmp_path / "bad.py").write_text(HEAD + text)
    (tmp_path / "good.py").write_text(HEAD + "good = table('good')")
    found = read_table_files(tmp_path)
    assert [table.name for table in found.tables] == ["good"]
    assert found.exports == ()
    assert {item.name for item in found.broken} == names
    for item in found.broken:
        assert item.path == tmp_path / "bad.py"
        assert str(item.path) in str(item.error)


def test_two_files_of_one_name_are_both_left_out(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(HEAD + "twice = table('twice')")
    (tmp_path / "good.py").write_text(HEAD + "good = table('good')")
    found = read_table_files(tmp_path)
    assert [table.name for table in found.tables] == ["good"]
    (broken,) = found.broken
    assert "a.py" in str(broken.error)
    assert "b.py" in str(broken.error)


def test_asking_for_a_broken_table_gives_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(HEAD + "one = SourceTable(name='one', model=Model, cursor=3)")
    found = read_table_files(tmp_path)
    with pytest.raises(TableError) as asked:
        table_named(found.tables, "one", found.broken)
    assert str(found.broken[0].error) in str(asked.value)


def test_a_table_that_looks_up_rows_in_a_broken_one_is_left_out_too(tmp_path: Path) -> None:
    (tmp_path / "papers.py").write_text(HEAD + "x = SourceTable(name='papers', model=Nothing)")
    lookup = "Lookup(column='paper_id', natural=('paper',), table='papers')"
    (tmp_path / "articles.py").write_text(
        HEAD.replace("a: int", "a: int\n    paper: str").replace(
            "import Export", "import Export\nfrom lakebed.spec.policies import Lookup"
        )
        + f"articles = table('articles', key=('a',), lookups=({lookup},), write_mode='merge')"
    )
    found = read_table_files(tmp_path)
    assert found.tables == ()
    assert {item.name: item.reads for item in found.broken} == {
        "papers": None,
        "articles": "papers",
    }


def test_an_entry_that_cannot_be_read_is_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(HEAD + "good = table('good')\n")
    (tmp_path / ".#good.py").symlink_to("user@host.1234")  # the lock of an editor
    (tmp_path / "gone.py").symlink_to("nowhere")
    (tmp_path / "folder.py").mkdir()
    files = read_table_files(tmp_path)
    assert [table.name for table in files.tables] == ["good"]
    assert {item.name for item in files.broken} == {"gone", "folder"}


def test_a_table_file_imports_a_module_of_its_project_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", list(sys.path))
    project = tmp_path / "project"
    (project / "tables").mkdir(parents=True)
    (project / "pyproject.toml").write_text("[tool.lakebed]\n")
    (project / "names_of_this_project.py").write_text("NAME = 'good'\n")
    (project / "tables" / "good.py").write_text(
        f"{HEAD}from names_of_this_project import NAME\ngood = table(NAME)"
    )
    monkeypatch.chdir(tmp_path)
    found = read_table_files(project / "tables")
    assert [table.name for table in found.tables] == ["good"], found.broken
