"""Phases: the time between steps, added up."""

from __future__ import annotations

from lakebed.orchestration.phases import LOAD_PHASES, MOVE_PHASES, Phases


def test_the_time_before_a_step_belongs_to_its_phase() -> None:
    times = iter([0.0, 1.0, 1.5, 4.0, 10.0, 10.5])
    phases = Phases(LOAD_PHASES, lambda: next(times))
    for step in ("extracted", "copied", "copied", "written", "committed"):
        phases(step)
    assert phases.seconds == {"extract": 1.0, "copy": 3.0, "write": 6.0, "commit": 0.5}


def test_phases_stand_in_their_order_and_unknown_steps_change_nothing() -> None:
    times = iter([0.0, 2.0, 5.0])
    phases = Phases(MOVE_PHASES, lambda: next(times))
    for step in ("committed", "no such step", "locked"):
        phases(step)
    assert list(phases.seconds.items()) == [("lock", 3.0), ("commit", 2.0)]
