"""Generate the tables of fields in docs/tables.md from the strings under the fields.

    python -m lakebed.spec.field_reference docs/tables.md           # write the tables
    python -m lakebed.spec.field_reference docs/tables.md --check   # exit 1 if outdated

A page marks each place by `<!-- fields of CLASS -->` and `<!-- end of fields -->`, and the table
replaces the lines between the two. The classes are read as syntax trees; nothing is imported.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lakebed.errors import WRONG_USAGE, LakebedError

MODULES = ("table.py", "policies.py", "transforms.py", "sources.py", "queried_sources.py")
"""The files of this package whose dataclasses a page may show."""
BLOCK = re.compile(r"(<!-- fields of (\w+) -->\n).*?(<!-- end of fields -->)", re.S)
HEADER = "| field | default | meaning |\n|---|---|---|\n"
OUTDATED = 1


@dataclass(frozen=True)
class FieldText:
    """One field of a dataclass, as the page shows it."""

    name: str
    default: str
    """The default as Python writes it; empty for a field that has none."""
    meaning: str

    @property
    def row(self) -> str:
        """The field's row of the Markdown table."""
        default = f"`{self.default}`" if self.default else ""
        return f"| `{self.name}` | {default} | {self.meaning} |\n".replace("|  |", "| |")


def render(page: str) -> str:
    """Return the text of a page with every table of fields brought up to date.

    Raises:
        LakebedError: The page has no mark, a mark names an unknown class, or a field of the
            class has no string under it.
    """
    if not BLOCK.search(page):
        raise LakebedError(
            "the page has no table of fields; write `<!-- fields of SourceTable -->` and "
            "`<!-- end of fields -->` on lines of their own where it belongs"
        )
    classes = {node.name: node for node in _classes()}

    def table(block: re.Match[str]) -> str:
        if block[2] not in classes:
            known = ", ".join(sorted(classes))
            raise LakebedError(f"fields of {block[2]}: unknown class. Expected one of {known}")
        rows = "".join(field.row for field in fields_of(classes[block[2]]))
        return f"{block[1]}{HEADER}{rows}{block[3]}"

    return BLOCK.sub(table, page)


def fields_of(node: ast.ClassDef) -> list[FieldText]:
    """Return the fields that a dataclass declares itself and that its constructor takes."""
    found = []
    for at, statement in enumerate(node.body):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(statement.annotation) or _is_derived(statement.value):
            continue
        name = statement.target.id
        after = node.body[at + 1] if at + 1 < len(node.body) else None
        if not (
            isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            raise LakebedError(
                f"{node.name}.{name}: the field has no string under it. Write one that says what "
                "the field means"
            )
        meaning = " ".join(after.value.value.split()).replace("|", "\\|")
        found.append(FieldText(name, _default(statement.value), meaning))
    return found


def _classes() -> Iterator[ast.ClassDef]:
    for name in MODULES:
        tree = ast.parse((Path(__file__).parent / name).read_text(encoding="utf-8"))
        yield from (node for node in tree.body if isinstance(node, ast.ClassDef))


def _options(value: ast.expr | None) -> dict[str, ast.expr] | None:
    """Return the arguments of a call of `field()`, or None for any other default."""
    if not isinstance(value, ast.Call) or ast.unparse(value.func) != "field":
        return None
    return {option.arg: option.value for option in value.keywords if option.arg is not None}


def _is_derived(value: ast.expr | None) -> bool:
    options = _options(value)
    return options is not None and "init" in options and ast.unparse(options["init"]) == "False"


def _default(value: ast.expr | None) -> str:
    options = _options(value)
    if options is not None:
        if "default_factory" in options:
            return "{}" if ast.unparse(options["default_factory"]) == "dict" else ""
        value = options.get("default")
    if value is None:
        return ""
    text = ast.unparse(value)
    return f'"{text[1:-1]}"' if re.fullmatch(r"'[^'\"]*'", text) else text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of fields into a page, or check them, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lakebed.spec.field_reference", description=__doc__.splitlines()[0]
    )
    parser.add_argument("page", type=Path, help="the Markdown page, such as docs/tables.md")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    options = parser.parse_args(arguments)
    page: Path = options.page
    try:
        text = page.read_text(encoding="utf-8")
        rendered = render(text)
    except (LakebedError, OSError) as error:
        sys.stderr.write(f"{page}: {error}\n")
        return WRONG_USAGE
    if rendered == text:
        return 0
    if options.check:
        sys.stderr.write(
            f"{page}: the tables of fields are outdated. Run "
            f"`python -m lakebed.spec.field_reference {page}`\n"
        )
        return OUTDATED
    page.write_text(rendered, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
