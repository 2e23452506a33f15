"""Make generic tests: a YAML file declares one, and the macro behind {% test %} gives its query.

The names are dbt's. built_in_tests.sql has the built-in tests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lakebed.models.calls import Relation
from lakebed.models.model import ModelError, Run, UnlocatedModelError, did_you_mean
from lakebed.models.options import TEST_OPTIONS, checked
from lakebed.models.properties import GenericTest
from lakebed.models.templates import TEST, Rendered, Renderer

_SENTENCES = {
    "unique": "{column} has a value in more than one row.",
    "not_null": "{column} is null.",
    "accepted_values": "{column} has a value that is not accepted.",
    "relationships": "{column} has a value without a match: {more}.",
}


class GenericTestQuery(NamedTuple):
    """A generic test with its query. options: checked.  model: the model that it belongs to."""

    test: GenericTest
    name: str
    rendered: Rendered
    options: Mapping[str, object]
    description: str


def name_of(test: GenericTest) -> str:
    """Return the name that dbt gives a test."""
    if test.name:
        return test.name
    of = test.of if isinstance(test.of, str) else "_".join(test.of)
    kind = test.kind if isinstance(test.of, str) else f"source_{test.kind}"
    arguments = dict(test.arguments)
    if test.column is not None:
        arguments["column_name"] = test.column
    flat: list[str] = []
    for name in sorted(arguments):
        value = arguments[name]
        parts = value.values() if isinstance(value, Mapping) else value
        flat += map(
            str, parts if not isinstance(parts, str) and hasattr(parts, "__iter__") else [parts]
        )
    clean = "__".join(re.sub(r"[^0-9a-zA-Z_]+", "_", part) for part in flat)
    return f"{kind}_{of}_{clean}"


def ask(
    test: GenericTest, renderer: Renderer, base: Mapping[str, object], run: Run | None = None
) -> GenericTestQuery:
    """Return a test with its query.

    Args:
        test: The test.
        renderer: The renderer of the project.
        base: The options of all tests.
        run: The run to render for.

    Raises:
        ModelError: The test does not exist, or its options or its query are wrong.
    """
    if not renderer.has_test(test.kind):
        advice = did_you_mean(test.kind, renderer.tests, "The tests")
        raise ModelError(*test.place, f"the test {test.kind!r} does not exist", advice)
    options = dict(base)
    for name, value in test.options.items():
        rendered_value = renderer.value(value, test.place)
        try:
            options[name] = checked(name, rendered_value, TEST_OPTIONS, f"the test {test.kind!r}")
        except UnlocatedModelError as complaint:
            raise complaint.at(*test.place) from complaint
    rendered = renderer.render_text(
        f"{{{{ {TEST}{test.kind}(**_arguments) }}}}",
        test.place,
        options=TEST_OPTIONS,
        base=options,
        run=run,
        more=lambda namespace: {"_arguments": _arguments(test, renderer, options, namespace)},
    )
    return GenericTestQuery(
        test, name_of(test), rendered, rendered.config, _description(test, options)
    )


def _arguments(
    test: GenericTest,
    renderer: Renderer,
    options: Mapping[str, object],
    namespace: Mapping[str, Any],
) -> dict[str, object]:
    read = namespace["ref"] if isinstance(test.of, str) else namespace["source"]
    relation = read(*([test.of] if isinstance(test.of, str) else test.of))
    where = options.get("where")
    if where:
        filtered = f"(select * from {relation} where {where}) as dbt_subquery"  # noqa: S608  (SQL of the project)
        relation = Relation(relation.identifier, filtered)
    found: dict[str, object] = {"model": relation}
    if test.column is not None:
        found["column_name"] = test.column
    for name, value in test.arguments.items():
        found[name] = renderer.value(value, test.place, namespace)
    return found


def _description(test: GenericTest, options: Mapping[str, object]) -> str:
    description = options.get("description")
    if description:
        return str(description)
    more = ", ".join(f"{name} {value}" for name, value in test.arguments.items())
    sentence = _SENTENCES.get(test.kind, "A row that the test {kind} refuses.")
    return sentence.format(kind=test.kind, column=test.column or test.of, more=more)
