"""When columns are written: behind everybody else, and yet in the end."""

from __future__ import annotations

from bin.processes.columns import BUSY_EVENTS_PER_S, ENOUGH_EVENTS, LONGEST_TAIL_S, MOST_BEHIND, Pace


def looking(*heads: int, every_s: float = 1.0) -> Pace:
    """Give a pace that has looked at these heads, one look after the other."""
    pace = Pace()
    for n, head in enumerate(heads):
        pace.looked(head, n * every_s)
    return pace


def test_nothing_is_written_while_the_log_is_written_to() -> None:
    busy = looking(0, ENOUGH_EVENTS * 2)
    assert (busy.is_busy, busy.is_due(0)) == (True, False)
    assert busy.rest_s(0, 0.1) > 0.1

    busy.looked(ENOUGH_EVENTS * 2 + BUSY_EVENTS_PER_S // 2, 2.0)
    assert (busy.is_busy, busy.is_due(0)) == (False, True)
    assert busy.rest_s(0, 0.1) == 0


def test_the_first_look_tells_nothing_of_the_pace_of_the_log() -> None:
    assert not looking(ENOUGH_EVENTS).is_due(0)


def test_whoever_is_far_behind_waits_no_more() -> None:
    far = looking(0, MOST_BEHIND)
    assert far.is_busy
    assert far.is_due(0)
    assert far.rest_s(0, 0.1) == 0


def test_a_few_events_are_written_down_after_a_while_and_none_when_there_are_none() -> None:
    few = looking(5, 5)
    assert not few.is_due(0)
    few.looked(5, LONGEST_TAIL_S)
    assert not few.is_due(0)
    few.looked(5, LONGEST_TAIL_S + 2)
    assert few.is_due(0)
    assert not few.is_due(5)
    few.looked(6, LONGEST_TAIL_S + 3)
    assert not few.is_due(5), "the time is counted from when something was behind"
