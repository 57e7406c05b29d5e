"""The kernel finds what the reference finds, on any stream and for any combination of options."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adapters.columns.funnels import ask, attempts_of, bar
from domain.errors import Invalid
from domain.funnels.answer import figures
from domain.funnels.property import identity
from domain.funnels.question import Funnel
from domain.funnels.reading import Known, read_funnel
from domain.funnels.reference import Attempt, Happening, attempts
from domain.funnels.times import summary
from tests.unit.test_funnel_cases import SECOND, themselves, view_of

TYPES = ("custom.A", "custom.B", "custom.C", "custom.D", "consent.given")
KNOWN = Known(
    frozenset(TYPES), {"data.k": frozenset({"number", "text", "flag"}), "data.session": frozenset({"text"})}
)
VALUES = st.sampled_from([None, None, 1, 1.0, 2, "1", True])


@st.composite
def events(draw: st.DrawFn) -> list[Happening]:
    """A few units with events at few instants, so that windows end and instants are shared."""
    count = draw(st.integers(0, 24))
    found = []
    for i in range(count):
        type_ = draw(st.sampled_from([*TYPES[:4], *TYPES]))
        drawn = {"data.k": draw(VALUES), "data.session": draw(st.sampled_from([None, "s1", "s2"]))}
        properties: dict[str, Any] = {path: value for path, value in drawn.items() if value is not None}
        properties["channel"] = draw(st.sampled_from(["web", "call"]))
        found.append(
            Happening(
                position=i + 1,
                at_us=draw(st.integers(0, 12)) * SECOND,
                type=type_,
                source=draw(st.sampled_from(["a", "é", "b"])),
                source_id=f"{draw(st.integers(0, 3))}/{i}",
                unit=draw(st.sampled_from(["ann", "bob"])),
                properties=properties,
                touchpoint=type_ != "consent.given",
            )
        )
    return [msgspec.structs.replace(e, properties={**e.properties, "source": e.source}) for e in found]


STEP_TYPES = st.lists(st.sampled_from(TYPES[:3]), min_size=1, max_size=2, unique=True)
WHERE = st.sampled_from(
    [None, None, None, {"channel": "web"}, {"k": 1}, {"k": [1, "1"]}, {"k": {"op": ">=", "value": 2}},
     {"k": {"op": "exists"}}, {"k": {"op": "!=", "value": 1}}, {"source": {"op": "contains", "value": "a"}}]
)  # fmt: skip


@st.composite
def questions(draw: st.DrawFn) -> Funnel:
    """Any combination of options that is not refused."""
    n = draw(st.integers(2, 4))
    steps = []
    for i in range(n):
        one: dict[str, Any] = {"type": draw(STEP_TYPES), "where": draw(WHERE)}
        if i and draw(st.booleans()) and draw(st.booleans()):
            one["within"] = f"{draw(st.integers(1, 4))}s"
        steps.append(one)
    exclude = []
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        begin = draw(st.integers(1, n - 1))
        exclude.append(
            {
                "type": draw(st.sampled_from(TYPES)), "where": draw(WHERE), "from": begin,
                "to": draw(st.integers(begin + 1, n)), "policy": draw(st.sampled_from(["remove", "drop_off"])),
            }
        )  # fmt: skip
    begin, end = draw(st.integers(0, 6)), draw(st.integers(7, 13))
    raw = {
        "steps": steps,
        "window": f"{draw(st.integers(1, 8))}s",
        "entry": draw(st.sampled_from(["latest", "first"])),
        "order": draw(st.sampled_from(["ordered", "ordered", "strict", "any"])),
        "count": draw(st.sampled_from(["unique", "total"])),
        "unit": draw(st.sampled_from(["person", "data.session"])),
        "exclude": exclude,
        "hold": draw(st.sampled_from([[], [], ["k"], ["k", "channel"]])),
        "breakdown": draw(
            st.sampled_from([None, {"by": "data.k"}, {"by": "channel", "attribution": "last"},
                             {"by": "data.k", "attribution": "step:2"}, {"by": "data.k", "attribution": "all_steps"}])
        ),
        "range": draw(st.sampled_from([{}, {"from": f"1970-01-01T00:00:{begin:02}Z", "to": f"1970-01-01T00:00:{end:02}Z"}])),
    }  # fmt: skip
    try:
        return read_funnel(raw, KNOWN)
    except Invalid as refused:
        if any(p.code != "not_together" for p in refused.problems):
            raise
        assume(False)
        raise


def told(found: list[Attempt]) -> list[tuple[Any, int, list[int]]]:
    return sorted((a.unit, a.period, [e.position for e in a.events]) for a in found)


def of_units(funnel: Funnel, stream: list[Happening]) -> list[Happening]:
    """The events with the unit of the question."""
    if funnel.unit == "person":
        return stream
    return [
        msgspec.structs.replace(e, unit=e.properties[funnel.unit])
        for e in stream
        if funnel.unit in e.properties
    ]


def value_of(funnel: Funnel, attempt: Attempt) -> Any:
    """The value that an attempt is broken down by; ... where it is left out."""
    place = {"first": 0, "last": -1, "step": funnel.step - 1}[funnel.attribution]
    if funnel.attribution == "step" and len(attempt.events) < funnel.step:
        return ...
    value = attempt.events[place].properties.get(funnel.breakdown or "")
    return None if value is None else identity(value)


@given(stream=events(), funnel=questions(), chunks=st.integers(1, 3))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
def test_kernel_and_reference_find_the_same_attempts(
    stream: list[Happening], funnel: Funnel, chunks: int
) -> None:
    view = view_of(stream, chunks)
    mine = of_units(funnel, stream)
    whole = (funnel.from_us, funnel.to_us)

    asked = attempts_of(funnel, view, themselves)

    expected = attempts(funnel, mine, [whole])
    assert found_in(view, asked.whole) == told(expected)
    if funnel.breakdown is not None and funnel.attribution == "all_steps":
        by_value = {}
        for value in [e.properties.get(funnel.breakdown) for e in mine]:
            carry = [e for e in mine if same(e.properties.get(funnel.breakdown), value)]
            by_value[None if value is None else identity(value)] = told(attempts(funnel, carry, [whole]))
        assert broken_down(view, funnel, asked) == {v: a for v, a in by_value.items() if a}
    elif funnel.breakdown is not None:
        grouped = defaultdict(list)
        for attempt in expected:
            grouped[value_of(funnel, attempt)].append(attempt)
        grouped.pop(..., None)
        assert broken_down(view, funnel, asked) == {v: told(a) for v, a in grouped.items()}


def same(a: Any, b: Any) -> bool:
    return a is b is None or (a is not None and b is not None and identity(a) == identity(b))


def found_in(view: Any, found: Any) -> list[tuple[Any, int, list[int]]]:
    """The attempts of the kernel as those of the reference are told."""
    rows = []
    for group, period, places in zip(
        found.attempts.group, found.attempts.period, found.attempts.places, strict=True
    ):
        events = view.positions(found.stream, places[places >= 0])
        rows.append((found.stream.names[found.stream.unit[group]], int(period), events.tolist()))
    return sorted(rows)


def broken_down(view: Any, funnel: Funnel, asked: Any) -> dict[Any, Any]:
    values = view.vocabularies[funnel.breakdown].values if funnel.breakdown in view.vocabularies else []
    codes = {int(c) for c in asked.code}
    return {
        None if c < 0 else identity(values[c]): found_in(view, asked.by_value.where(asked.code == c))
        for c in codes
    }


@given(
    stream=events(),
    funnel=questions(),
    edges=st.lists(st.integers(0, 13), min_size=2, max_size=5, unique=True),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
def test_each_interval_is_a_funnel_of_its_own(
    stream: list[Happening], funnel: Funnel, edges: list[int]
) -> None:
    from adapters.columns.funnels import _run

    at = [e * SECOND for e in sorted(edges)]
    view = view_of(stream)

    found = _run(funnel, view, view.stream(funnel, themselves), at, None)

    expected = attempts(funnel, of_units(funnel, stream), list(pairwise(at)))
    assert found_in(view, found) == told(expected)


@given(stream=events(), funnel=questions())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
def test_counts_times_and_lists_are_of_one_computation(stream: list[Happening], funnel: Funnel) -> None:
    view, n = view_of(stream, 2), len(funnel.steps)
    expected = attempts(funnel, of_units(funnel, stream), [(funnel.from_us, funnel.to_us)])

    answer = ask(funnel, view, themselves, as_of=None, as_of_us=None, known_us=0)

    counts = [sum(len(a.events) > k for a in expected) for k in range(n)]
    spans = [
        sorted(a.events[k + 1].at_us - a.events[k].at_us for a in expected if len(a.events) > k + 1)
        for k in range(n - 1)
    ]
    assert answer.steps == figures(counts, [(s, sum(s)) for s in spans])
    done = sorted(a.events[-1].at_us - a.events[0].at_us for a in expected if len(a.events) == n)
    assert answer.time_to_convert == summary(done, sum(done))
    for step in range(1, n + 1):
        assert len(bar(funnel, view, themselves, step=step, dropped=False)) == counts[step - 1]
        if step > 1:
            assert (
                len(bar(funnel, view, themselves, step=step, dropped=True))
                == counts[step - 2] - counts[step - 1]
            )


def test_two_threads_find_what_one_finds() -> None:
    from concurrent.futures import ThreadPoolExecutor

    random = np.random.default_rng(6)
    stream = [
        Happening(
            position=i, at_us=int(random.integers(0, 1000)) * SECOND, type=str(random.choice(TYPES[:3])), source="s",
            source_id=str(i), unit=f"u{random.integers(0, 1500):04}", properties={"channel": "web", "source": "s"},
        )
        for i in range(1, 9000)
    ]  # fmt: skip
    funnel = read_funnel({"steps": ["custom.A", "custom.B", "custom.C"], "window": "300s"}, KNOWN)
    view = view_of(stream)
    with ThreadPoolExecutor(2) as threads:
        assert found_in(view, attempts_of(funnel, view, themselves, threads).whole) == found_in(
            view, attempts_of(funnel, view, themselves).whole
        )
