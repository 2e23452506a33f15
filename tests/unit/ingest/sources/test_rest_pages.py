"""A page of an API holds its list, or it is an error; its numbers are as they were written."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from lakebed.ingest.sources.reader import SourceError
from lakebed.ingest.sources.rest import Pages
from lakebed.ingest.sources.values import text_of
from lakebed.spec.table import Deletes, RestApi, SourceTable, TableError
from tests.support.queried import orders


def source(selector: str | None = "data", **more: Any) -> RestApi:
    return RestApi(base_url="https://h", path="p", data_selector=selector, **more)


def answer(body: Any, status: int = 200) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return SimpleNamespace(
        status_code=status,
        is_redirect=False,
        content=content,
        headers={"Content-Type": "application/json"},
    )


def look_at(declared: RestApi, *bodies: Any) -> Any:
    """Look at pages of an API of rows with an id; return the last one, parsed."""
    pages = Pages("https://h/p", declared, ["id"])
    for body in bodies:
        page = answer(body)
        pages.look_at(page)
    return page.json()


ROWS = {"data": [{"id": 1}]}


@pytest.mark.parametrize(
    ("selector", "bodies"),
    [
        ("data", [ROWS, {"data": []}]),
        ("a.b", [{"a": {"b": [{"id": 1}]}}]),
        ("data[*]", [{"data": [{"id": 1}]}, {"data": []}]),
        ("data[*].row", [{"data": [{"row": {"id": 1}}]}, {"data": []}]),
        ("data[?(@.id > 5)]", [{"data": [{"id": 6}, {"id": 7}]}, {"data": []}]),
        ("$", [[{"id": 1}], []]),
        ("$", [{"id": 1}]),
        ("data", [{"data": {"id": 1, "more": 2}}]),
        (None, [ROWS, {"data": []}]),
        (None, [[{"id": 1}], []]),
        (None, [{"meta": [], "items": []}]),
    ],
)
def test_a_page_with_its_list_is_one(selector: str | None, bodies: list[Any]) -> None:
    assert look_at(source(selector), *bodies) == bodies[-1]


@pytest.mark.parametrize(
    ("selector", "bodies", "named"),
    [
        ("data", [{"error": "busy"}], "error"),
        ("date", [ROWS | {"pages": 1}], "data, pages"),
        ("data", [ROWS, {"error": "busy"}], "page 2"),
        ("data", [{"data": None}], "null"),
        ("data", [{"data": "busy"}], "a text"),
        ("data", [{"data": 0}], "a number"),
        ("data", [{"data": [1, 2]}], "a number"),
        ("data", [{"data": [{"id": 1}, None]}], "null"),
        ("data", [{"data": {"error": "busy"}}], "error"),
        ("data", [ROWS, {"data": {"id": 1}}], "one object"),
        ("data", [b"<html>log in</html>"], "not JSON"),
        ("data", [b'{"data": [{"id": 1}, {"id'], "not JSON"),
        ("data", [b""], "not JSON"),
        ("data", [["a", "list"]], "a list"),
        ("a.b", [{"a": {"c": []}}], "the keys a"),
        ("data[*]", [{"error": "busy"}], "error"),
        ("data[*].row", [{"data": [{"error": 1}]}], "data"),
        ("$", [[{"id": 1}], {"error": "busy"}], "error"),
        ("$", [{"error": "busy"}], "error"),
        ("][", [ROWS], "JSON path"),
        (None, [{"error": "busy"}], "error"),
        (None, [ROWS, {"error": "busy"}], "error"),
        (None, ["busy"], "a text"),
    ],
)
def test_a_page_without_its_list_is_an_error_that_names_what_it_has(
    selector: str | None, bodies: list[Any], named: str
) -> None:
    with pytest.raises(SourceError) as refused:
        look_at(source(selector), *bodies)
    assert named in refused.value.problem


@pytest.mark.parametrize("body", [{}, {"data": None}, {"error": "busy"}, b"", b" \n"])
def test_a_table_may_say_that_a_page_without_a_list_is_the_end(body: Any) -> None:
    declared = source(page_without_list="empty")
    assert look_at(declared, ROWS, body) == ({} if isinstance(body, bytes) else body)


def test_errors_and_redirects_are_left_to_dlt() -> None:
    pages = Pages("https://h/p", source(), ["id"])
    for status, redirect in ((503, False), (302, True)):
        page = answer(b"not JSON", status)
        page.is_redirect = redirect
        pages.look_at(page)
        assert not hasattr(page, "json")


def test_numbers_stay_as_they_are_written() -> None:
    body = b'{"data":[{"id":1,"n":12345678901234567.89,"d":{"fee":1.10,"wei":1e-30,"i":-12}}]}'
    (row,) = look_at(source(), body)["data"]
    assert text_of(row["n"]) == "12345678901234567.89"
    assert text_of(row["d"]) == '{"fee": 1.10, "wei": 1e-30, "i": -12}'
    assert (float(row["n"]), int(row["n"])) == (12345678901234567.89, 12345678901234568)


DECLARED: dict[str, Any] = {"paginator": "single_page"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        DECLARED | {"page_without_list": "empty"},
        {"paginator": {"type": "page_number", "total_path": None, "maximum_page": 3}},
        {"paginator": {"type": "offset", "limit": 10, "maximum_offset": 30}},
    ],
)
@pytest.mark.parametrize("how", [{"deletes": "full_extract"}, {"write_mode": "replace"}])
def test_a_full_extract_whose_end_cannot_be_proven_is_refused(
    more: dict[str, Any], how: dict[str, Any]
) -> None:
    with pytest.raises(TableError, match="full extract"):
        orders(source(**more), **how)
    assert isinstance(orders(source(**more)), SourceTable)
    assert orders(source(**DECLARED), **how).loads_whole
    assert orders(source(**more), deletes=Deletes(marker="gone")).source == source(**more)


def test_an_unknown_way_to_take_a_page_is_refused() -> None:
    with pytest.raises(TableError, match="page_without_list"):
        orders(source(page_without_list="skip"))
