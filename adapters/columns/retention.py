"""Retention over columns: one computation of all starts, from which every figure and every list follows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from adapters.columns.funnels import MOST_BARS, Member, by_frequency, split_by, value_order
from adapters.columns.kernel import NEVER
from adapters.columns.retention_kernel import Starts, run, tally
from adapters.columns.view import Owners, Stream, View
from domain.errors import Invalid, Problem
from domain.funnels.answer import periods
from domain.funnels.property import identity
from domain.retention.answer import Cell, Cohort, Rest, Retained, Total, Value
from domain.retention.question import SPAN_US, Retention

__all__ = ["MOST_COHORTS", "Asked", "ask", "bar", "starts_of"]

MOST_COHORTS = 750
"""Two years of days."""
_DAYS = {"day": 1, "week": 7, "month": 31}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Ints = NDArray[np.int64]


class Asked(NamedTuple):
    """What every part of an answer is told from.

    Attributes:
        names: of the cohorts.
        edges: begins of their intervals in µs, and of as many after the last as are told.
        by_value, code: the starts by value of the breakdown, and the code of each one's value.
    """

    names: list[str]
    edges: Ints
    stream: Stream
    starts: Starts
    value_stream: Stream
    by_value: Starts | None
    code: Ints


def starts_of(
    question: Retention, view: View, owners: Owners, *, wanted: int = -1, threads: Executor | None = None
) -> Asked:
    """All starts of a question, and of its breakdown.

    Args:
        wanted: the interval of which the returns are looked for; -1: the last that counts.

    Raises:
        Invalid: there are too many cohorts.
    """
    stream = view.stream(question.looked_at, owners, threads)
    names, edges = _cohorts(question, stream)

    def of(one: Stream, wanted: int) -> Starts:
        return run(question, one.starts, one.at, one.steps, edges, wanted=wanted, threads=threads)

    nothing = np.empty(0, np.int64)
    if not names:
        none = Starts(nothing, nothing, nothing, nothing, nothing.view(np.uint64))
        return Asked(names, edges, stream, none, stream, none if question.breakdown else None, nothing)
    found = of(stream, wanted)
    if question.breakdown is None:
        return Asked(names, edges, stream, found, stream, None, nothing)
    if question.attribution == "all_steps":
        split_up = split_by(view, stream, question.breakdown, threads)
        by_value = of(split_up, wanted)
        return Asked(names, edges, stream, found, split_up, by_value, split_up.value[by_value.group])
    places = found.start
    if question.attribution == "last":
        last = found.found if wanted < 0 else of(stream, -1).found
        places = np.where(last < 0, found.start, last)
    code = view.values(question.breakdown, stream, places).astype(np.int64)
    return Asked(names, edges, stream, found, stream, found, code)


def _cohorts(question: Retention, stream: Stream) -> tuple[list[str], Ints]:
    """(names of the cohorts, begins of their intervals and of as many after them as are told): those of the range.

    Where the range is open they reach from the first event that starts to the last.
    """
    begin, end = question.from_us, question.to_us
    if begin is None or end is None:
        at = stream.at[stream.steps & np.uint32(1) != 0]
        at = at[(at >= (-NEVER if begin is None else begin)) & (at < (NEVER if end is None else end))]
        if not len(at):
            return [], np.empty(0, np.int64)
        begin = int(at.min()) if begin is None else begin
        end = int(at.max()) + 1 if end is None else end
    zone = ZoneInfo(question.timezone)
    cohorts = periods(question.interval, zone, begin, end)
    if cohorts[-1][1] or len(cohorts) - 1 > MOST_COHORTS:
        raise Invalid(
            [
                Problem(
                    "/interval",
                    f"More than {MOST_COHORTS:,} cohorts, one for each {question.interval}; take longer intervals, or a "
                    "shorter range.",
                    "too_many",
                )
            ]
        )
    after = cohorts[-1][0]
    days = (question.intervals + 1) * _DAYS[question.interval]
    more = periods(question.interval, zone, after, after + days * 86_400_000_000)
    edges = [at for at, _ in cohorts[:-1]] + [at for at, _ in more[: question.intervals]]
    while len(edges) < len(cohorts) - 1 + question.intervals:  # the calendar ends before: nothing lies there
        edges.append(edges[-1] + _DAYS[question.interval] * 86_400_000_000)
    return [name for _, name in cohorts[:-1]], np.array(edges, np.int64)


def _states(question: Retention, asked: Asked, cut: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(whether each interval of each cohort has begun for anybody, whether it is over for everybody) at time *cut*."""
    n = len(asked.names)
    k = np.arange(question.intervals)
    if question.mode == "rolling":
        span = SPAN_US[question.interval]
        first = np.maximum(asked.edges[:n], -NEVER if question.from_us is None else question.from_us)
        last = np.minimum(asked.edges[1 : n + 1], NEVER if question.to_us is None else question.to_us) - 1
        return first[:, None] + k * span <= cut, last[:, None] + (k + 1) * span - 1 <= cut
    reach = np.arange(n)[:, None] + k
    ends = np.append(asked.edges, NEVER)[reach + 1]
    return asked.edges[reach] <= cut, ends - 1 <= cut


