"""The funnel kernel: one function over sorted arrays, for counts, trends, breakdowns, times and persons alike.

Compiled by numba, because every rule of SEMANTICS §4 looks at events one after the other: as whole-array
operations the plain ordered funnel costs one running maximum a step and the other modes do not fit at all; as a
loop all are one pass, and 10 million events take a fraction of a second. The plain funnel has a faster way of its
own (`adapters.columns.chains`), which finds the same. It costs 208 MB of disk (llvmlite 173,
numba 35). Compiling takes some ten seconds, once:
what was compiled is kept, and `warm` does it before anybody asks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from adapters.columns.chains import chained
from adapters.columns.compiled import in_halves
from adapters.columns.sorting import by_unit, split, taken
from domain.funnels.question import Funnel

__all__ = ["NEVER", "Attempts", "Plan", "plan_of", "run", "warm"]

NEVER = np.iinfo(np.int64).max
_ORDERED, _STRICT, _ANY = 0, 1, 2
Ints = NDArray[np.int64]
Bits = NDArray[np.uint32]


class Plan(NamedTuple):
    """A funnel as the kernel takes it."""

    steps: int
    window_us: int
    within_us: Ints  # by step; -1: no limit
    order: int
    first: bool
    total: bool
    excluded: Ints  # from, to, and whether it drops off (1) or removes (0), of each exclusion

    @property
    def is_plain(self) -> bool:
        """Whether chains tell it, where no event matches several steps."""
        return self.order == _ORDERED and not self.total and not len(self.excluded)


class Attempts(NamedTuple):
    """Counted attempts: group, period, steps reached, and places of their events (row-wise, `steps` each)."""

    group: NDArray[Any]
    period: NDArray[Any]
    reached: NDArray[Any]
    places: NDArray[Any]


def plan_of(funnel: Funnel) -> Plan:
    """What the kernel needs to know of *funnel*."""
    return Plan(
        len(funnel.steps),
        funnel.window_us,
        np.array([-1 if s.within_us is None else s.within_us for s in funnel.steps], np.int64),
        {"ordered": _ORDERED, "strict": _STRICT, "any": _ANY}[funnel.order],
        funnel.entry == "first",
        funnel.count == "total",
        np.array(
            [(x.from_step, x.to_step, int(x.policy == "drop_off")) for x in funnel.exclude], np.int64
        ).reshape(-1, 3),
    )


@numba.njit(nogil=True, cache=True)
def _attempt(
    entry: int,
    end: int,
    at: Any,
    steps: Any,
    excluded: Any,
    closes: int,
    re_anchors: bool,
    total: bool,
    best: int,
    n: int,
    window: int,
    within: Any,
    strict: bool,
    exclusions: Any,
    places: Any,
) -> Any:  # pragma: no cover - compiled
    """One attempt: (steps that count, place of the last event that it lasts to). -1 steps: it does not count.

    Entries before time *closes* re-anchor where *re_anchors*: of `total` the attempt goes on from them, of `unique`
    it counts no more once it has a second step. *best* is what another attempt reached before.
    """
    one = np.uint32(1)
    until = at[entry] + window
    places[0] = entry
    k = 1
    again = False
    taint = -1
    removes = False
    kept = 1
    x = entry + 1
    while x < end and at[x] <= until and k < n:
        fills = (steps[x] >> np.uint32(k)) & one != 0
        if fills and within[k] >= 0 and at[x] > at[places[k - 1]] + within[k]:
            fills = False
        if fills and strict and x != places[k - 1] + 1:
            fills = False
        if not fills and k == 1 and re_anchors and steps[x] & one != 0 and at[x] < closes:
            if total:
                places[0] = x
                until = at[x] + window
                x += 1
                continue
            again = True
            if best >= 1:
                return -1, x
        if taint < 0 and excluded[x] != 0:
            reached = k + 1 if fills else k
            for e in range(exclusions.shape[0]):
                if (excluded[x] >> np.uint32(e)) & one == 0:
                    continue
                if exclusions[e, 0] <= k and exclusions[e, 1] > reached:
                    taint = x
                    kept = k
                    if exclusions[e, 2] == 0:
                        removes = True
        if taint >= 0 and (total or strict or k > 1 or not re_anchors):
            break  # else whether another entry lies before its second step is still to be seen
        if fills:
            places[k] = x
            k += 1
            if again and k == 2:
                return -1, x
            if taint >= 0:
                break
        elif strict and exclusions.shape[0] == 0 and not total:
            break  # its very next event was another: nothing can change that
        x += 1
    if taint >= 0:
        return (-1 if removes else kept), taint
    return k, (places[k - 1] if k == n else x - 1)


@numba.njit(nogil=True, cache=True)
def _ranks(
    opening: int,
    end: int,
    at: Any,
    steps: Any,
    n: int,
    window: int,
    places: Any,
    owner: Any,
    came: Any,
    queue: Any,
) -> int:  # pragma: no cover - compiled
    """Of `any`: how many steps the events of a window can fill, each event that raises it noted in *places*."""
    one = np.uint32(1)
    until = at[opening] + window
    owner[:n] = -1
    count = 0
    x = opening
    while x < end and at[x] <= until and count < n:
        if steps[x] != 0:
            visited = np.uint32(0)
            head = tail = 0
            for s in range(n):
                if (steps[x] >> np.uint32(s)) & one != 0:
                    visited |= one << np.uint32(s)
                    came[s] = -1
                    queue[tail] = s
                    tail += 1
            while head < tail:
                s = queue[head]
                head += 1
                if owner[s] < 0:
                    while came[s] >= 0:  # each step on the way hands its event on
                        owner[s] = owner[came[s]]
                        s = came[s]
                    owner[s] = x
                    places[count] = x
                    count += 1
                    break
                for t in range(n):
                    if (steps[owner[s]] >> np.uint32(t)) & one != 0 and (visited >> np.uint32(t)) & one == 0:
                        visited |= one << np.uint32(t)
                        came[t] = s
                        queue[tail] = t
                        tail += 1
        x += 1
    return count


@numba.njit(nogil=True, cache=True)
def _noted(
    out: Any, count: int, group: int, period: int, reached: int, places: Any
) -> Any:  # pragma: no cover - compiled
    """*out* with an attempt in row *count*, made longer where it is full."""
    if count == out.shape[0]:
        longer = np.empty((2 * count, out.shape[1]), np.int32)
        longer[:count] = out
        out = longer
    out[count, 0] = group
    out[count, 1] = period
    out[count, 2] = reached
    out[count, 3:] = -1
    out[count, 3 : 3 + reached] = places[:reached]
    return out


@numba.njit(nogil=True, cache=True)
def _run(
    starts: Any,
    first_group: int,
    last_group: int,
    at: Any,
    steps: Any,
    excluded: Any,
    edges: Any,
    n: int,
    window: int,
    within: Any,
    order: int,
    first: bool,
    total: bool,
    exclusions: Any,
) -> Any:  # pragma: no cover - compiled
    one = np.uint32(1)
    out = np.empty((max(1024, last_group - first_group), n + 3), np.int32)  # group, period, reached, places
    count = 0
    places = np.empty(n, np.int64)
    best_places = np.empty(n, np.int64)
    owner = np.empty(n, np.int64)
    came = np.empty(n, np.int64)
    queue = np.empty(n, np.int64)
    opens = one if order != 2 else np.uint32(0xFFFFFFFF)
    last_edge = edges.shape[0] - 1
    for g in range(first_group, last_group):
        begin, end = starts[g], starts[g + 1]
        i = begin
        while i < end and (at[i] < edges[0] or steps[i] & opens == 0):
            i += 1
        period = 0
        while i < end and at[i] < edges[last_edge]:
            while at[i] >= edges[period + 1]:
                period += 1
            closes = edges[period + 1]
            best = 0
            j = i
            while j < end and at[j] < closes and best < n:
                if steps[j] & opens == 0:
                    j += 1
                    continue
                if order == 2:
                    reached = _ranks(j, end, at, steps, n, window, places, owner, came, queue)
                    ends = j
                else:
                    reached, ends = _attempt(
                        j, end, at, steps, excluded, closes, not first, total, best,
                        n, window, within, order == 1, exclusions, places,
                    )  # fmt: skip
                if total:
                    if reached > 0:
                        out = _noted(out, count, g, period, reached, places)
                        count += 1
                    j = ends + 1
                else:
                    if reached > best:
                        best = reached
                        best_places[:reached] = places[:reached]
                    j += 1
                if first:
                    break
            if not total and best > 0:
                out = _noted(out, count, g, period, best, best_places)
                count += 1
            while i < end and (at[i] < closes or steps[i] & opens == 0):
                i += 1
    return out[:count]


def run(
    plan: Plan,
    starts: Ints,
    at: Ints,
    steps: Bits,
    excluded: Bits,
    edges: Ints,
    threads: Any = None,
    *,
    overlap: bool = True,
) -> Attempts:
    """The counted attempts of every group and period.

    Args:
        starts: begin of each group in the arrays, and the end of the last.
        at: when each event happened, ascending within a group.
        steps, excluded: which steps (bit 0 the first) and exclusions each event matches.
        edges: begin of each period in µs, and the end of the last; each is a range of its own.
        threads: an executor; the groups are shared out between two calls, which need no lock of Python.
        overlap: whether an event may match several steps, or none.
    """
    if plan.is_plain and not overlap:
        return run_by_value(plan, starts, at, steps, edges, threads=threads)[0]
    parts = in_halves(starts, threads, lambda a, b: _run(starts, a, b, at, steps, excluded, edges, *plan))
    found = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Attempts(found[:, 0], found[:, 1], found[:, 2], found[:, 3:])


def run_by_value(
    plan: Plan,
    starts: Ints,
    at: Ints,
    steps: Bits,
    edges: Ints,
    codes: NDArray[np.int32] | None = None,
    values: int = 0,
    threads: Any = None,
) -> tuple[Attempts, NDArray[np.int32]]:
    """(the counted attempts of a plain plan by group, period and value, the code of each one's value).

    Args:
        steps: no event matches several, or none.
        codes: of the events, below *values*; -1: none, which is a value, too. None: they are not split.
    """
    group, period, reached, places, code = chained(
        starts, at, steps, edges, plan.steps, plan.window_us, plan.within_us, first=plan.first,
        codes=codes, values=values, threads=threads,
    )  # fmt: skip
    return Attempts(group, period, reached, places), code


def warm() -> None:
    """Compile, or load what was compiled before, for the types of array that questions use."""
    nothing, no_bits = np.empty(0, np.int64), np.empty(0, np.uint32)
    codes = np.empty(0, np.int32)
    by_unit(codes, 0, nothing)
    split(np.zeros(1, np.int64), codes, 0)
    for values in (codes, nothing, no_bits, np.empty(0, np.uint16), np.empty(0, np.bool_)):
        taken(values, codes)
    plan = Plan(2, 1, np.full(2, -1, np.int64), _ORDERED, False, False, np.empty((0, 3), np.int64))
    run(plan, np.zeros(1, np.int64), nothing, no_bits, no_bits, np.array([-NEVER, NEVER]))
