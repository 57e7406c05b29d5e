"""Retention: what it means by cases told by hand, and that the kernel finds what the reference finds."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.columns.retention import ask, bar, starts_of
from domain.errors import Invalid
from domain.funnels.property import identity
from domain.funnels.reference import Happening
from domain.retention.question import Retention
from domain.retention.reading import read_retention
from domain.retention.reference import Kept, kept
from tests.unit.test_funnel_cases import SECOND, happenings, themselves, view_of
from tests.unit.test_funnel_kernel import KNOWN, STEP_TYPES, WHERE, events, same

DAY = 86_400 * SECOND
FOREVER = {"as_of": None, "as_of_us": None, "known_us": 1 << 60}


def retention(**options: Any) -> Retention:
    """Give a question of As that return as Bs, by day."""
    return read_retention({"start": "custom.A", "return": "custom.B", "interval": "day", **options}, KNOWN)


def days(story: str) -> list[Happening]:
    """Give events written as letters (types) and tenths of days since 1970-01-01."""
    return [msgspec.structs.replace(e, at_us=e.at_us * 8640) for e in happenings(story)]


CASES: list[tuple[str, str, dict[str, Any], dict[str, list[int]]]] = [
    ("a return counts in its interval", "A5 B25", {}, {"1970-01-01": [2]}),
    ("a return in the interval of the start is one of interval 0", "A5 B6", {}, {"1970-01-01": [0]}),
    ("what came before the start is no return", "B1 A5", {}, {"1970-01-01": []}),
    ("of one instant the start comes first", "B5 A5", {}, {"1970-01-01": [0]}),
    ("a start is not its own return", "A5", {"return": "custom.A"}, {"1970-01-01": []}),
    ("a second start is a return where both are the same", "A5 A15", {"return": "custom.A"}, {"1970-01-01": [1]}),
    ("calendar days are cut at midnight", "A9 B11", {}, {"1970-01-01": [1]}),
    ("rolling days are counted from the start on", "A9 B11 B19", {"mode": "rolling"}, {"1970-01-01": [0, 1]}),
    ("a first start only starts once", "A5 A15 B25", {}, {"1970-01-01": [2]}),
    ("with any entry each day with a start has its cohort", "A5 A6 A15 B25", {"entry": "any"},
     {"1970-01-01": [2], "1970-01-02": [1]}),
    ("any return counts wherever it lies", "A5 B15 B25", {}, {"1970-01-01": [1, 2]}),
    ("of first returns one counts", "A5 B15 B25", {"returns": "first"}, {"1970-01-01": [1]}),
    ("on or after counts up to the last return", "A5 B25", {"returns": "on_or_after"}, {"1970-01-01": [0, 1, 2]}),
    ("on or after also looks beyond the intervals told", "A5 B95", {"returns": "on_or_after", "intervals": 2},
     {"1970-01-01": [0, 1]}),
    ("intervals beyond those told are left out", "A5 B15 B25", {"intervals": 2}, {"1970-01-01": [1]}),
    ("who first started before the range is not of it", "A5 A15 B25", {"range": {"from": "1970-01-02T00:00:00Z"}}, {}),
    ("with any entry that one is", "A5 A15 B25", {"entry": "any", "range": {"from": "1970-01-02T00:00:00Z"}},
     {"1970-01-02": [1]}),
    ("a start at the end of the range is not in it", "A5 A10", {"entry": "any", "range": {"to": "1970-01-02T00:00:00Z"}},
     {"1970-01-01": []}),
    ("weeks begin on Monday", "A35 B45", {"interval": "week"}, {"1969-12-29": [1]}),
    ("months are those of the calendar", "A305 B315", {"interval": "month"}, {"1970-01": [1]}),
    ("rolling months have thirty days", "A305 B604 B606", {"interval": "month", "mode": "rolling"}, {"1970-01": [0, 1]}),
    ("days are those of the zone", "A9 B11", {"timezone": "America/New_York"}, {"1970-01-01": [0]}),
]  # fmt: skip


def bits(kept: Any) -> list[int]:
    return [k for k in range(60) if int(kept) >> k & 1]


@pytest.mark.parametrize(("story", "options", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_case(story: str, options: dict[str, Any], expected: dict[str, list[int]]) -> None:
    question, stream = retention(**options), days(story)

    asked = starts_of(question, view_of(stream), themselves)

    assert {k.cohort: sorted(k.returned) for k in kept(question, stream)} == expected
    found = zip(asked.starts.cohort, asked.starts.kept, strict=True)
    assert {asked.names[c]: bits(b) for c, b in found} == expected


@st.composite
def streams(draw: st.DrawFn) -> list[Happening]:
    """The events of funnels, farther apart: so many hours instead of seconds, from the end of a winter on."""
    hours = draw(st.sampled_from([6, 17, 130]))
    found = draw(events())
    return [msgspec.structs.replace(e, at_us=e.at_us * 3600 * hours + 7_603_200 * SECOND) for e in found]


@st.composite
def questions(draw: st.DrawFn) -> Retention:
    """Any combination of options."""
    interval = draw(st.sampled_from(["day", "week", "month"]))
    raw: dict[str, Any] = {
        "start": {"type": draw(STEP_TYPES), "where": draw(WHERE)},
        "interval": interval,
        "intervals": draw(st.integers(1, 5)),
        "entry": draw(st.sampled_from(["first", "any"])),
        "returns": draw(st.sampled_from(["any", "first", "on_or_after"])),
        "mode": draw(st.sampled_from(["calendar", "rolling"])),
        "unit": draw(st.sampled_from(["person", "data.session"])),
        "timezone": draw(st.sampled_from(["UTC", "Europe/London", "America/New_York"])),
        "breakdown": draw(
            st.sampled_from([None, "data.k", {"by": "channel", "attribution": "last"}, {"by": "data.k", "attribution": "all_steps"}])
        ),
        "range": draw(st.sampled_from([{}, {"from": "1970-04-02T00:00:00Z"}, {"from": "1970-03-30T06:00:00Z", "to": "1970-04-02T00:00:00Z"}])),
    }  # fmt: skip
    if draw(st.booleans()):
        raw["return"] = {"type": draw(STEP_TYPES), "where": draw(WHERE)}
    return read_retention(raw, KNOWN)


def of_units(question: Retention, stream: list[Happening]) -> list[Happening]:
    """The events with the unit of the question."""
    if question.unit == "person":
        return stream
    path = question.unit
    return [msgspec.structs.replace(e, unit=e.properties[path]) for e in stream if path in e.properties]


Told = list[tuple[Any, str, int, list[int], int]]


def told(found: list[Kept]) -> Told:
    return sorted((k.unit, k.cohort, k.start.position, sorted(k.returned), k.last.position) for k in found)


def found_in(view: Any, names: list[str], stream: Any, starts: Any, which: Any = slice(None)) -> Told:
    rows = []
    for group, cohort, start, last, bit in zip(*(part[which] for part in starts), strict=True):
        places = view.positions(stream, np.array([start, start if last < 0 else last]))
        rows.append(
            (stream.names[stream.unit[group]], names[cohort], int(places[0]), bits(bit), int(places[1]))
        )
    return sorted(rows)


@given(stream=streams(), question=questions(), chunks=st.integers(1, 3))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_kernel_and_reference_find_the_same_whatever_is_asked(
    stream: list[Happening], question: Retention, chunks: int
) -> None:
    view = view_of(stream, chunks)

    asked = starts_of(question, view, themselves)

    mine = of_units(question, stream)
    expected = kept(question, mine)
    assert found_in(view, asked.names, asked.stream, asked.starts) == told(expected)
    if question.breakdown is None:
        return
    by_value: dict[Any, Told] = {}
    path = question.breakdown
    if question.attribution == "all_steps":
        for value in [e.properties.get(path) for e in mine]:
            carry = [e for e in mine if same(e.properties.get(path), value)]
            by_value[None if value is None else identity(value)] = told(kept(question, carry))
    else:
        grouped = defaultdict(list)
        for one in expected:
            value = (one.last if question.attribution == "last" else one.start).properties.get(path)
            grouped[None if value is None else identity(value)].append(one)
        by_value = {value: told(some) for value, some in grouped.items()}
    values = view.all_values(path)
    assert {
        None if c < 0 else identity(values[c]): found_in(
            view, asked.names, asked.value_stream, asked.by_value, asked.code == c
        )
        for c in {*asked.code.tolist()}
    } == {value: some for value, some in by_value.items() if some}


@given(stream=streams(), question=questions(), cut=st.integers(0, 60))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_counts_lists_and_totals_are_of_one_computation(
    stream: list[Happening], question: Retention, cut: int
) -> None:
    view = view_of(stream)

    answer = ask(
        question, view, themselves, as_of=None, as_of_us=None, known_us=7_603_200 * SECOND + cut * DAY
    )

    expected = kept(question, of_units(question, stream))
    starts = starts_of(question, view, themselves)
    sizes = Counter(starts.names[c] for c in starts.starts.cohort)
    assert {c.cohort: c.size for c in answer.cohorts if c.size} == sizes
    assert answer.total.size == len(starts.starts.cohort)
    for k, cell in enumerate(answer.total.intervals):  # the total is over the cohorts whose interval is over
        whole = [c.intervals[k] for c in answer.cohorts if len(c.intervals) > k and not c.intervals[k].open]
        assert (cell.count, cell.of) == (sum(c.count for c in whole), sum(c.of for c in whole))
        if question.breakdown is not None and question.attribution != "all_steps":
            assert cell.count == sum(v.intervals[k].count for v in answer.breakdown or [])
    for cohort in answer.cohorts[:2]:
        for k, cell in enumerate(cohort.intervals):
            behind = bar(question, view, themselves, interval=k, returned=True, cohort=cohort.cohort)
            others = bar(question, view, themselves, interval=k, returned=False, cohort=cohort.cohort)
            assert (len(behind), len(others)) == (cell.count, cell.of - cell.count)
            mine = [one for one in expected if one.cohort == cohort.cohort and k in one.returned]
            events_of = sorted([one.start.position, one.returned[k].position] for one in mine)
            assert sorted(m.positions for m in behind) == events_of


def test_intervals_that_are_not_over_are_open_and_those_to_come_are_not_told() -> None:
    stream = days("A5 B15 A15")
    for mode, expected in (("calendar", [False, False, True]), ("rolling", [False, True, True])):
        answer = ask(retention(mode=mode, intervals=9), view_of(stream), themselves, as_of=None, as_of_us=None,
                     known_us=int(2.5 * DAY))  # fmt: skip
        assert [c.open for c in answer.cohorts[0].intervals] == expected


def test_of_a_breakdown_with_more_values_the_rest_is_summed_up_and_said_so() -> None:
    stream = [
        msgspec.structs.replace(e, unit=f"u{i}", properties={**e.properties, "data.k": i // 2})
        for i in range(120)
        for e in days("A5 B15")
    ]
    stream = [msgspec.structs.replace(e, position=i, source_id=str(i)) for i, e in enumerate(stream, start=1)]

    answer = ask(
        retention(breakdown="data.k"),
        view_of(stream),
        themselves,
        as_of=None,
        as_of_us=None,
        known_us=9 * DAY,
    )

    assert len(answer.breakdown or []) == 50
    assert answer.breakdown_rest is not None
    assert (answer.breakdown_rest.values, answer.breakdown_rest.size) == (10, 20)
    assert answer.breakdown_rest.intervals[1].count == 20
    assert any("60 values" in note for note in answer.notes)


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"start": None}, "/start", "missing"),
        ({"start": "custom.AA"}, "/start", "did you mean custom.A"),
        ({"start": {"type": "custom.A", "were": {}}}, "/start/were", "did you mean where"),
        ({"return": {"type": "custom.B", "where": {"kk": 1}}}, "/return/where/kk", "did you mean data.k"),
        ({"return": {"type": "custom.B", "where": {"session": 5}}}, "/return/where/session", "is a text"),
        ({"intervals": 0}, "/intervals", "no time to return"),
        ({"intervals": -3}, "/intervals", "-3 intervals"),
        ({"intervals": 61}, "/intervals", "At most 60"),
        ({"intervals": "12"}, "/intervals", "number from 1 to 60"),
        ({"interval": "year"}, "/interval", "day, week, month"),
        ({"returns": "each"}, "/returns", "any, first, on_or_after"),
        ({"range": {"from": "1970-01-02T00:00:00Z", "to": "1970-01-02T00:00:00Z"}}, "/range", "empty"),
        ({"breakdown": {"by": "data.sesion"}}, "/breakdown/by", "did you mean data.session"),
        ({"window": "P14D"}, "/window", "no option here"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place(change: dict[str, Any], pointer: str, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        retention(**change)

    assert [p.pointer for p in refused.value.problems] == [pointer]
    assert says in refused.value.problems[0].detail


def test_nothing_is_never_a_silent_zero() -> None:
    nobody = ask(retention(), view_of(days("B5")), themselves, **FOREVER)  # type: ignore[arg-type]
    assert (nobody.cohorts, nobody.total.size) == ([], 0)
    assert "No event matches the start (custom.A" in nobody.notes[0]

    before = retention(range={"from": "1970-01-02T00:00:00Z", "to": "1970-01-03T00:00:00Z"})
    old = ask(before, view_of(days("A5 A15")), themselves, **FOREVER)  # type: ignore[arg-type]
    assert "`entry: any`" in old.notes[0]

    with pytest.raises(Invalid, match="More than 750 cohorts"):
        starts_of(retention(), view_of(days("A5 A9999")), themselves)
