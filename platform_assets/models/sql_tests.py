"""Reads singular tests: queries that return the rows that should not be there.

A test belongs to one model, the last one to be built of those that it refers to, so that all it
reads is there when it runs. Its leading comment says what a returned row means.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from platform_assets.keys import is_name
from platform_assets.models.calls import TEST_OPTIONS
from platform_assets.models.model import Model, ModelError, Severity, SqlTest
from platform_assets.models.queries import leading_comment, parse_query
from platform_assets.models.templates import Renderer

TESTS_FOLDER = "tests"


def load_tests(folder: Path, renderer: Renderer, models: Sequence[Model]) -> tuple[SqlTest, ...]:
    """Return the tests in tests/, by name.

    models: in the order in which they are built.
    Raises ModelError for a test that makes no sense.
    """
    tests: dict[str, SqlTest] = {}
    for path in sorted((folder / TESTS_FOLDER).rglob("*.sql")):
        if path.name.startswith("."):
            continue
        test = _load_test(path, renderer, models)
        if test.name in tests:
            problem = f"the test {test.name!r} is also defined by {tests[test.name].path}"
            raise ModelError(path, None, problem, "Rename one of them.")
        tests[test.name] = test
    return tuple(tests[name] for name in sorted(tests))


def _load_test(path: Path, renderer: Renderer, models: Sequence[Model]) -> SqlTest:
    if not is_name(path.stem):
        advice = "Use small letters, digits and '_', a letter first, at most 40 in all."
        raise ModelError(path, None, f"{path.stem!r} cannot be the name of a check", advice)
    rendered = renderer.render(path, options=TEST_OPTIONS)
    referred = [model.name for model in models if model.name in rendered.refs]
    if not referred:
        raise ModelError(
            path,
            None,
            "the test refers to no model, so it belongs to none",
            "Name one by ref(); what must hold for a source table belongs into its contract.",
        )
    test = SqlTest(
        name=path.stem,
        path=path,
        raw_sql=rendered.raw_sql,
        sql=rendered.sql,
        lines=rendered.lines,
        refs=rendered.refs,
        sources=rendered.sources,
        description=cast(str, rendered.config.get("description", leading_comment(rendered.sql))),
        model=referred[-1],
        severity=cast(Severity, rendered.config.get("severity", "error")),
    )
    parse_query(test.sql, path, test.line_of)
    return test
