"""APIs and dlt resources: page after page, each row once, nothing of a half answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.spec.table import DltResource, RestApi, Secret, SourceTable, TableError
from lakebed.store.platform import Platform
from tests.support import feeds
from tests.support.queried import ask, day, events, load, load_well, orders, whats

Make = Callable[..., Platform]
PAGE = 2


class Shop(ThreadingHTTPServer):
    """An API of orders: pages, a token, a parameter `since`, and an error where it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.rows: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.broken_page = 0
        self.strange: dict[int, bytes] = {}
        """Answers, with 200, of pages that are none."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Answer(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        self.server.asked.append(query)
        page = int(query.get("page", "1"))
        if self.headers.get("Authorization") != "Bearer s3cret":
            return self._say(401, {"error": "who are you?"})
        if page == self.server.broken_page:
            return self._say(400, {"error": "no such luck, s3cret"})
        if page in self.server.strange:
            return self._say(200, self.server.strange[page])
        rows = [row for row in self.server.rows if row["changed"] >= query.get("since", "")]
        first = (page - 1) * PAGE
        pages = -(-len(rows) // PAGE)
        return self._say(200, {"data": rows[first : first + PAGE], "pages": pages})

    def _say(self, status: int, answer: Any) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("SHOP_TOKEN", "s3cret")
    with Shop() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def api(shop: Shop, **more: Any) -> RestApi:
    return RestApi(
        base_url=shop.url,
        path="orders",
        data_selector="data",
        paginator={"type": "page_number", "base_page": 1, "total_path": "pages"},
        auth={"type": "bearer", "token": Secret("SHOP_TOKEN")},
        **more,
    )


def order(number: int, changed: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "customer": f"c{number}", "amount": "1.50", "changed": changed} | more


def test_the_pages_of_an_api_are_read_and_then_what_is_new(platform_of: Make, shop: Shop) -> None:
    source = api(shop, cursor_param="since", cursor_format="%Y-%m-%d")
    platform = platform_of(orders(source, lag=timedelta(days=1)))
    shop.rows = [order(n, f"2024-03-{n:02d}T00:00:00Z") for n in range(1, 6)]
    assert load_well(platform, "orders").inserted == 5
    assert [query.get("page") for query in shop.asked] == ["1", "2", "3"]
    shop.rows += [order(6, "2024-03-04T12:00:00Z"), order(7, "2024-03-06T00:00:00Z")]
    shop.asked.clear()
    report = load_well(platform, "orders")
    assert (report.rows_read, report.inserted, report.unchanged) == (4, 2, 2)
    assert {query["since"] for query in shop.asked} == {"2024-03-04"}
    assert ask(platform, "select count(*) from orders") == [(7,)]


def test_an_error_on_a_page_loads_nothing_and_tells_no_secret(
    platform_of: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = platform_of(orders(api(shop)))
    shop.rows = [order(n, f"2024-03-{n:02d}") for n in range(1, 6)]
    shop.broken_page = 3
    (refused,) = load(platform, "orders").refused
    assert "it failed after row" in refused.problem
    assert "400" in refused.problem
    assert "s3cret" not in refused.problem + repr(platform.tables)
    assert ask(platform, "select count(*) from orders") == [(0,)]
    assert ask(platform, "select count(*) from lakebed.load") == [(0,)]
    shop.broken_page = 0
    assert load_well(platform, "orders").inserted == 5
    monkeypatch.setenv("SHOP_TOKEN", "wrong")
    assert "401" in load(platform, "orders").refused[0].problem


@pytest.mark.parametrize("page", [b'{"error": "busy"}', b'{"data": null}', b'{"data": [{"id"'])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_page_that_is_none_loads_nothing_and_deletes_nothing(
    platform_of: Make, shop: Shop, page: bytes, number: int
) -> None:
    platform = platform_of(orders(api(shop), deletes="full_extract"))
    shop.rows = [order(n, f"2024-03-{n:02d}") for n in range(1, 6)]
    assert load_well(platform, "orders").inserted == 5
    shop.strange[number] = page
    (refused,) = load(platform, "orders").refused
    assert f"page {number}" in refused.problem
    assert ask(platform, "select count(*) from orders") == [(5,)]
    shop.strange.clear()
    shop.rows.pop()
    assert load_well(platform, "orders").deleted == 1


def test_numbers_of_an_api_keep_all_their_digits(platform_of: Make, shop: Shop) -> None:
    class Paid(pa.DataFrameModel):
        id: pl.Int64
        amount: Annotated[pl.Decimal, 20, 2]
        share: pl.Float64
        name: str
        detail: str = pa.Field(metadata={"postgres": "json"})

    merge: Any = {"key": ("id",), "write_mode": "merge"}
    platform = platform_of(SourceTable(name="paid", model=Paid, source=api(shop), **merge))
    shop.strange[1] = (
        b'{"data":[{"id":1,"amount":12345678901234567.89,"share":1e-1,"name":1.10,'
        b'"detail":{"fee":1.10,"wei":12345678901234567890.5}}],"pages":1}'
    )
    load_well(platform, "paid")
    (row,) = ask(platform, "select amount::text, share, name, detail::text from paid")
    wei = '{"fee": 1.10, "wei": 12345678901234567890.5}'
    assert row == ("12345678901234567.89", 0.1, "1.10", wei)


def test_an_append_from_an_api_without_since_takes_each_row_once(
    platform_of: Make, shop: Shop
) -> None:
    table = orders(api(shop), write_mode="append", key=(), lag=timedelta(hours=1))
    platform = platform_of(table)
    shop.rows = [order(1, "2024-03-01T10:00:00Z"), order(2, "2024-03-01T10:30:00Z")]
    load_well(platform, "orders")
    shop.rows.insert(0, order(3, "2024-03-01T10:10:00Z"))
    shop.rows.append(order(4, "2024-03-01T10:30:00Z"))
    load_well(platform, "orders")
    load_well(platform, "orders")
    assert ask(platform, "select id from orders order by id") == [(1,), (2,), (3,), (4,)]


def test_keys_of_json_that_the_contract_does_not_know_follow_its_policy(
    platform_of: Make, shop: Shop
) -> None:
    shop.rows = [order(1, "2024-03-01"), order(2, "2024-03-01", tip=1)]
    shop.rows[0].pop("customer")
    report = load(platform_of(orders(api(shop))), "orders")
    assert "column 'tip' is not in the contract" in report.refused[0].problem
    platform = platform_of(orders(api(shop), new_columns="discard"))
    load_well(platform, "orders")
    assert ask(platform, "select id, customer from orders") == [(1, None), (2, "c2")]


def test_an_api_cannot_evolve_a_table() -> None:
    with pytest.raises(TableError, match="an API does not declare its columns"):
        events(feed("numbers"), new_columns="evolve")


def feed(name: str, **more: Any) -> DltResource:
    return DltResource(resource=f"tests.support.feeds:{name}", **more)


def test_a_dlt_resource_goes_on_where_the_ledger_ends(
    platform_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWS_TOKEN", "s3cret")
    monkeypatch.setattr(feeds, "ROWS", [order(1, "2024-03-05T00:00:00Z")])
    monkeypatch.setattr(feeds, "ASKED", [])
    source = feed("news", arguments={"token": Secret("NEWS_TOKEN")})
    platform = platform_of(orders(source, write_mode="append", key=()))
    load_well(platform, "orders")
    feeds.ROWS[:0] = [order(2, "2024-03-05T00:00:00.000Z"), order(3, "2024-03-06T00:00:00Z")]
    assert load_well(platform, "orders").inserted == 2
    assert load_well(platform, "orders").rows_read == 0
    assert feeds.ASKED == [
        ("s3cret", "2020-01-01T00:00:00Z"),
        ("s3cret", "2024-03-04T00:00:00Z"),
        ("s3cret", "2024-03-05T00:00:00Z"),
    ]
    found = ask(platform, "select id, changed from orders order by id")
    assert found == [(1, day(5)), (2, day(5)), (3, day(6))]


@pytest.mark.parametrize(
    "source", [feed("numbers"), feed("two", select="numbers")], ids=["resource", "source"]
)
def test_a_dlt_resource_may_yield_tables_frames_and_dicts(
    platform_of: Make, monkeypatch: pytest.MonkeyPatch, source: DltResource
) -> None:
    monkeypatch.setattr(feeds, "ASKED", [])
    platform = platform_of(events(source))
    load_well(platform, "events")
    load_well(platform, "events")
    assert whats(platform) == [(1, "arrow"), (2, "pandas"), (3, '{"nested": [1, 2]}')]
    if source.select is None:
        assert feeds.ASKED == [0, 3]


@pytest.mark.parametrize(
    ("name", "table", "loaded"),
    [
        ("marked", "marked", ["own"]),
        ("marked", "others", ["other", "arrow"]),
        ("marked", "thirds", ["third"]),
        ("dispatched", "others", ["others"]),
        ("dispatched", "dispatched", ["dispatched", "dispatched"]),
        ("named", None, ["plain", "marked"]),
        ("hinted", "variants", ["other"]),
    ],
)
def test_a_resource_of_several_tables_gives_a_table_its_own_rows(
    platform_of: Make, name: str, table: str | None, loaded: list[str]
) -> None:
    platform = platform_of(events(feed(name, table=table)))
    load_well(platform, "events")
    load_well(platform, "events")
    assert [what for _, what in whats(platform)] == loaded


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("marked", "'others'"),
        ("dispatched", "'others'"),
        ("hinted", "'variants'"),
        ("files", "whole files"),
        ("breaks", "the line went dead"),
    ],
)
def test_rows_for_another_table_are_refused_by_its_name(
    platform_of: Make, name: str, message: str
) -> None:
    platform = platform_of(events(feed(name)))
    assert message in load(platform, "events").refused[0].problem
    assert whats(platform) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody", "cannot be imported"),
        ("ROWS", "Expected a dlt resource"),
        ("two", "names one of its resources: numbers, news"),
    ],
)
def test_what_is_no_dlt_resource_is_said(platform_of: Make, name: str, message: str) -> None:
    assert message in load(platform_of(events(feed(name))), "events").refused[0].problem


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: feed("a b"), "Expected package.module:name"),
        (lambda: feed("a", arguments={"x": [Secret("no name")]}), "names a secret"),
        (lambda: feed("a", every=timedelta(0)), "more than zero"),
        (lambda: RestApi(base_url="https://u:p@h", path=""), "without a user name"),
        (lambda: RestApi(base_url="https://h", path="", auth={"token": "x"}), "is a secret"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        table: SourceTable = events(make())
        assert table
