"""Funnels over columns: one computation of the counted attempts, from which every figure and every list follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from numpy.typing import NDArray

from adapters.columns.chains import counts_and_spans
from adapters.columns.kernel import NEVER, Attempts, Plan, plan_of, run, run_by_value
from adapters.columns.sorting import split, taken
from adapters.columns.view import Owners, Stream, View
from domain.errors import Invalid, Problem
from domain.funnels.answer import MOST_PERIODS, Answer, Period, Rest, StepFigures, Value, figures, periods
from domain.funnels.property import identity
from domain.funnels.question import Funnel
from domain.funnels.times import Times, summary

__all__ = [
    "MOST_BARS",
    "Asked",
    "Found",
    "Member",
    "ask",
    "attempts_of",
    "bar",
    "by_frequency",
    "periods_of",
    "split_by",
    "told",
    "value_order",
]

MOST_BARS = 50
"""Values of a breakdown that are told one by one; the rest is summed up."""
_NOT_A_SUM = "Each interval of the trend is a funnel of its own: intervals do not add up to the whole."
Ints = NDArray[np.int64]
Each = Callable[..., Iterable[Any]]
"""`map`, or that of an executor."""


class Found(NamedTuple):
    """Counted attempts: of which group of the stream, in which period, steps reached, and the events of the steps."""

    stream: Stream
    attempts: Attempts

    def where(self, which: NDArray[np.bool_]) -> Found:
        """Some of them."""
        a = self.attempts
        return Found(
            self.stream, Attempts(a.group[which], a.period[which], a.reached[which], a.places[which])
        )


class Member(msgspec.Struct, frozen=True):
    """A unit behind a bar, and the events that put it there, by step."""

    unit: Any
    positions: list[int]


def _run(funnel: Funnel, view: View, stream: Stream, edges: Sequence[int], threads: Executor | None) -> Found:
    """The counted attempts of a stream, in every period between *edges*."""
    plan, at_edges = plan_of(funnel), np.array(edges, np.int64)
    if not funnel.hold:
        return Found(stream, _attempts(plan, stream, at_edges, threads))
    held, rank = _held(funnel, view, stream)
    found = Found(held, _attempts(plan, held, at_edges, threads))
    if funnel.count == "total" or not len(found.attempts.group):
        return found
    a = found.attempts  # the unit's best over all combinations: most steps, then the earliest entry
    unit, value = held.unit[a.group], held.value[a.group]
    order = np.lexsort((rank[a.places[:, 0]], -a.reached, a.period, value, unit))
    keys = np.stack([unit, value, a.period])[:, order]
    best = np.insert((np.diff(keys) != 0).any(axis=0), 0, np.True_)
    which = np.zeros(len(order), np.bool_)
    which[order[best]] = True
    return found.where(which)


def _attempts(plan: Plan, stream: Stream, edges: Ints, threads: Executor | None) -> Attempts:
    return run(
        plan, stream.starts, stream.at, stream.steps, stream.excluded, edges, threads, overlap=stream.overlap
    )


def _run_by_value(
    funnel: Funnel, view: View, stream: Stream, path: str, edges: Sequence[int], threads: Executor | None
) -> tuple[Found, NDArray[Any]]:
    """(the counted attempts of every unit and value of a property, of each the code of its value)."""
    plan = plan_of(funnel)
    if not plan.is_plain or stream.overlap or funnel.hold:
        found = _run(funnel, view, split_by(view, stream, path, threads), edges, threads)
        return found, found.stream.value[found.attempts.group]
    codes = view.values(path, stream, threads=threads)
    values = len(view.all_values(path))
    attempts, code = run_by_value(
        plan, stream.starts, stream.at, stream.steps, np.array(edges, np.int64), codes, values, threads
    )
    return Found(stream, attempts), code


def _held(funnel: Funnel, view: View, stream: Stream) -> tuple[Stream, Ints]:
    """(the stream by unit and combination of held values, the place of each of its events in the stream before).

    Excluded events are not held: they stand in every combination of their unit.
    """
    n = len(stream.at)
    every = np.arange(n)
    group = np.repeat(np.arange(len(stream.starts) - 1), np.diff(stream.starts))
    combination = np.zeros(n, np.int64)
    lacks = np.zeros(n, np.bool_)
    for path in funnel.hold:
        codes = view.values(path, stream).astype(np.int64)
        lacks |= codes < 0
        combination = np.unique(combination * (int(codes.max(initial=0)) + 1) + codes, return_inverse=True)[1]
    takes = (stream.steps != 0) & ~lacks
    pair = group * (int(combination.max(initial=0)) + 1) + combination
    pairs, number = np.unique(pair[takes], return_inverse=True)
    of_pair = pairs // (int(combination.max(initial=0)) + 1) if len(pairs) else pairs
    source, into, parts = every[takes], number, np.ones(int(takes.sum()), np.bool_)
    shut = np.flatnonzero(stream.excluded)
    if len(shut) and len(pairs):
        first = np.searchsorted(of_pair, group[shut], "left")
        copies = np.searchsorted(of_pair, group[shut], "right") - first
        where = np.repeat(shut, copies)
        offset = np.arange(len(where)) - np.repeat(np.cumsum(copies) - copies, copies)
        goes = np.repeat(first, copies) + offset
        own = takes[where] & (pairs[goes] == pair[where])  # stands there already, as a step too
        source = np.concatenate([source, where[~own]])
        into = np.concatenate([into, goes[~own]])
        parts = np.concatenate([parts, np.zeros(int((~own).sum()), np.bool_)])
    order = np.lexsort((source, into))
    source, into, parts = source[order], into[order], parts[order]
    steps = np.where(parts, stream.steps[source], np.uint32(0))
    starts = np.append(np.searchsorted(into, np.arange(len(pairs))), len(into)).astype(np.int64)
    held = stream._replace(
        starts=starts,
        unit=stream.unit[of_pair],
        value=stream.value[of_pair],
        at=stream.at[source],
        steps=steps.astype(np.uint32),
        excluded=stream.excluded[source],
        place=stream.place[source],
    )
    return held, source


def split_by(view: View, stream: Stream, path: str, threads: Executor | None) -> Stream:
    """The stream with every unit split by a property of its events."""
    codes = view.values(path, stream, threads=threads)
    order, begins, group = split(stream.starts, codes, len(view.all_values(path)), threads)
    return stream._replace(
        starts=begins,
        unit=stream.unit[group],
        value=codes[order[begins[:-1]]].astype(np.int64),
        at=taken(stream.at, order, threads),
        steps=taken(stream.steps, order, threads),
        excluded=taken(stream.excluded, order, threads) if stream.excluded.any() else stream.excluded,
        place=taken(stream.place, order, threads),
    )


def _figures_of(
    found: Found, code: NDArray[Any], line: NDArray[np.int32], lines: int, n: int, each: Each
) -> list[list[StepFigures]]:
    """The figures of some lines of an answer: every attempt is looked at once for all of them.

    Args:
        code, line: of each attempt a code, and of each code, from -1 on, the line where it counts; *lines*: nowhere.
    """
    reached, places = (np.ascontiguousarray(a, np.int32) for a in found.attempts[2:])
    codes = np.ascontiguousarray(code, np.int32)
    tally, of_line = counts_and_spans(codes, line, lines, n, reached, places, found.stream.at)
    counts = tally[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:].tolist()
    ordered = list(each(_ordered, [us for spans in of_line for us in spans]))
    return [figures(counts[i], ordered[i * (n - 1) : (i + 1) * (n - 1)]) for i in range(lines)]


def _ordered(us: Ints) -> tuple[Sequence[int], int]:
    """Spans in order, with their sum."""
    us.sort()
    return us, int(us.sum())  # type: ignore[return-value]  # an array of integers is a sequence of them


def _figures(found: Found, n: int, each: Each = map) -> list[StepFigures]:
    everywhere = np.zeros(len(found.attempts.reached), np.int32)
    (told_of,) = _figures_of(found, everywhere, np.zeros(2, np.int32), 1, n, each)
    return told_of


def _figures_by_value(
    found: Found, code: NDArray[Any], shown: Sequence[int], n: int, each: Each
) -> list[list[StepFigures]]:
    """The figures of some values of a breakdown."""
    line = np.full(int(code.max(initial=-1)) + 2, len(shown), np.int32)
    line[np.array(shown, np.int64) + 1] = np.arange(len(shown), dtype=np.int32)
    return _figures_of(found, code, line, len(shown), n, each)


def _whole(found: Found, n: int) -> Times:
    done = found.attempts.places[found.attempts.reached == n]
    us = np.sort(found.stream.at[done[:, -1]] - found.stream.at[done[:, 0]])
    return summary(us, int(us.sum()))  # type: ignore[arg-type]


class Asked(NamedTuple):
    """What every part of an answer is told from."""

    whole: Found
    by_value: Found | None
    code: NDArray[Any] | None  # of each attempt of `by_value`, the value's
    by_period: Found | None
    periods: list[tuple[int, str]]


def attempts_of(funnel: Funnel, view: View, owners: Owners, threads: Executor | None = None) -> Asked:
    """The counted attempts of a question, of its breakdown and of its trend.

    Raises:
        Invalid: the trend has too many intervals.
    """
    begin = -NEVER if funnel.from_us is None else funnel.from_us
    end = NEVER if funnel.to_us is None else funnel.to_us
    stream = view.stream(funnel, owners, threads)
    whole = _run(funnel, view, stream, [begin, end], threads)
    by_value, code = None, None
    if funnel.breakdown is not None and funnel.attribution == "all_steps":
        by_value, code = _run_by_value(funnel, view, stream, funnel.breakdown, [begin, end], threads)
    elif funnel.breakdown is not None:
        a = whole.attempts
        by_value = whole
        which = np.zeros(len(a.reached), np.int64)
        if funnel.attribution == "last":
            which = a.reached - 1
        elif funnel.attribution == "step":
            by_value = whole.where(a.reached >= funnel.step)
            which = np.full(len(by_value.attempts.reached), funnel.step - 1)
        places = by_value.attempts.places
        events = places[np.arange(len(places)), which]
        code = view.values(funnel.breakdown, by_value.stream, events).astype(np.int64)
    by_period, names = None, []
    if funnel.trend is not None:
        opens = stream.steps != 0 if funnel.order == "any" else stream.steps & np.uint32(1) != 0
        names = periods_of(funnel, stream.at[opens & (stream.at >= begin) & (stream.at < end)])
        if names:
            edges = [max(names[0][0], begin), *(at for at, _ in names[1:-1]), min(names[-1][0], end)]
            by_period = _run(funnel, view, stream, edges, threads)
    return Asked(whole, by_value, code, by_period, names)


def periods_of(funnel: Funnel, at: Ints) -> list[tuple[int, str]]:
    """The intervals of the trend: those of the range, or where it is open those in which the entries *at* lie.

    Raises:
        Invalid: there are too many.
    """
    assert funnel.trend is not None
    begin, end = funnel.from_us, funnel.to_us
    if begin is None or end is None:
        if not len(at):
            return []
        begin = int(at.min()) if begin is None else begin
        end = int(at.max()) + 1 if end is None else end
    found = periods(funnel.trend, ZoneInfo(funnel.timezone), begin, end)
    if found[-1][1]:
        raise Invalid(
            [
                Problem(
                    "/trend",
                    f"More than {MOST_PERIODS:,} intervals; take longer ones, or a shorter range.",
                    "too_many",
                )
            ]
        )
    return found


def value_order(value: Any) -> tuple[bool, Any]:
    """What values are put in order by; none last."""
    return (value is None, () if value is None else identity(value))


def by_frequency(values: Sequence[Any], code: NDArray[Any]) -> list[tuple[int, Any]]:
    """(code, value) of every value, the most frequent first, then in order of the values."""
    counts = np.bincount(code + 1, minlength=1)
    told = [(c - 1, values[c - 1] if c else None, int(counts[c])) for c in np.flatnonzero(counts).tolist()]
    told.sort(key=lambda t: (-t[2], value_order(t[1])))
    return [(c, value) for c, value, _ in told]


def ask(
    funnel: Funnel,
    view: View,
    owners: Owners,
    *,
    as_of: str | None,
    as_of_us: int | None,
    known_us: int,
    threads: Executor | None = None,
) -> Answer:
    """Answer a question.

    Args:
        as_of, as_of_us: the cut on what had happened, as it is told and in µs; None where there is none.
        known_us: when the last position was recorded that the view knows, in µs.

    Raises:
        Invalid: the trend has too many intervals.
    """
    asked = attempts_of(funnel, view, owners, threads)
    cut = known_us if as_of_us is None else min(as_of_us, known_us)
    values = view.all_values(funnel.breakdown) if funnel.breakdown is not None else []
    return told(funnel, asked, values, as_of=as_of, known_at=view.known_at, cut_us=cut, threads=threads)


def told(
    funnel: Funnel,
    asked: Asked,
    values: Sequence[Any],
    *,
    as_of: str | None,
    known_at: int,
    cut_us: int,
    threads: Executor | None = None,
) -> Answer:
    """Tell the figures of counted attempts, whoever found them.

    Args:
        values: of the breakdown, by their codes.
        cut_us: windows that end later, in µs, are open.
    """
    n = len(funnel.steps)
    each: Each = threads.map if threads is not None else map
    times = threads.submit(_whole, asked.whole, n) if threads is not None else None
    notes = []
    breakdown, rest = None, None
    if asked.by_value is not None and asked.code is not None and funnel.breakdown is not None:
        ranked = by_frequency(values, asked.code)
        shown = ranked[:MOST_BARS]
        by_code = _figures_by_value(asked.by_value, asked.code, [c for c, _ in shown], n, each)
        breakdown = [Value(v, steps) for (_, v), steps in zip(shown, by_code, strict=True)]
        if len(ranked) > MOST_BARS:
            beyond = np.isin(asked.code, [c for c, _ in ranked[MOST_BARS:]])
            rest = Rest(len(ranked) - MOST_BARS, _figures(asked.by_value.where(beyond), n))
            notes.append(
                f"The breakdown has {len(ranked):,} values; the {MOST_BARS} most frequent are told, the others together."
            )
    trend = None
    if funnel.trend is not None:
        notes.append(_NOT_A_SUM)
        trend = []
        for i, (_, name) in enumerate(asked.periods[:-1]):
            assert asked.by_period is not None
            end = min(asked.periods[i + 1][0], NEVER if funnel.to_us is None else funnel.to_us)
            mine = asked.by_period.where(asked.by_period.attempts.period == i)
            trend.append(Period(name, end - 1 + funnel.window_us > cut_us, _figures(mine, n)))
    if not len(asked.whole.attempts.reached):
        notes.append(_why_none(funnel, asked.whole.stream))
    last = NEVER if funnel.to_us is None else funnel.to_us - 1 + funnel.window_us
    return Answer(
        steps=_figures(asked.whole, n, each),
        time_to_convert=times.result() if times is not None else _whole(asked.whole, n),
        open=last > cut_us,
        notes=notes,
        as_of=as_of,
        known_at=known_at,
        head=known_at,
        breakdown=breakdown,
        breakdown_rest=rest,
        trend=trend,
    )


def _why_none(funnel: Funnel, stream: Stream) -> str:
    """What a zero means."""
    first = stream.steps & np.uint32(1) != 0
    if not first.any():
        return f"No event matches the first step ({', '.join(funnel.steps[0].types)} with its filters), or none has a unit."
    begin = -NEVER if funnel.from_us is None else funnel.from_us
    end = NEVER if funnel.to_us is None else funnel.to_us
    if not (first & (stream.at >= begin) & (stream.at < end)).any():
        return "No event that matches the first step lies in the range."
    return "Every attempt is removed by an exclusion."


def bar(
    funnel: Funnel,
    view: View,
    owners: Owners,
    *,
    step: int,
    dropped: bool,
    value: Any = None,
    of_value: bool = False,
    period: str | None = None,
    threads: Executor | None = None,
) -> list[Member]:
    """The units behind a bar, by the same computation that counts them.

    Args:
        step: from 1: who reached it; with *dropped* who reached the step before and not this one.
        of_value, value: only those of this value of the breakdown.
        period: only those of this interval of the trend.

    Raises:
        Invalid: there is no such interval.
    """
    asked = attempts_of(funnel, view, owners, threads)
    found = asked.whole
    if of_value:
        assert asked.by_value is not None and asked.code is not None  # noqa: PT018 - the caller has read a breakdown
        values = view.all_values(funnel.breakdown or "")
        codes = [c for c, v in enumerate(values) if value is not None and identity(v) == identity(value)]
        found = asked.by_value.where(np.isin(asked.code, codes or ([-1] if value is None else [-2])))
    elif period is not None:
        numbers = [i for i, (_, name) in enumerate(asked.periods) if name == period]
        if not numbers or asked.by_period is None:
            raise Invalid([Problem("/period", "The trend of this question has no such interval.", "unknown")])
        found = asked.by_period.where(asked.by_period.attempts.period == numbers[0])
    reached = found.attempts.reached
    mine = found.where(reached == step - 1 if dropped else reached >= step)
    a = mine.attempts
    flat = a.places.ravel()
    positions = np.full(len(flat), -1, np.int64)
    positions[flat >= 0] = view.positions(mine.stream, flat[flat >= 0])
    names = [mine.stream.names[u] for u in mine.stream.unit[a.group]]
    rows = positions.reshape(a.places.shape)
    members = [Member(n, row[row >= 0].tolist()) for n, row in zip(names, rows, strict=True)]
    return sorted(members, key=lambda m: (value_order(m.unit), m.positions))