def _cells(found: Sequence[int], of: Sequence[int], is_open: Sequence[bool] | None = None) -> list[Cell]:
    return [
        Cell(
            int(c), int(n), int(c) / int(n) if n else None, bool(is_open[k]) if is_open is not None else False
        )
        for k, (c, n) in enumerate(zip(found, of, strict=True))
    ]


def ask(
    question: Retention,
    view: View,
    owners: Owners,
    *,
    as_of: str | None,
    as_of_us: int | None,
    known_us: int,
    threads: Executor | None = None,
) -> Retained:
    """Answer a question.

    Args:
        as_of, as_of_us: the cut on what had happened, as it is told and in µs; None where there is none.
        known_us: when the last position was recorded that the view knows, in µs.

    Raises:
        Invalid: there are too many cohorts.
    """
    asked = starts_of(question, view, owners, threads=threads)
    cut = known_us if as_of_us is None else min(as_of_us, known_us)
    n, across = len(asked.names), question.intervals
    starts = asked.starts
    begun, over = _states(question, asked, cut) if n else (np.zeros((0, across), np.bool_),) * 2
    found, of = tally(starts.cohort, starts.cohort, starts.kept, np.ones((n, across), np.bool_), n)
    cohorts = []
    for c, name in enumerate(asked.names):
        told = int(begun[c].sum())
        if told or of[c, 0]:
            is_open = (~over[c, :told]).tolist()
            cohorts.append(Cohort(name, int(of[c, 0]), _cells(found[c, :told], of[c, :told], is_open)))
    reached = max((len(c.intervals) for c in cohorts), default=0)
    whole, of_whole = np.where(over, found, 0).sum(0), np.where(over, of, 0).sum(0)
    total = Total(len(starts.group), _cells(whole[:reached], of_whole[:reached]))
    notes = _notes(question, asked, begun, cut)
    breakdown, rest = None, None
    if asked.by_value is not None and question.breakdown is not None:
        values = view.all_values(question.breakdown)
        ranked = by_frequency(values, asked.code)
        line = np.full(len(values) + 1, MOST_BARS, np.int64)
        for number, (code, _) in enumerate(ranked[:MOST_BARS]):
            line[code + 1] = number
        lines = line[asked.code + 1]
        back, of_back = tally(lines, asked.by_value.cohort, asked.by_value.kept, over, MOST_BARS + 1)
        sizes = np.bincount(lines, minlength=MOST_BARS + 1)
        cells = [_cells(back[i, :reached], of_back[i, :reached]) for i in range(MOST_BARS + 1)]
        breakdown = [Value(v, int(sizes[i]), cells[i]) for i, (_, v) in enumerate(ranked[:MOST_BARS])]
        if len(ranked) > MOST_BARS:
            rest = Rest(len(ranked) - MOST_BARS, int(sizes[MOST_BARS]), cells[MOST_BARS])
            notes.append(
                f"The breakdown has {len(ranked):,} values; the {MOST_BARS} most frequent are told, the others together."
            )
    return Retained(
        interval=question.interval, mode=question.mode, cohorts=cohorts, total=total, notes=notes, as_of=as_of,
        known_at=view.known_at, head=view.known_at, breakdown=breakdown, breakdown_rest=rest,
    )  # fmt: skip


