"""What the documents say is what the code does."""

import re
from pathlib import Path

import pytest

from lakebed.cli import main as cli
from lakebed.resources.settings import NAMES
from lakebed.spec.schema import columns_of
from lakebed.spec.table import Csv, Export, SourceTable, Tiering
from lakebed.spec.table_files import load_tables, read_table_files
from lakebed.spec.types import LITERALS, TYPES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CHANGELOG.md"])


def table_names(document: str) -> list[str]:
    """Return what stands in backticks at the start of each row of a Markdown table."""
    return re.findall(r"^\| `([^`]+)`", document, re.M)


def code_blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document, re.M | re.S)


def test_the_settings_document_lists_every_setting_and_no_other():
    assert sorted(table_names((ROOT / "docs/settings.md").read_text())) == sorted(NAMES)


def test_the_tables_document_lists_every_field_of_a_source_table():
    document = (ROOT / "docs/tables.md").read_text().partition("## The fields of")[2]
    document = document.partition("\n## ")[0]
    fields = [name for name in SourceTable.__dataclass_fields__ if name != "columns"]
    assert table_names(document) == fields


def test_the_exports_document_lists_every_field_of_an_export():
    document = (ROOT / "docs/exports.md").read_text()
    listed = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]+) \|", document, re.M)))
    assert listed == [*Export.__dataclass_fields__]
    csv = re.search(r"^\| `csv` \| `Csv\(\)` \| (.*)$", document, re.M)
    assert re.findall(r"`(\w+)` \(", csv[1]) == [*Csv.__dataclass_fields__]


def test_the_export_of_the_exports_document_is_one_that_works(tmp_path):
    (block,) = code_blocks((ROOT / "docs/exports.md").read_text(), "python")
    (tmp_path / "late.py").write_text(block)
    (export,) = read_table_files(tmp_path).exports
    assert (export.name, export.kind) == ("late_flights", "csv")


def test_the_tables_document_lists_every_field_of_a_tiering():
    document = (ROOT / "docs/tables.md").read_text().partition("\n## Tiering")[2]
    document = document.partition("\n## ")[0]
    assert sorted(table_names(document)) == sorted(Tiering.__dataclass_fields__)


def test_the_tables_document_lists_every_type():
    document = (ROOT / "docs/tables.md").read_text().partition("## The fields of")[0]
    listed = set(re.findall(r"\| `([a-z][^`]*)` \| `[A-Z]", document))
    examples = {"numeric(15,2)", "public.mood", "bigint[]", "uuid[]"}
    known = {types.postgres for types in (*TYPES.values(), *LITERALS.values())}
    assert listed == known | examples


def test_the_table_of_the_readme_is_one_file_that_works(tmp_path):
    blocks = [block for block in code_blocks(README, "python") if "SourceTable(" in block]
    assert len(blocks) == 1
    (tmp_path / "readings.py").write_text(blocks[0])
    (table,) = load_tables(tmp_path)
    assert table.name == "readings"
    assert [column.name for column in columns_of(table.model)] == list(table.column_names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(document):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def test_every_make_target_that_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"`?make ([a-z-]+)", README))
    assert named
    assert named <= targets


def test_the_commands_document_lists_every_command_and_exit_code():
    document = (ROOT / "docs/commands.md").read_text()
    assert table_names(document) == [f"lakebed {name}" for name in cli.group.commands]
    codes = re.findall(r"^\| (\d+) \|", document, re.M)
    assert all(re.search(rf"\b{code}\b", cli.HELP) for code in codes)


def test_every_command_that_the_readme_names_exists():
    named = set(re.findall(r"(?:bin/|\$ |`)lakebed ([a-z]+)", README))
    assert named
    assert named <= cli.group.commands.keys()
