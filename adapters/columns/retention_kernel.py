"""The retention kernel: one pass over the events of each unit, in the order in which funnels see them.

Compiled for the same reason as the funnel kernel: whether an event is a return depends on the start before it.
What a unit did is told by one bit for each interval, so that every figure is a count of bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from adapters.columns.compiled import in_halves
from adapters.columns.kernel import NEVER
from domain.retention.question import SPAN_US, Retention

__all__ = ["Starts", "run", "tally", "warm"]

Ints = NDArray[np.int64]
Bits = NDArray[np.uint32]
_ANY, _FIRST, _ON_OR_AFTER = 0, 1, 2


class Starts(NamedTuple):
    """Starts of units.

    Attributes:
        group, cohort: of which group, in which interval of the edges.
        start: the place of the event that starts.
        found: the place of the return that was looked for; -1 where there is none.
        kept: bit k: it counts as returned in interval k.
    """

    group: Ints
    cohort: Ints
    start: Ints
    found: Ints
    kept: NDArray[np.uint64]


@numba.njit(nogil=True, cache=True)
def _until(
    i: int, last: int, at: Any, edges: Any, cohort: int, rolling_us: int, intervals: int
) -> Any:  # pragma: no cover - compiled
    """Of `on_or_after`: the interval of the last return after start *i*, at most the last told; -1 of none."""
    if last <= i:
        return -1
    if rolling_us > 0:
        return min((at[last] - at[i]) // rolling_us, intervals - 1)
    return min(np.searchsorted(edges, at[last], side="right") - 1 - cohort, intervals - 1)


@numba.njit(nogil=True, cache=True)
def _returned(
    i: int,
    last: int,
    at: Any,
    steps: Any,
    edges: Any,
    cohort: int,
    returns: int,
    rolling_us: int,
    intervals: int,
    wanted: int,
) -> Any:  # pragma: no cover - compiled
    """(bits of the intervals in which start *i* counts as returned, place of the return looked for; -1 of none)."""
    bit = np.uint64(1)
    kept = np.uint64(0)
    found = -1
    if returns == _ON_OR_AFTER:
        highest = _until(i, last, at, edges, cohort, rolling_us, intervals)
        for k in range(highest + 1):
            kept |= bit << np.uint64(k)
        if wanted < 0 or wanted > highest:
            return kept, (last if wanted < 0 <= highest else -1)
    edge = cohort
    for j in range(i + 1, last + 1):
        if steps[j] & np.uint32(2) == 0:
            continue
        if rolling_us > 0:
            k = (at[j] - at[i]) // rolling_us
        else:
            while edge < edges.shape[0] - 1 and at[j] >= edges[edge + 1]:
                edge += 1
            k = edge - cohort
        if returns == _ON_OR_AFTER:
            if k >= wanted:
                return kept, j
            continue
        if k >= intervals:
            break
        if wanted < 0 or (k == wanted and (kept >> np.uint64(k)) & bit == 0):
            found = j
        kept |= bit << np.uint64(k)
        if returns == _FIRST:
            break
    return kept, found


@numba.njit(nogil=True, cache=True)
def _run(
    starts: Any,
    first_group: int,
    last_group: int,
    at: Any,
    steps: Any,
    edges: Any,
    begin: int,
    end: int,
    only_first: bool,
    returns: int,
    rolling_us: int,
    intervals: int,
    wanted: int,
) -> Any:  # pragma: no cover - compiled
    one, two = np.uint32(1), np.uint32(2)
    out = np.empty((max(1024, last_group - first_group), 5), np.int64)
    count = 0
    for g in range(first_group, last_group):
        last = starts[g + 1] - 1  # the group's last return
        while last >= starts[g] and steps[last] & two == 0:
            last -= 1
        before = -1
        for i in range(starts[g], starts[g + 1]):
            if steps[i] & one == 0:
                continue
            if at[i] >= end or (only_first and at[i] < begin):
                break
            if at[i] < begin or (before >= 0 and at[i] < edges[before + 1]):
                continue
            cohort = np.searchsorted(edges, at[i], side="right") - 1
            before = cohort
            kept, found = _returned(i, last, at, steps, edges, cohort, returns, rolling_us, intervals, wanted)
            if count == out.shape[0]:
                longer = np.empty((2 * count, 5), np.int64)
                longer[:count] = out
                out = longer
            out[count, 0] = g
            out[count, 1] = cohort
            out[count, 2] = i
            out[count, 3] = found
            out[count, 4] = np.int64(kept)
            count += 1
            if only_first:
                break
    return out[:count]


def run(
    question: Retention,
    starts: Ints,
    at: Ints,
    steps: Bits,
    edges: Ints,
    *,
    wanted: int = -1,
    threads: Any = None,
) -> Starts:
    """Every start of every group, and in which intervals it returned.

    Args:
        starts: begin of each group in the arrays, and the end of the last.
        at: when each event happened, ascending within a group.
        steps: bit 0: the event starts; bit 1: it returns.
        edges: begins of calendar intervals in µs, from that of the first start on until `intervals` after the last's.
        wanted: the interval whose return is looked for; -1: the last return that counts.
        threads: an executor; the groups are shared out between two calls, which need no lock of Python.
    """
    begin = -NEVER if question.from_us is None else question.from_us
    end = NEVER if question.to_us is None else question.to_us
    rolling_us = SPAN_US[question.interval] if question.mode == "rolling" else 0
    returns = {"any": _ANY, "first": _FIRST, "on_or_after": _ON_OR_AFTER}[question.returns]

    def work(a: int, b: int) -> Any:
        return _run(
            starts, a, b, at, steps, edges, begin, end, question.entry == "first", returns, rolling_us,
            question.intervals, wanted,
        )  # fmt: skip

    parts = in_halves(starts, threads, work)
    found = parts[0] if len(parts) == 1 else np.concatenate(parts)
    group, cohort, start, place, kept = (np.ascontiguousarray(found[:, i]) for i in range(5))
    return Starts(group, cohort, start, place, kept.view(np.uint64))


@numba.njit(nogil=True, cache=True)
def tally(line: Any, cohort: Any, kept: Any, counts: Any, lines: int) -> Any:  # pragma: no cover - compiled
    """(units that returned, units in all) by line and interval; only where *counts* says so of cohort and interval."""
    intervals = counts.shape[1]
    found = np.zeros((lines, intervals), np.int64)
    of = np.zeros((lines, intervals), np.int64)
    for i in range(line.shape[0]):
        for k in range(intervals):
            if counts[cohort[i], k]:
                of[line[i], k] += 1
                found[line[i], k] += np.int64((kept[i] >> np.uint64(k)) & np.uint64(1))
    return found, of


def warm() -> None:
    """Compile, or load what was compiled before, for the types of array that questions use."""
    nothing, none = np.empty(0, np.int64), np.zeros(1, np.int64)
    _run(none, 0, 0, nothing, np.empty(0, np.uint32), np.zeros(2, np.int64), -NEVER, NEVER, True, 0, 0, 1, -1)
    tally(nothing, nothing, nothing.view(np.uint64), np.zeros((1, 1), np.bool_), 1)