def _notes(question: Retention, asked: Asked, begun: NDArray[np.bool_], cut: int) -> list[str]:
    """What somebody must know who reads the figures."""
    stream = asked.stream
    begins = stream.steps & np.uint32(1) != 0
    if not begins.any():
        types = ", ".join(question.start.types)
        return [f"No event matches the start ({types} with its filters), or none has a unit."]
    if not len(asked.starts.group):
        first = " Of everybody the first start of all counts: `entry: any` asks for later ones, too."
        return [f"Nobody starts in the range.{first if question.entry == 'first' else ''}"]
    notes = []
    if question.entry == "any":
        notes.append("A unit stands in each cohort in which it starts: sizes do not add up to units.")
    if question.returns == "on_or_after":
        notes.append("Whoever returns later still counts: every figure may yet grow.")
    last = int(stream.at.max())
    after = asked.edges[: len(asked.names) + question.intervals]
    if question.mode == "calendar" and ((after > last) & (after <= cut)).any() and begun.any():
        at = (_EPOCH + timedelta(microseconds=last)).isoformat(timespec="seconds").replace("+00:00", "Z")
        notes.append(
            f"The last event that starts or returns happened at {at}: intervals after it are empty; ask `as_of` then, and they "
            "are left out."
        )
    return notes


def bar(
    question: Retention,
    view: View,
    owners: Owners,
    *,
    interval: int | None,
    returned: bool,
    cohort: str | None = None,
    value: Any = None,
    of_value: bool = False,
    threads: Executor | None = None,
) -> list[Member]:
    """The units behind a cell, by the same computation that counts them: each with its start and its return there.

    Args:
        interval: who returned in it, or, without *returned*, did not; None: all who started.
        cohort: only those of this one.
        of_value, value: only those of this value of the breakdown.

    Raises:
        Invalid: there is no such cohort.
    """
    asked = starts_of(question, view, owners, wanted=-1 if interval is None else interval, threads=threads)
    stream, starts = asked.stream, asked.starts
    mine = np.ones(len(starts.group), np.bool_)
    if of_value and asked.by_value is not None:
        stream, starts = asked.value_stream, asked.by_value
        values = view.all_values(question.breakdown or "")
        codes = [c for c, v in enumerate(values) if value is not None and identity(v) == identity(value)]
        mine = np.isin(asked.code, codes or ([-1] if value is None else [-2]))
    if cohort is not None:
        if cohort not in asked.names:
            raise Invalid([Problem("/cohort", "This retention has no such cohort.", "unknown")])
        mine &= starts.cohort == asked.names.index(cohort)
    found = np.full(len(starts.group), -1, np.int64)
    if interval is not None:
        mine &= ((starts.kept >> np.uint64(interval)) & np.uint64(1) != 0) == returned
        found = starts.found if returned else found
    places = np.stack([starts.start[mine], found[mine]], axis=1)
    flat = places.ravel()
    positions = np.full(len(flat), -1, np.int64)
    positions[flat >= 0] = view.positions(stream, flat[flat >= 0])
    names = [stream.names[u] for u in stream.unit[starts.group[mine]]]
    rows = zip(names, positions[::2].tolist(), positions[1::2].tolist(), strict=True)
    members = [Member(n, [start, back] if back >= 0 else [start]) for n, start, back in rows]
    return sorted(members, key=lambda m: (value_order(m.unit), m.positions))
