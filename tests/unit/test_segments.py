"""Segments: cases by hand, and over columns what the reference finds, for any rules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.analysis.segments import Members
from adapters.columns.kernel import NEVER
from adapters.columns.segments import ask_segment, found_in, members_of, narrowed
from bin.commands.segments import show_members
from domain.errors import Invalid
from domain.funnels.reference import Happening
from domain.segments.answer import Member
from domain.segments.question import Scope, Segment
from domain.segments.reading import read_scope, read_segment
from domain.segments.reference import Spell, spells
from tests.unit.test_funnel_cases import SECOND, happenings, themselves, view_of
from tests.unit.test_funnel_kernel import KNOWN, TYPES, WHERE, events

UNTIL = 100


def did(letter: str, **more: Any) -> dict[str, Any]:
    return {"did": f"custom.{letter}", **more}


THREE_AND_NO_VISIT = [did("A", at_least=3, within="90s"), did("B", at_most=0, since=1)]
CASES: list[tuple[str, str, Any, list[tuple[int, int | None]]]] = [
    ("who did it belongs from then on", "B1 A5", [did("A")], [(5, None)]),
    ("as often as it is asked for", "A1 A5 A9", [did("A", at_least=3)], [(9, None)]),
    ("within a span that slides", "A1 A5 A9", [did("A", at_least=2, within="6s")], [(5, 7), (9, 11)]),
    ("the span is half-open: what is so old is out", "A1 A7", [did("A", at_least=2, within="6s")], []),
    ("what one instant brings and takes counts once", "A1 A7", [did("A", within="6s")], [(1, 13)]),
    ("too often is out", "A1 A5 A9", [did("A", at_least=1, at_most=2)], [(1, 9)]),
    ("who did not belongs from the first touchpoint on", "B3 A5", [did("A", at_most=0)], [(3, 5)]),
    ("and again when it is long ago", "B3 A5", [did("A", at_most=0, within="10s")], [(3, 5), (15, None)]),
    ("three orders and no visit since", "A1 A2 A3 B50 A60", THREE_AND_NO_VISIT, [(3, 50), (60, 92)]),
    ("a visit before the last order is not since", "A1 A2 B2 A3", THREE_AND_NO_VISIT, [(3, 91)]),
    ("a visit at the very instant is not since", "A1 A2 A3 B3", THREE_AND_NO_VISIT, [(3, 91)]),
    ("a visit after it for ever is", "A1 A2 A3 B4", THREE_AND_NO_VISIT, [(3, 4)]),
    ("since what never was holds of nobody", "B1", [did("A", at_most=0, since=2), did("C", at_most=5)], []),
    ("any of two", "A1 B5", [{"any": [did("A", within="2s"), did("B")]}], [(1, 3), (5, None)]),
    ("one and not the other", "A1 B5", [did("A"), {"not": did("B")}], [(1, 5)]),
    ("what is yet to come is not known of", "A1 A120", [did("A", at_least=2)], []),
]  # fmt: skip


@pytest.mark.parametrize(("story", "rules", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_case(story: str, rules: Any, expected: list[tuple[int, int | None]]) -> None:
    segment = read_segment({"all": rules}, KNOWN)
    stream = happenings(story)

    found = spells(segment, stream, UNTIL * SECOND)

    assert [(s.entered_us // SECOND, s.left_us and s.left_us // SECOND) for s in found] == expected
    assert over_columns(segment, stream, UNTIL * SECOND) == found


def over_columns(segment: Segment, stream: list[Happening], until: int, chunks: int = 1) -> list[Spell]:
    found = found_in(segment, view_of(stream, chunks), themselves, until)
    rows = zip(found.person.tolist(), found.spells.entered.tolist(), found.spells.left.tolist(), strict=True)
    return sorted(
        (Spell(found.names[p], e, None if left == NEVER else left) for p, e, left in rows), key=order
    )


def order(spell: Spell) -> Any:
    return spell.unit, spell.entered_us


@pytest.mark.parametrize(("from_s", "to_s", "whom"), [(7, 8, {"ann"}), (6, 7, set()), (8, 9, set())])
def test_a_cohort_begins_with_its_first_instant_and_ends_before_its_last(
    from_s: int, to_s: int, whom: set[str]
) -> None:
    segment = read_segment({"all": [did("A")]}, KNOWN)
    cohort = Scope(segment=segment, cohort=True, from_us=from_s * SECOND, to_us=to_s * SECOND)
    view = view_of(happenings("A7"))

    owners, count = narrowed(cohort, view, themselves, UNTIL * SECOND)
    codes, names = owners(["ann"])

    assert {names[c] for c in codes.tolist() if c >= 0} == whom
    assert count == len(whom)


@st.composite
def rules(draw: st.DrawFn, number: int, of: int) -> dict[str, Any]:
    """A rule."""
    least = draw(st.sampled_from([None, 1, 2, 3]))
    most = draw(st.sampled_from([None, None, 2, 3] if least else [0, 1, 2]))
    others = [i for i in range(1, of + 1) if i != number]
    return {
        "did": draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=2, unique=True)), "where": draw(WHERE),
        "at_least": least, "at_most": most if most is None or most >= (least or 0) else least,
        "within": draw(st.sampled_from([None, "1s", "3s", "6s"])),
        "since": draw(st.sampled_from([None, None, *others])),
    }  # fmt: skip


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    """Any rules, joined in any way."""
    of = draw(st.integers(1, 4))
    parts: list[Any] = [draw(rules(i + 1, of)) for i in range(of)]
    negated = [{"not": p} if draw(st.integers(0, 3)) == 0 else p for p in parts]
    word = draw(st.sampled_from(["all", "any"]))
    if of > 2 and draw(st.booleans()):
        negated = [negated[0], {"any" if word == "all" else "all": negated[1:]}]
    return read_segment({word: negated}, KNOWN)


@given(stream=events(), segment=segments(), until=st.integers(0, 14), chunks=st.integers(1, 3))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_columns_and_reference_find_the_same_spells(
    stream: list[Happening], segment: Segment, until: int, chunks: int
) -> None:
    expected = spells(segment, stream, until * SECOND)

    assert over_columns(segment, stream, until * SECOND, chunks) == sorted(expected, key=order)

    view = view_of(stream)
    answer = asked(segment, view, until)
    members = {s.unit for s in expected if s.left_us is None}
    assert (answer.members, answer.ever) == (len(members), len({s.unit for s in expected}))
    assert (answer.entered, answer.left) == (len(expected), sum(s.left_us is not None for s in expected))
    scope = Scope(segment=segment)
    for state, whom in (
        ("member", members),
        ("ever", {s.unit for s in expected}),
        ("left", {s.unit for s in expected} - members),
    ):
        assert {m.person for m in members_of(scope, view, themselves, until * SECOND, state)} == whom
    cohort = Scope(segment=segment, cohort=True, from_us=2 * SECOND, to_us=7 * SECOND)
    entered = {s.unit for s in expected if 2 <= s.entered_us // SECOND < 7}
    for one, whom in ((scope, members), (cohort, entered)):
        owners, count = narrowed(one, view, themselves, until * SECOND)
        codes, names = owners(["ann", "bob", "eve"])
        assert {names[c] for c in codes.tolist() if c >= 0} == whom
        assert count == len(whom)


def asked(segment: Segment, view: Any, until: int, **more: Any) -> Any:
    given: dict[str, Any] = {"from_us": None, "to_us": None, "trend": None, **more}
    return ask_segment(
        segment, view, themselves, until_us=until * SECOND, zone=ZoneInfo("UTC"), as_of=None, **given
    )


def test_each_day_tells_who_came_who_went_and_who_is_there_at_its_end() -> None:
    day = 86_400
    stream = happenings(f"A{10} A{day + 5}") + [
        msgspec.structs.replace(e, position=e.position + 2) for e in happenings(f"A{day + 7}", "bob")
    ]
    segment = read_segment({"all": [did("A", within=f"{day - 8}s")]}, KNOWN)

    answer = asked(segment, view_of(stream), 3 * day, trend="day")

    told = [(p.period, p.open, p.entered, p.left, p.members) for p in answer.trend]
    assert told == [
        ("1970-01-01", False, 1, 0, 1),  # ann came at 10 s
        (
            "1970-01-02",
            False,
            2,
            3,
            0,
        ),  # went at 2 s of the day, came again at 5 s, went by the end, as bob did
        ("1970-01-03", False, 0, 0, 0),
        ("1970-01-04", True, 0, 0, 0),
    ]
    assert "the last left at 1970-01-02T23:59:59" in answer.notes[0]


def test_two_threads_find_what_one_finds() -> None:
    from concurrent.futures import ThreadPoolExecutor

    random = np.random.default_rng(6)
    stream = [
        Happening(
            position=i, at_us=int(random.integers(0, 1000)) * SECOND, type=str(random.choice(TYPES[:3])), source="s",
            source_id=str(i), unit=f"u{random.integers(0, 1500):04}", properties={"channel": "web", "source": "s"},
        )
        for i in range(1, 6000)
    ]  # fmt: skip
    segment = read_segment(
        {"all": [did("A", at_least=2, within="300s"), did("B", at_most=0, since=1)]}, KNOWN
    )
    view = view_of(stream)
    with ThreadPoolExecutor(2) as threads:
        one, two = (found_in(segment, view, themselves, 900 * SECOND, t) for t in (None, threads))
    assert [a.tolist() for a in one.spells] == [a.tolist() for a in two.spells]


@pytest.mark.parametrize(
    ("raw", "pointer", "says"),
    [
        ([], "", "an object"),
        ({}, "/all", "one of them"),
        ({"all": [did("A")], "any": [did("A")]}, "/all", "one of them"),
        ({"all": []}, "/all", "one at least"),
        ({"all": [{"did": "custom.Aa"}]}, "/all/0/did", "did you mean custom.A"),
        ({"all": [did("A", least=2)]}, "/all/0/least", "did you mean at_least"),
        ({"all": [did("A", at_least=0)]}, "/all/0/at_least", "holds of everybody"),
        ({"all": [did("A", at_least=3, at_most=2)]}, "/all/0/at_least", "no count"),
        ({"all": [did("A", within="-3d")]}, "/all/0/within", "cannot be negative"),
        ({"any": [did("A"), {"not": did("A", since=2)}]}, "/any/1/not/since", "not since itself"),
        ({"all": [did("A", name="orders"), did("B", since="order")]}, "/all/1/since", "Named are: orders"),
        ({"all": [did("A")] * 11}, "/all", "at most 10"),
        ({"all": [{"any": [did("A")], "did": "custom.B"}]}, "/all/0", "alone"),
    ],
)
def test_what_is_wrong_is_told_at_its_place(raw: Any, pointer: str, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_segment(raw, KNOWN)
    assert any(p.pointer == pointer and says in p.detail for p in refused.value.problems), (
        refused.value.problems
    )


def test_an_empty_cohort_is_refused_where_it_stands() -> None:
    raw = {"all": [did("A")], "entered": {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}}
    with pytest.raises(Invalid) as refused:
        read_scope(raw, KNOWN, "/segment")
    assert [(p.pointer, p.code) for p in refused.value.problems] == [("/segment/entered", "empty_range")]


def test_of_a_cohort_the_spells_that_began_in_its_span_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    # given one who came in five times, the second time in March
    spells = [
        {"entered": f"2026-0{m}-05T00:00:00.000000Z", "left": f"2026-0{m}-09T00:00:00.000000Z"}
        for m in range(2, 7)
    ]
    at = "2026-07-01T00:00:00.000000Z"
    found = Members([Member("p-1", spells)], 1, None, at, None, 7, 7)  # type: ignore[arg-type]

    show_members(
        found, UTC, {"from": datetime(2026, 3, 1, tzinfo=UTC), "to": datetime(2026, 4, 1, tzinfo=UTC)}
    )
    of_march = capsys.readouterr().out
    show_members(found, UTC)
    of_ever = capsys.readouterr().out

    assert "2026-03-05" in of_march
    assert "2026-06-05" not in of_march
    assert "2026-06-05" in of_ever
