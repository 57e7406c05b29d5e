"""Every case of SEMANTICS §4, by the reference and by the kernel alike."""

from __future__ import annotations

import re
from typing import Any

import pytest

from adapters.columns.chunk import Chunk, Vocabulary
from adapters.columns.funnels import Found, attempts_of
from adapters.columns.rows import Row, table_of
from adapters.columns.view import View
from domain.funnels.question import Funnel
from domain.funnels.reading import Known, read_funnel
from domain.funnels.reference import Attempt, Happening, attempts

SECOND = 1_000_000


def happenings(story: str, unit: str = "ann") -> list[Happening]:
    """Events written as letters (types) and seconds."""
    return [
        Happening(
            position=i,
            at_us=int(seconds) * SECOND,
            type=f"custom.{letter}",
            source="test",
            source_id=f"{i:04}",
            unit=unit,
            properties={"channel": "web", "source": "test"},
        )
        for i, (letter, seconds) in enumerate(re.findall(r"([A-Z])(\d+)", story), start=1)
    ]


def rows_from(events: list[Happening]) -> list[Row]:
    """The same events as rows of the columns."""
    return [
        Row(
            position=e.position,
            occurred_at=e.at_us,
            recorded_at=0,
            type=e.type,
            channel=e.properties.get("channel", "web"),
            direction=e.properties.get("direction"),
            source=e.source,
            source_id=e.source_id,
            subject=str(e.unit),
            owner=str(e.unit),
            known_from=e.position,
            properties={k: v for k, v in e.properties.items() if k.startswith("data.")},
        )
        for e in events
    ]


def view_of(events: list[Happening], chunks: int = 1) -> View:
    """The same events as columns, in some chunks."""
    vocabularies: dict[str, Vocabulary] = {}
    rows = rows_from(events)
    parts = [rows[i::chunks] for i in range(chunks)]
    return View([Chunk(table_of(p), vocabularies) for p in parts if p], vocabularies, known_at=len(events))


def themselves(owners: Any) -> Any:
    """Every subject is a person."""
    import numpy as np

    return np.arange(len(owners), dtype=np.int32), list(owners)


def funnel(steps: str = "AB", window: str = "30s", **options: Any) -> Funnel:
    """A funnel of letters."""
    letters = frozenset(f"custom.{c}" for c in "ABCXYZ")
    for exclusion in options.get("exclude", ()):
        exclusion["type"] = f"custom.{exclusion['type']}"
    raw = {"steps": [{"type": f"custom.{s}"} for s in steps], "window": window, **options}
    return read_funnel(raw, Known(letters, {}))


