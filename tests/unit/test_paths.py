"""Paths: cases by hand, and over columns what the reference finds, for any combination of options."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adapters.columns.paths import ask_paths, walked
from domain.errors import Invalid
from domain.funnels.property import identity
from domain.funnels.reference import Happening
from domain.paths.answer import Answer, Name, names_in_order
from domain.paths.question import Paths
from domain.paths.reading import read_paths
from domain.paths.reference import Path, name_of, paths
from tests.unit.test_funnel_cases import happenings, themselves, view_of
from tests.unit.test_funnel_kernel import KNOWN, TYPES, WHERE, events, of_units

CASES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("steps follow in order of time", "A1 B2 C3", {}, ["A B C"]),
    ("no more than so many", "A1 B2 C3 D4", {"after": 2}, ["A B C"]),
    ("a step that follows itself is taken once", "A1 B2 B3 C4", {}, ["A B C"]),
    ("also the event itself", "A1 A2 B3", {}, ["A B"]),
    ("unless all is kept", "A1 B2 B3 C4", {"loops": "keep"}, ["A B B C"]),
    ("a way back is part of the path", "A1 B2 C3 B4 D5", {"after": 5}, ["A B C B D"]),
    ("unless loops are left out", "A1 B2 C3 B4 D5", {"after": 5, "loops": "loops"}, ["A B D"]),
    ("a way back to the event begins anew", "A1 B2 A3 C4", {"after": 5, "loops": "loops"}, ["A C"]),
    ("steps before the event", "B1 C2 A3 D4", {"before": 2, "after": 1}, ["B C A D"]),
    ("a gap ends the path", "B1 A20 C29 D40", {"before": 1, "gap": "10s"}, ["A C"]),
    ("a gap is inclusive", "A20 C30", {"gap": "10s"}, ["A C"]),
    ("a step taken once still bridges the gap", "A1 B9 B17 C25", {"gap": "10s"}, ["A B C"]),
    ("so does another event like it that is no step", "A1 A9 C17", {"gap": "10s", "steps": "custom.C"}, ["A C"]),
    ("a window is a span from the event", "B1 A8 C15 D18 B19", {"before": 1, "window": "10s"}, ["B A C D"]),
    ("the first in the range", "A1 B2 A3 C4", {}, ["A B A C"]),
    ("the last in the range", "A1 B2 A3 C4", {"occurrence": "last"}, ["A C"]),
    ("every one is a path of its own", "A1 B2 A3 C4", {"occurrence": "every", "after": 1}, ["A B", "A C"]),
    ("the range is half-open", "A1 B2 A3 C4", {"range": {"from": "1970-01-01T00:00:02Z", "to": "1970-01-01T00:00:04Z"}}, ["A C"]),
    ("what is left out is as if it had not been", "A1 B2 C3 B4", {"steps": {"leave_out": "custom.C"}}, ["A B"]),
    ("only what is named", "A1 B2 C3 D4", {"steps": ["custom.C", "custom.D"]}, ["A C D"]),
    ("no unit has the event", "B1 C2", {}, []),
]  # fmt: skip


def letters(question: Paths, path: Path) -> str:
    return " ".join(e.type[-1] for e in (*path.before[::-1], path.middle, *path.after))


@pytest.mark.parametrize(("story", "options", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_case(story: str, options: dict[str, Any], expected: list[str]) -> None:
    question = read_paths({"around": "custom.A", "after": 3, **options}, KNOWN)
    stream = happenings(story)

    assert [letters(question, p) for p in paths(question, stream)] == expected
    answer = asked(question, view_of(stream))
    told = [" ".join(n.type[-1] for n in (*s.before, s.around, *s.after)) for s in answer.sequences]
    assert sorted(told) == sorted(expected)


def asked(question: Paths, view: Any) -> Answer:
    return ask_paths(question, view, themselves, as_of=None)


@st.composite
def questions(draw: st.DrawFn) -> Paths:
    """Any combination of options that is not refused."""
    raw = {
        "around": {"type": draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=2, unique=True)), "where": draw(WHERE)},
        "steps": draw(st.sampled_from([None, None, {"leave_out": "custom.B"}, ["custom.B", "consent.given"], {"where": {"k": {"op": "exists"}}}])),
        "by": draw(st.sampled_from([None, None, "data.k", "channel"])),
        "before": draw(st.integers(0, 3)),
        "after": draw(st.integers(0, 4)),
        "top": draw(st.integers(1, 4)),
        "gap": draw(st.sampled_from([None, "1s", "2s", "4s"])),
        "window": draw(st.sampled_from([None, "3s", "6s"])),
        "occurrence": draw(st.sampled_from(["first", "last", "every"])),
        "loops": draw(st.sampled_from(["repeats", "loops", "keep"])),
        "unit": draw(st.sampled_from(["person", "person", "data.session"])),
        "range": draw(st.sampled_from([{}, {"from": "1970-01-01T00:00:03Z"}, {"to": "1970-01-01T00:00:08Z"}])),
    }  # fmt: skip
    try:
        return read_paths(raw, KNOWN)
    except Invalid as refused:
        if any(p.code not in ("levels", "not_together") for p in refused.problems):
            raise
        assume(False)
        raise


@given(stream=events(), question=questions(), chunks=st.integers(1, 3))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_columns_and_reference_find_the_same_paths_and_figures(
    stream: list[Happening], question: Paths, chunks: int
) -> None:
    view = view_of(stream, chunks)
    expected = paths(question, of_units(question.looked_at, stream))

    found = walked(question, view, themselves)
    answer = asked(question, view)

    rows = []
    for group, places in zip(found.walked.group, found.walked.places, strict=True):
        there = view.positions(found.stream, places[places >= 0])
        rows.append((found.stream.names[found.stream.unit[group]], there.tolist()))
    assert sorted(rows) == sorted(
        (p.unit, [e.position for e in (*p.before[::-1], p.middle, *p.after)]) for p in expected
    )
    assert figures(answer) == counted(question, expected)


def cells(question: Paths, path: Path) -> list[Any]:
    """The names of a path by level; None where it has no step."""
    before = [None] * (question.before - len(path.before)) + [*path.before[::-1]]
    after = [*path.after] + [None] * (question.after - len(path.after))
    return [e and name_of(question, e) for e in (*before, path.middle, *after)]


def counted(question: Paths, found: list[Path]) -> Any:
    """The figures, counted by hand."""
    rows = [cells(question, p) for p in found]
    levels, shown = [], []
    for column in zip(*rows, strict=True) if rows else [()] * (question.before + question.after + 1):
        counts = Counter(c for c in column if c is not None)
        first = sorted(counts, key=lambda c: (-counts[c], in_order(c)))[: question.top]
        rest = {c: n for c, n in counts.items() if c not in first}
        levels.append(([(c, counts[c]) for c in first], (len(rest), sum(rest.values())) if rest else None))
        shown.append(first)
    links: Counter[Any] = Counter()
    for row in rows:
        for level, (a, b) in enumerate(pairwise(row)):
            if a is not None and b is not None:
                x, y = (
                    s.index(n) if n in s else None
                    for s, n in zip(shown[level : level + 2], (a, b), strict=True)
                )
                links[level - question.before, x, y] += 1
    whole = Counter(tuple(row) for row in rows)
    sequences = sorted(whole, key=lambda r: (-whole[r], *key_of(question, r)))
    told = [(tuple(x for x in r if x is not None), whole[r]) for r in sequences[: question.top]]
    left = {r: whole[r] for r in sequences[question.top :]}
    return (
        len(rows),
        len({p.unit for p in found}),
        levels,
        dict(links),
        told,
        (len(left), sum(left.values())) if left else None,
    )


def in_order(name: Any) -> Any:
    return name[0], name[1] is None, name[1] or ()


def key_of(question: Paths, row: tuple[Any, ...]) -> Any:
    order = [in_order(n) for n in row if n is not None]
    middle = sum(n is not None for n in row[: question.before])
    return order[:middle], order[middle : middle + 1], order[middle + 1 :]


def figures(answer: Answer) -> Any:
    """The figures as they are counted by hand."""

    def name(step: Any) -> tuple[str, Any]:
        return step.type, None if step.value is None else identity(step.value)

    levels = [
        ([(name(s), s.count) for s in level.steps], level.rest and (level.rest.names, level.rest.count))
        for level in answer.levels
    ]
    links = {(link.level, link.from_, link.to): link.count for link in answer.links}
    sequences = [(tuple(map(name, (*s.before, s.around, *s.after))), s.count) for s in answer.sequences]
    rest = answer.sequences_rest and (answer.sequences_rest.names, answer.sequences_rest.count)
    for nearer, level in [*pairwise(answer.levels), *((b, a) for a, b in pairwise(answer.levels))]:
        if abs(level.level) > abs(nearer.level):
            assert on(nearer) == on(level) + level.ended  # nobody is lost between two levels
    return answer.paths, answer.units, levels, links, sequences, rest


def on(level: Any) -> int:
    rest = int(level.rest.count) if level.rest else 0
    return rest + sum(int(s.count) for s in level.steps)


@pytest.mark.parametrize(
    ("raw", "pointer", "says"),
    [
        ({}, "/around", "names an event"),
        ({"around": "custom.Aa"}, "/around/type", "did you mean custom.A"),
        ({"around": "custom.A", "after": 11}, "/after", "from 0 to 10"),
        ({"around": "custom.A", "after": 0}, "/after", "both 0"),
        ({"around": "custom.A", "gap": "0s"}, "/gap", "A span of nothing"),
        ({"around": "custom.A", "by": "data.kk"}, "/by", "did you mean data.k"),
        ({"around": "custom.A", "top": True}, "/top", "from 1 to 50"),
        ({"around": "custom.A", "depth": 3}, "/depth", "no option here"),
        ({"around": "custom.A", "steps": {"type": "custom.B", "leave_out": "custom.C"}}, "/steps/leave_out", "give one"),
        ({"around": "custom.A", "occurrence": "every", "loops": "loops"}, "/occurrence", "'gap' or a 'window'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place(raw: Any, pointer: str, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_paths(raw, KNOWN)
    assert any(p.pointer == pointer and says in p.detail for p in refused.value.problems), (
        refused.value.problems
    )


def test_names_stand_in_order_with_the_nameless_last() -> None:
    names = [Name("b"), Name("a"), Name("a", "1"), Name("a", 2), Name("a", True)]
    assert [n.value for n in sorted(names, key=names_in_order)] == [True, 2, "1", None, None]
