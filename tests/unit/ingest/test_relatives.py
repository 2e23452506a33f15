"""Tables are sorted with parents first; a circle of references neither loops nor stops the sort."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakebed.ingest.relatives import sort_parents_first


def test_parents_come_first_and_the_rest_stays_in_its_order() -> None:
    pairs = {("album", "artist"), ("track", "album"), ("artist", "label")}
    names = ["album", "artist", "genre", "label", "track"]
    assert sort_parents_first(names, pairs) == ["genre", "label", "artist", "album", "track"]


def test_a_circle_is_opened_at_one_place_always_the_same() -> None:
    pairs = {("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")}
    found = sort_parents_first(["a", "b", "c", "d"], pairs)
    assert sorted(found) == ["a", "b", "c", "d"]
    assert found == sort_parents_first(["a", "b", "c", "d"], pairs)
    assert found.index("a") < found.index("d")


NAMES = list("abcdef")


@given(st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES))))
def test_every_table_is_there_once_and_without_circles_every_parent_is_before(
    pairs: set[tuple[str, str]],
) -> None:
    pairs = {(child, parent) for child, parent in pairs if child != parent}
    found = sort_parents_first(NAMES, pairs)
    assert sorted(found) == NAMES
    acyclic = {(child, parent) for child, parent in pairs if child > parent}
    found = sort_parents_first(NAMES, acyclic)
    assert all(found.index(parent) < found.index(child) for child, parent in acyclic)
