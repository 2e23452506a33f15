"""Text is compared by code point in both tiers, whatever PostgreSQL's collations say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lakebed.resources.touched import touched
from lakebed.store.platform import Platform, open_platform
from tests.conftest import open_folder, settings_for
from tests.integration.scaffolding.test_adopt import declared
from tests.support.debian import debian_server, is_installed
from tests.support.processes import move_key
from tests.support.tiers import ask, do, seen

pytestmark = pytest.mark.skipif(
    not is_installed("plpgsql"), reason="the embedded server has no ICU; Debian's has"
)
TEXTS = [
    "a",
    "A",
    "b",
    "B",
    "ab",
    "Ab",
    "ä",
    "z",
    "Z",
    "a b",
    "a-b",
    "",
    "10",
    "9",
    "ß",
    "ss",
    "日",
]
COLUMNS = ("plain", "english", "blind", "code")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The same texts in January, which is cold, and in February, which is hot."""
    with open_folder() as folder, debian_server(folder) as url:
        settings = settings_for(tmp_path_factory.mktemp("lake"), url)
        do(
            open_platform(settings, ()),
            "create collation blind (provider = icu, locale = 'und-u-ks-level1',"
            " deterministic = false)",
            "create type size as enum ('small', 'large')",
            "create table words (id int, at timestamptz not null, plain text,"
            ' english text collate "en-x-icu", blind varchar(9) collate blind,'
            ' code text collate "C", size size, primary key (id, at))',
        )
        platform = open_platform(settings, (declared(settings, "words"),))
        with platform.postgres.connect() as connection:
            for month in ("2024-01-05Z", "2024-02-05Z"):
                connection.cursor().executemany(
                    "insert into words values (%s, %s, %s, %s, %s, %s, %s)",
                    [(i, month, *[t] * 4, ("small", "large")[i % 2]) for i, t in enumerate(TEXTS)],
                )
        assert move_key(platform, "words", "2024-01").moved == len(TEXTS)
        yield platform


@pytest.mark.parametrize("column", COLUMNS)
def test_a_filter_on_text_means_the_same_hot_and_cold(words: Platform, column: str) -> None:
    conditions = [
        *(f"{{}} {o} '{t}'" for o in ("=", "<>", "<", ">=") for t in ("B", "ab", "ä", "ss", "")),
        "{} in ('A', 'SS', 'x')",
        "{} not in ('A', 'ab', 'x')",
        "{} between 'A' and 'a'",
        "{} like 'a%'",
        "starts_with({}, 'A')",
        "{} = 'A' or {} = 'B'",
        "not ({} > 'B')",
        "{} is not distinct from 'A'",
        "{} = (select 'A')",
        "{} in (select unnest(['A', 'x']))",
    ]
    cold = "count(*) filter (\"at\" < '2024-02-01')"
    with words.lake.session() as session:
        for condition in conditions:
            where = condition.replace("{}", column)
            ((moved, both),) = session.sql(
                f"select {cold}, count(*) from words where {where}"  # noqa: S608
            ).fetchall()
            # Nothing is pushed below a limit.
            rows = f"select count(*) from (from words limit 1000) where {where}"  # noqa: S608
            assert session.sql(rows).fetchall() == [(both,)], where
            assert 2 * moved == both, where


@pytest.mark.parametrize("column", COLUMNS)
def test_the_order_of_text_is_by_code_point(words: Platform, column: str) -> None:
    hot = "\"at\" >= '2024-02-01'"
    query = f"select {column} from words where {hot} order by {column}"  # noqa: S608
    assert [text for (text,) in seen(words, query)] == sorted(TEXTS)
    first = f"{query} limit 3"
    assert [text for (text,) in seen(words, first)] == sorted(TEXTS)[:3]
    least = f"select min({column}), max({column}) from words"  # noqa: S608
    assert seen(words, least) == [(min(TEXTS), max(TEXTS))]


def test_an_enum_is_ordered_as_text(words: Platform) -> None:
    by_size = "select distinct size from words order by size"
    assert seen(words, by_size) == [("large",), ("small",)]
    assert seen(words, "select count(*) from words where size < 'm'") == [(2 * len(TEXTS[1::2]),)]
    assert ask(words, "select distinct size from words order by size") == [("small",), ("large",)]


def test_what_postgres_orders_otherwise_is_named(words: Platform) -> None:
    with words.lake.session() as session:
        (found,) = touched(session, "from words")
        assert dict(found.text_orders).keys() == {"english", "blind", "size"}
        assert "en-x-icu" in dict(found.text_orders)["english"]
        (found,) = touched(session, "select max(english), count(*) from words where code > 'a'")
        assert [column for column, _ in found.text_orders] == ["english"]
        (found,) = touched(session, "select count(*) from words")
        assert found.text_orders == ()