def places(found: Found) -> list[list[int]]:
    """The times in seconds of the events of each counted attempt."""
    rows = [[int(found.stream.at[p]) // SECOND for p in row if p >= 0] for row in found.attempts.places]
    return sorted(rows)


def seconds(found: list[Attempt]) -> list[list[int]]:
    """The same of the reference."""
    return sorted([e.at_us // SECOND for e in attempt.events] for attempt in found)


EX = {"type": "X", "from": 1, "to": 2}
CASES: list[tuple[str, str, dict[str, Any], list[list[int]]]] = [
    ("a step at the very end of the window counts", "A1 B31", {}, [[1, 31]]),
    ("a step a second behind the window does not", "A1 B32", {}, [[1]]),
    ("a window is a span from the entry, not from the step before", "A1 B5 A20 C36", {"steps": "ABC"}, [[1, 5]]),
    ("a later entry may reach what an earlier could not", "A1 B5 A20 B25 C36", {"steps": "ABC"}, [[20, 25, 36]]),
    ("latest anchors at the entry before the second step", "A60 A90 B105 C135", {"steps": "ABC", "window": "60s"}, [[90, 105, 135]]),
    ("first anchors at the first entry", "A60 A90 B105 C135", {"steps": "ABC", "window": "60s", "entry": "first"}, [[60, 105]]),
    ("a step that comes too early is passed over", "A1 C2 B3 C4", {"steps": "ABC"}, [[1, 3, 4]]),
    ("a second step before the first is none", "B1 A2", {}, [[2]]),
    ("of one instant the lower step comes first", "B5 A5", {}, [[5, 5]]),
    ("latest tells the time from the last entry", "A1 A10 B15", {}, [[10, 15]]),
    ("first tells the time from the first entry", "A1 A10 B15", {"entry": "first"}, [[1, 15]]),
    ("latest converts where the first entry is too old", "A1 A100 B110", {}, [[100, 110]]),
    ("first does not", "A1 A100 B110", {"entry": "first"}, [[1]]),
    ("strict is broken by any other event", "A1 Z2 B3", {"order": "strict"}, [[1]]),
    ("strict begins again at the next entry", "A1 A2 B3", {"order": "strict"}, [[2, 3]]),
    ("strict keeps the steps before the other event", "A1 B2 Z3 C4", {"steps": "ABC", "order": "strict"}, [[1, 2]]),
    ("strict takes a fresh attempt", "A1 Z2 A3 B4", {"order": "strict"}, [[3, 4]]),
    ("one event never fills two steps", "A1", {"steps": "AA"}, [[1]]),
    ("two events fill two steps of one type", "A1 A2", {"steps": "AA"}, [[1, 2]]),
    ("also of one instant", "A1 A1", {"steps": "AA"}, [[1, 1]]),
    ("an excluded event removes an attempt that goes no further", "A1 X5", {"exclude": [EX]}, []),
    ("an excluded event removes an attempt", "A1 X5 B10", {"exclude": [EX]}, []),
    ("an excluded event behind the window does not", "A1 X40", {"exclude": [EX]}, [[1]]),
    ("an excluded event before the entry does not", "X1 A2 B3", {"exclude": [EX]}, [[2, 3]]),
    ("an excluded event behind the second step does not", "A1 B5 X6", {"exclude": [EX]}, [[1, 5]]),
    ("a clean attempt counts beside a tainted one", "A1 X5 A10 B12", {"exclude": [EX]}, [[10, 12]]),
    ("also when the tainted one had converted", "A1 X5 B10 A50 B55", {"exclude": [EX]}, [[50, 55]]),
    ("the event that fills the last step between is not between", "A1 X5", {"steps": "AX", "exclude": [EX]}, [[1, 5]]),
    ("drop off keeps the steps before the excluded event", "A1 X5 B10", {"exclude": [{**EX, "policy": "drop_off"}]}, [[1]]),
    ("an exclusion between later steps removes as well", "A1 B5 X6 B8 C9", {"steps": "ABC", "exclude": [{"type": "X", "from": 2, "to": 3}]}, []),
    ("total is one attempt where an entry re-anchors", "A1 A2 B3", {"count": "total"}, [[2, 3]]),
    ("total is two attempts one after the other", "A1 B2 A3 B4", {"count": "total"}, [[1, 2], [3, 4]]),
    ("total opens the next attempt behind the window", "A1 A40 B45", {"count": "total"}, [[1], [40, 45]]),
    ("total begins anew behind an exclusion", "A1 X5 A10 B12", {"count": "total", "exclude": [EX]}, [[10, 12]]),
    ("total under first is one attempt", "A1 B2 A3 B4", {"count": "total", "entry": "first"}, [[1, 2]]),
    ("any order takes the steps as they come", "B1 A2", {"order": "any"}, [[1, 2]]),
    ("any order gives an event to the step that needs it", "A1 A2 B3", {"steps": "AAB", "order": "any"}, [[1, 2, 3]]),
    ("a span from the step before is inclusive", "A1 B6", {"within": "5s"}, [[1, 6]]),
    ("a span from the step before ends", "A1 B7", {"within": "5s"}, [[1]]),
]  # fmt: skip


@pytest.mark.parametrize(("story", "options", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_case(story: str, options: dict[str, Any], expected: list[list[int]]) -> None:
    given: dict[str, Any] = {k: [dict(x) for x in v] if k == "exclude" else v for k, v in options.items()}
    within = given.pop("within", None)
    asked = funnel(**given)
    if within:
        import msgspec

        second = msgspec.structs.replace(asked.steps[1], within_us=5 * SECOND)
        asked = msgspec.structs.replace(asked, steps=(asked.steps[0], second))
    events = happenings(story)

    by_reference = attempts(asked, events, [(None, None)])
    by_kernel = attempts_of(asked, view_of(events), themselves)

    assert seconds(by_reference) == expected
    assert places(by_kernel.whole) == expected


def test_a_microsecond_behind_the_window_does_not_convert() -> None:
    a, b = happenings("A1 B31")
    import msgspec

    late = msgspec.structs.replace(b, at_us=b.at_us + 1)
    for events, expected in (([a, b], [[1, 31]]), ([a, late], [[1]])):
        assert seconds(attempts(funnel(), events, [(None, None)])) == expected
        assert places(attempts_of(funnel(), view_of(events), themselves).whole) == expected


def test_the_range_is_on_the_entry_and_completion_may_follow_it() -> None:
    events = happenings("A1 B31 A50 B55")
    asked = funnel(range={"to": "1970-01-01T00:00:02Z"})

    assert seconds(attempts(asked, events, [(None, 2 * SECOND)])) == [[1, 31]]
    assert places(attempts_of(asked, view_of(events), themselves).whole) == [[1, 31]]
