"""The oracle of the torture: what a read may find is told by when writes began and ended."""

from __future__ import annotations

import pytest

from tests.reliability.oracle import PARTS, Oracle, Read, Seen, explained


def whole(version: int) -> Seen:
    return (PARTS, PARTS, version, version)


def read(began: float, ended: float, **registers: Seen) -> Read:
    return Read(began, ended, {int(name[1:]): seen for name, seen in registers.items()})


@pytest.fixture
def oracle() -> Oracle:
    """Register 1 is written at 10 to 11, changed at 20 to 21, and deleted at 30 to 31."""
    oracle = Oracle()
    for version, begun in ((5, 10), (6, 20), (-1, 30)):
        oracle.begin(1, version, begun)
        oracle.acknowledge(1, begun + 1)
    return oracle


@pytest.mark.parametrize(
    ("began", "ended", "allowed"),
    [
        (1, 9, {None}),
        (1, 10.5, {None, 5}),
        (10.5, 12, {None, 5}),
        (12, 13, {5}),
        (12, 20.5, {5, 6}),
        (12, 40, {5, 6, None}),
        (22, 23, {6}),
        (22, 30.5, {6, None}),
        (32, 33, {None}),
    ],
)
def test_a_read_finds_what_was_acknowledged_and_may_find_what_was_begun(
    oracle: Oracle, began: float, ended: float, allowed: set[int | None]
) -> None:
    for version in (None, 5, 6):
        seen = {} if version is None else {"r1": whole(version)}
        right = Oracle({k: list(v) for k, v in oracle.histories.items()})
        assert (right.check(read(began, ended, **seen)) == []) == (version in allowed), version


@pytest.mark.parametrize(
    "seen",
    [
        (PARTS + 1, PARTS, 5, 5),
        (PARTS - 1, PARTS - 1, 5, 5),
        (2 * PARTS, PARTS, 5, 5),
        (PARTS, PARTS - 1, 5, 5),
        (PARTS, PARTS, 5, 6),
    ],
)
def test_a_register_that_is_not_whole_is_wrong_at_any_time(oracle: Oracle, seen: Seen) -> None:
    for began, ended in ((1, 40), (12, 13), (12, 20.5)):
        (wrong,) = oracle.check(read(began, ended, r1=seen))
        assert wrong.startswith("register 1: has ")


def test_a_register_or_a_version_that_nobody_began_is_wrong(oracle: Oracle) -> None:
    assert oracle.check(read(32, 33, r2=whole(7))) == [
        "register 2: has version 7, and nobody wrote it"
    ]
    assert oracle.check(read(12, 13, r1=whole(7))) == [
        "register 1: has version 7, must be version 5"
    ]


def test_a_write_that_was_never_acknowledged_may_be_there_until_somebody_saw_it() -> None:
    oracle = Oracle()
    oracle.begin(1, 5, 10)
    assert oracle.check(read(100, 101)) == []
    assert oracle.check(read(102, 103, r1=whole(5))) == []
    assert oracle.check(read(102, 104)) == []
    assert oracle.check(read(105, 106)) == ["register 1: is gone, must be version 5"]


def test_a_write_that_was_undone_is_seen_by_nobody() -> None:
    oracle = Oracle()
    oracle.begin(1, 5, 10)
    oracle.undo(1)
    assert oracle.check(read(12, 13)) == []
    assert oracle.check(read(12, 13, r1=whole(5))) == ["register 1: has version 5, must be gone"]


def test_an_erasure_may_be_seen_in_pieces_until_it_is_acknowledged() -> None:
    oracle = Oracle()
    oracle.begin(1, 5, 10)
    oracle.acknowledge(1, 11)
    oracle.begin(1, -1, 20, piecewise=True)
    piece = (PARTS - 1, PARTS - 1, 5, 5)
    assert oracle.check(read(12, 13, r1=piece))
    assert oracle.check(read(21, 22, r1=piece)) == []
    assert oracle.check(read(21, 22, r1=(PARTS, PARTS - 1, 5, 5)))
    assert oracle.check_total(21, 22, PARTS - 1) == []
    assert oracle.check_total(12, 13, PARTS - 1)
    oracle.acknowledge(1, 23)
    assert oracle.check(read(24, 25, r1=piece))
    assert oracle.check(read(24, 25)) == []


def test_a_total_counts_what_may_be_there_and_whole_registers(oracle: Oracle) -> None:
    oracle.begin(2, 7, 15)
    assert [rows for rows in range(10) if not oracle.check_total(12, 13, rows)] == [PARTS]
    assert [rows for rows in range(10) if not oracle.check_total(12, 16, rows)] == [
        PARTS,
        2 * PARTS,
    ]


def test_an_error_is_explained_by_a_fault_that_was_there_meanwhile() -> None:
    faults = [(10.0, 11.0)]
    assert explained((9, 10.5), faults) and explained((10.2, 10.3), faults)
    assert not explained((8, 9.9), faults) and not explained((11.1, 12), faults)
