"""The funnel kernel: one function over sorted arrays, for counts, trends, breakdowns, times and persons alike.

Compiled by numba, because every rule of SEMANTICS §4 looks at events one after the other: as whole-array
operations the plain ordered funnel costs one running maximum a step and the other modes do not fit at all; as a
loop all are one pass, and 10 million events take a fraction of a second. It costs 208 MB of disk (llvmlite 173,
numba 35). Compiling takes some ten seconds, once:
what was compiled is kept in the user's cache folder (or `NUMBA_CACHE_DIR`), and `warm` does it before anybody asks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numba
import numba.core.config as numba_config
import numpy as np
from numpy.typing import NDArray

from domain.funnels.question import Funnel

__all__ = ["NEVER", "Attempts", "Plan", "ordering", "picked", "plan_of", "run", "split", "warm"]

if not numba_config.CACHE_DIR:  # type: ignore[attr-defined]  # else compiled code would be put beside this file
    numba_config.CACHE_DIR = str(Path.home() / ".cache" / "touchlog" / "compiled")  # type: ignore[attr-defined]

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


class Attempts(NamedTuple):
    """Counted attempts: group, period, steps reached, and places of their events (row-wise, `steps` each)."""

    group: Ints
    period: Ints
    reached: Ints
    places: Ints


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
def picked(
    types: Any, wanted: Any, bits: Any, known_from: Any, known_to: Any, known_at: int, at: Any, until: int
) -> Any:  # pragma: no cover - compiled
    """(place, time, steps, exclusions) of the rows of wanted types, known at a position, that had happened by a time.

    *bits* are the steps and exclusions that each type may match. *known_from* and *known_to* may be empty: all rows
    are known then, and for ever.
    """
    n = types.shape[0]
    cut = known_from.shape[0] > 0
    ends = known_to.shape[0] > 0
    count = 0
    for i in range(n):
        count += wanted[types[i]]
    row = np.empty(count, np.int32)
    when = np.empty(count, np.int64)
    steps = np.empty(count, np.uint32)
    excluded = np.empty(count, np.uint32)
    count = 0
    for i in range(n):
        t = types[i]
        if not wanted[t]:
            continue
        if cut and known_from[i] > known_at:
            continue
        if ends and known_to[i] <= known_at:
            continue
        if at[i] > until:
            continue
        row[count] = i
        when[count] = at[i]
        steps[count] = bits[0, t]
        excluded[count] = bits[1, t]
        count += 1
    return row[:count], when[:count], steps[:count], excluded[:count]


@numba.njit(nogil=True, cache=True, inline="always")
def _before(a: int, b: int, at: Any, steps: Any) -> Any:  # pragma: no cover - compiled
    """Whether event *a* stands before *b*: by time, then by the lowest step that each matches, none last."""
    if at[a] != at[b]:
        return at[a] < at[b]
    return _low(steps[a]) < _low(steps[b])


@numba.njit(nogil=True, cache=True)
def _low(bits: Any) -> Any:  # pragma: no cover - compiled
    for k in range(32):
        if (bits >> np.uint32(k)) & np.uint32(1) != 0:
            return k
    return 32


@numba.njit(nogil=True, cache=True)
def ordering(group: Any, groups: int, at: Any, steps: Any) -> Any:  # pragma: no cover - compiled
    """(order of the rows by (group, time, lowest step), begin of each group in it, whether any tie is left).

    Rows of a negative group are left out. Counted by group, then sorted within each where it is not in order yet:
    rows that come by group cost one pass.
    """
    n = group.shape[0]
    starts = np.zeros(groups + 1, np.int64)
    for i in range(n):
        if group[i] >= 0:
            starts[group[i] + 1] += 1
    for g in range(groups):
        starts[g + 1] += starts[g]
    fill = starts[:-1].copy()
    order = np.empty(starts[groups], np.int32)
    for i in range(n):
        g = group[i]
        if g >= 0:
            order[fill[g]] = i
            fill[g] += 1
    ties = False
    for g in range(groups):
        begin, end = starts[g], starts[g + 1]
        runs = 1
        for i in range(begin + 1, end):
            if _before(order[i], order[i - 1], at, steps):
                runs += 1
        if runs > 1:
            _sort(order, begin, end, at, steps)
        for i in range(begin + 1, end):
            a, b = order[i - 1], order[i]
            if at[a] == at[b] and _low(steps[a]) == _low(steps[b]):
                ties = True
                break
    return order, starts, ties


@numba.njit(nogil=True, cache=True)
def _sort(order: Any, begin: int, end: int, at: Any, steps: Any) -> None:  # pragma: no cover - compiled
    """Sort a stretch of *order*: by hand where it is short, else by merging twice as long runs each time."""
    width = 16
    for low in range(begin, end, width):
        for i in range(low + 1, min(low + width, end)):
            x = order[i]
            j = i - 1
            while j >= low and _before(x, order[j], at, steps):
                order[j + 1] = order[j]
                j -= 1
            order[j + 1] = x
    if end - begin <= width:
        return
    room = np.empty(end - begin, np.int32)
    while width < end - begin:
        for low in range(begin, end, 2 * width):
            middle = min(low + width, end)
            high = min(low + 2 * width, end)
            i, j = low, middle
            for k in range(low, high):
                if i < middle and (j >= high or not _before(order[j], order[i], at, steps)):
                    room[k - begin] = order[i]
                    i += 1
                else:
                    room[k - begin] = order[j]
                    j += 1
        order[begin:end] = room
        width *= 2


@numba.njit(nogil=True, cache=True)
def split(starts: Any, codes: Any) -> Any:  # pragma: no cover - compiled
    """(order of the events by (group, code), begins of the parts and the end of the last, group of each part)."""
    n = codes.shape[0]
    order = np.arange(n).astype(np.int32)
    begins = np.empty(n + 1, np.int64)
    owner = np.empty(n, np.int64)
    parts = 0
    for g in range(starts.shape[0] - 1):
        begin, end = starts[g], starts[g + 1]
        if end - begin <= 64:
            for i in range(begin + 1, end):
                x = order[i]
                j = i - 1
                while j >= begin and codes[order[j]] > codes[x]:
                    order[j + 1] = order[j]
                    j -= 1
                order[j + 1] = x
        else:
            order[begin:end] = begin + np.argsort(codes[begin:end], kind="mergesort")
        for i in range(begin, end):
            if i == begin or codes[order[i]] != codes[order[i - 1]]:
                begins[parts] = i
                owner[parts] = g
                parts += 1
    begins[parts] = n
    return order, begins[: parts + 1].copy(), owner[:parts].copy()


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
    plan: Plan, starts: Ints, at: Ints, steps: Bits, excluded: Bits, edges: Ints, threads: Any = None
) -> Attempts:
    """The counted attempts of every group and period.

    Args:
        starts: begin of each group in the arrays, and the end of the last.
        at: when each event happened, ascending within a group.
        steps, excluded: which steps (bit 0 the first) and exclusions each event matches.
        edges: begin of each period in µs, and the end of the last; each is a range of its own.
        threads: an executor; the groups are shared out between two calls, which need no lock of Python.
    """
    groups = len(starts) - 1
    if threads is None or groups < 1000:
        found = _run(starts, 0, groups, at, steps, excluded, edges, *plan)
    else:
        middle = int(np.searchsorted(starts, starts[-1] // 2))
        parts = [(0, middle), (middle, groups)]
        tasks = [threads.submit(_run, starts, a, b, at, steps, excluded, edges, *plan) for a, b in parts]
        found = np.concatenate([task.result() for task in tasks])
    return Attempts(found[:, 0], found[:, 1], found[:, 2], found[:, 3:])


def warm() -> None:
    """Compile, or load what was compiled before, for the types of array that questions use."""
    nothing, no_bits = np.empty(0, np.int64), np.empty(0, np.uint32)
    codes = np.empty(0, np.int32)
    picked(codes, np.empty(0, np.bool_), np.empty((2, 0), np.uint32), nothing, nothing, 0, nothing, NEVER)
    ordering(codes, 0, nothing, no_bits)
    split(np.zeros(1, np.int64), codes)
    plan = Plan(2, 1, np.full(2, -1, np.int64), _ORDERED, False, False, np.empty((0, 3), np.int64))
    run(plan, np.zeros(1, np.int64), nothing, no_bits, no_bits, np.array([-NEVER, NEVER]))
