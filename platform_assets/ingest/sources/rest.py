"""HTTP APIs through dlt's rest_api: page after page, each of them a list of rows.

dlt takes an answer without the list for an empty page, which ends the reading like the last page.
So every answer is looked at before dlt sees it: it must hold its list, and its numbers stay as they
are written (written.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jsonpath_ng import Child, Fields
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.ext.parser import parse

from lakebed.ingest.sources.reader import SourceError, first_line, listed, shortened
from lakebed.ingest.sources.resource import ResourceReader
from lakebed.ingest.sources.values import text_of
from lakebed.ingest.sources.written import Written
from lakebed.resources.settings import Settings
from lakebed.spec.queried_sources import RestApi


class RestReader(ResourceReader):
    """Reads RestApi."""

    def __init__(self, source: RestApi, settings: Settings) -> None:
        """Read the list that source names."""
        path = f"{source.base_url.rstrip('/')}/{source.path.lstrip('/')}"
        super().__init__(path, path, source.every, settings)
        self._source = source

    def _open(self, columns: list[str], newer: tuple[str, Any] | None) -> Iterator[Any]:
        from dlt.sources.rest_api import rest_api_resources

        from lakebed.resources.dlt_pipelines import configure_dlt

        configure_dlt()
        source = self._source
        params = dict(source.params)
        if newer is not None and source.cursor_param is not None:
            value = newer[1]
            params[source.cursor_param] = (
                value.strftime(source.cursor_format)
                if source.cursor_format is not None
                else text_of(value)
            )
        client = {
            "base_url": source.base_url,
            "headers": dict(source.headers) or None,
            "auth": None if source.auth is None else dict(source.auth),
            "paginator": dict(source.paginator)
            if source.paginator is not None and not isinstance(source.paginator, str)
            else source.paginator,
        }
        endpoint = {
            "path": source.path,
            "params": params,
            "data_selector": source.data_selector,
            "response_actions": [Pages(self.path, source, columns).look_at],
        }
        config = {
            "client": {k: v for k, v in self.with_secrets(client).items() if v is not None},
            "resources": [
                {
                    "name": "rows",
                    "endpoint": {
                        k: v for k, v in self.with_secrets(endpoint).items() if v is not None
                    },
                }
            ],
        }
        (resource,) = rest_api_resources(config)  # type: ignore[arg-type]
        return iter(resource)


class Pages:
    """The pages of one reading of an API, each looked at before dlt takes its rows."""

    def __init__(self, path: str, source: RestApi, columns: list[str]) -> None:
        """Look for rows with these columns. path: of the API, for errors. Raises SourceError."""
        self._path = path
        self._may_lack_list = source.page_without_list == "empty"
        self._columns = frozenset(columns)
        self._selector = source.data_selector
        self._number = 0
        self._had_list = False

    def look_at(self, response: Any, *_: Any, **__: Any) -> None:
        """Make sure that a page is one, and let dlt read its numbers as they are written.

        Raises SourceError.
        """
        if response.status_code >= 400 or response.is_redirect:
            return  # dlt raises, tries again, or follows
        self._number += 1
        page = self._parsed(response)
        response.json = lambda **_: page
        if self._selector is None:
            self._selector = self._found_selector(page)
        problem = self._problem(page, self._selector)
        if problem is not None:
            raise self._error(problem)

    def _parsed(self, response: Any) -> Any:
        if not response.content.strip() and self._may_lack_list:
            return {}
        try:
            return json.loads(response.content, parse_float=Written)
        except ValueError as error:
            kind = response.headers.get("Content-Type", "of no type")
            problem = f"page {self._number} is not JSON ({first_line(error)}; it is {kind})"
            raise SourceError(self._path, f"the answer of {problem}") from None

    def _found_selector(self, page: Any) -> str:
        """Return where dlt will look for the list in all pages, from what it finds in the first."""
        from dlt.sources.helpers.rest_client.detector import find_response_page_data

        path, found = find_response_page_data(page)
        if not isinstance(found, list) and not self._may_lack_list:
            raise self._error(f"it holds no list ({_keys(page)})")
        return ".".join(path)

    def _problem(self, page: Any, selector: str) -> str | None:
        """Say why a page is none, or None."""
        try:
            path = parse(selector)
        except JSONPathError as error:
            return f"data_selector={selector!r} is not a JSON path ({first_line(error)})"
        found = [match.value for match in path.find(page)]
        if not found:
            if self._may_lack_list or _ends_in_an_empty_list(path, page):
                return None
            return f"it has nothing at data_selector={selector!r} ({_keys(page)})"
        value = found[0] if len(found) == 1 else found
        if value is None:
            return None if self._may_lack_list else f"what it has at {selector!r} is null"
        if isinstance(value, list):
            self._had_list = True
            strange = next((row for row in value if not isinstance(row, dict)), None)
            if any(not isinstance(row, dict) for row in value):
                return f"the list at {selector!r} holds {_kind(strange)}, not rows as objects"
            return None
        if not isinstance(value, dict):
            return f"what it has at {selector!r} is {_kind(value)}, not a list"
        of_list = isinstance(path, Child) and not isinstance(path.right, Fields)
        if not of_list and (self._had_list or not self._columns & value.keys()):
            return f"what it has at {selector!r} is one object, not a list ({_keys(value)})"
        return None

    def _error(self, problem: str) -> SourceError:
        return SourceError(
            self._path,
            f"page {self._number} of the answer has no list: {problem}; nothing was loaded. "
            "Correct data_selector in the table file, or load again; for an API whose last page "
            "has no list, declare page_without_list='empty'",
        )


def _ends_in_an_empty_list(path: Any, page: Any) -> bool:
    """Say whether a path finds nothing because a list on its way is empty."""
    if not isinstance(path, Child):
        return False
    before = [match.value for match in path.left.find(page)]
    if not before:
        return _ends_in_an_empty_list(path.left, page)
    return not isinstance(path.right, Fields) and any(isinstance(each, list) for each in before)


def _keys(value: Any) -> str:
    if isinstance(value, dict):
        return f"it has the keys {listed(list(value))}" if value else "it has no keys"
    return f"it is {_kind(value)}"


def _kind(value: Any) -> str:
    names = {str: "a text", bool: "a Boolean", int: "a number", Written: "a number"}
    names |= {list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), shortened(type(value).__name__))
