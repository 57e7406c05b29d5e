"""The plain funnel, compiled for speed: ordered, counted by units, without exclusions, no event matching two steps.

Of each event the kernel keeps the next one that matches the step after its own: an attempt is the chain from its
entry on, as far as the window reaches. So every event is looked at once, where the kernel of all modes looks at it
once for every attempt that it may belong to. The events of a unit are one funnel or, split by a value, one each.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from adapters.columns.compiled import in_halves

__all__ = ["chained", "counts_and_spans", "warm"]

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
NEVER = np.iinfo(np.int64).max
U = np.uint64
_LOW = np.zeros(32, np.uint8)
"""The place of a single bit, by the upper five bits of its product with a de Bruijn number."""
for _k in range(32):
    _LOW[(((1 << _k) * 0x077CB531) & 0xFFFFFFFF) >> 27] = _k


@numba.njit(nogil=True, cache=True, inline="always")
def _place_of(bit: Any, low: Any) -> Any:  # pragma: no cover - compiled
    return U(low[((U(bit) * U(0x077CB531)) & U(0xFFFFFFFF)) >> U(27)])


@numba.njit(nogil=True, cache=True)
def _chained(  # noqa: C901, PLR0915 - one loop; parts of it would cost a call an event
    starts: Any,
    first_group: int,
    last_group: int,
    at: Any,
    steps: Any,
    codes: Any,
    values: int,
    edges: Any,
    n: int,
    window: int,
    within: Any,
    first: bool,
    low: Any,
    group_out: Any,
    period_out: Any,
    reached_out: Any,
    code_out: Any,
    places_out: Any,
) -> Any:  # pragma: no cover - compiled
    """Fill in the counted attempts of some groups; returns how many there are.

    What happens next in a stream is hard to foresee, and a processor that foresees it wrongly loses more than the
    rest costs: so nothing is asked that can be reckoned. Places are unsigned, because an index that may be negative
    is looked at twice.
    """
    longest = 0
    for g in range(first_group, last_group):
        longest = max(longest, starts[g + 1] - starts[g])
    one, width, depth, mask = U(1), U(n + 1), U(n - 1), U(0xFFFFFFFF)
    nowhere, none = U(longest), np.uint32(longest)
    split = codes.shape[0] > 0
    limited = False
    for k in range(n):
        limited |= within[k] >= 0
    when = np.empty(longest + 1, np.int64)
    follows = np.empty(longest + 1, np.uint32)  # of each event the next of the step after its own
    entries = np.empty(longest + 2, np.uint32)
    when[longest] = np.int64(0x7FFFFFFFFFFFFFFF)
    follows[longest] = none
    last = np.full((values + 1) * (n + 1) + 1, none, np.uint32)  # of each value and step the last event seen
    aside = U(last.shape[0] - 1)
    few = last.shape[0] <= 64
    best = np.zeros(values + 1, np.uint64)  # of each value steps reached, then how early the entry is
    touched = np.empty(min(values + 1, longest + 1) + 1, np.uint32)
    periods = edges.shape[0] - 1
    low_edge, high_edge = edges[0], edges[periods]
    count = U(0)
    for g in range(U(first_group), U(last_group)):
        begin = U(starts[g])
        m = U(starts[g + one]) - begin
        top = m  # entries stand behind it
        p = periods - 1
        i = m
        while i > 0:
            i -= one
            t = at[begin + i]
            when[i] = t
            s = _place_of(steps[begin + i], low)
            slot = U(np.int64(codes[begin + i]) + 1) * width + s if split else s
            x, e = last[slot + one], last[slot]
            is_entry = s == 0
            inside = is_entry & (t >= low_edge) & (t < high_edge)
            if periods > 1 and inside:
                while t < edges[p]:
                    p -= 1
                if when[e] >= edges[p + 1]:
                    e = none  # an entry of another period
            # another entry before its second step: the attempt does not count beyond its first
            follows[i] = none if is_entry & (not first) & (e < x) else x
            last[aside if is_entry & (not inside) else slot] = np.uint32(i)
            entries[top] = np.uint32(i)
            top -= U(inside)
        if few:
            last[:] = none
        else:
            for j in range(begin, begin + m):
                s = _place_of(steps[j], low)
                last[U(np.int64(codes[j]) + 1) * width + s if split else s] = none
        many = U(0)
        period = 0
        q = top + one
        while True:
            entry = U(entries[q]) if q <= m else nowhere
            t = when[entry]
            if q > m or t >= edges[period + 1]:
                for j in range(many):
                    v = U(touched[j])
                    reached = np.int64(best[v] >> U(32))
                    x = mask - (best[v] & mask)
                    best[v] = 0
                    group_out[count] = g
                    period_out[count] = period
                    reached_out[count] = reached
                    if split:
                        code_out[count] = np.int64(v) - 1
                    for k in range(n):
                        places_out[count, k] = np.int64(begin + x) if k < reached else -1
                        x = U(follows[x])
                    count += one
                if q > m:
                    break
                many = U(0)
                while t >= edges[period + 1]:
                    period += 1
            v = U(np.int64(codes[begin + entry]) + 1) if split else U(0)
            q += one
            if first and best[v] > 0:
                continue
            until = t + window
            x = U(follows[entry])
            steps_reached, goes_on, before = one, one, t
            for k in range(depth):
                goes_on &= U(when[x] <= until)
                if limited:
                    goes_on &= U(within[k + one] < 0) | U(when[x] - before <= within[k + one])
                    before = when[x]
                steps_reached += goes_on
                x = U(follows[x])
            touched[many] = np.uint32(v)
            many += U(best[v] == 0)
            best[v] = max(best[v], (steps_reached << U(32)) | (mask - entry))
    return count


def chained(
    starts: Ints,
    at: Ints,
    steps: NDArray[np.uint32],
    edges: Ints,
    n: int,
    window_us: int,
    within_us: Ints,
    *,
    first: bool,
    codes: Codes | None = None,
    values: int = 0,
    threads: Any = None,
) -> tuple[Codes, Codes, Codes, Codes, Codes]:
    """The counted attempts of every group and period: (group, period, steps reached, places by step, code).

    Args:
        starts: begin of each group in the arrays, and the end of the last.
        at: when each event happened, ascending within a group.
        steps: the one step that each event matches, as a bit.
        edges: begin of each period in µs, and the end of the last; each is a range of its own.
        n: steps.
        first: the first entry of a group in a period counts; else the last before each second step.
        codes: values (below *values*; -1 is one) that split groups.
        threads: an executor; the groups are shared out between two calls, which need no lock of Python.
    """
    mine = np.empty(0, np.int32) if codes is None else codes
    many = codes is not None or len(edges) > 2  # attempts of one group
    room = _entries(steps, starts[0], starts[-1]) if many else len(starts) - 1
    group, period, reached = (np.empty(room, np.int32) for _ in range(3))
    code, places = np.empty(room if codes is not None else 0, np.int32), np.empty((room, n), np.int32)
    outs = (group, period, reached, code, places)

    def work(a: int, b: int) -> tuple[int, int]:
        base = 0 if a == 0 else _entries(steps, starts[0], starts[a]) if many else a
        count = _chained(
            starts, a, b, at, steps, mine, values if codes is not None else 0, edges, n, window_us, within_us,
            first, _LOW, *(out[base:] for out in outs),
        )  # fmt: skip
        return base, base + int(count)

    (_, end), *rest = in_halves(starts, threads, work)
    for begin, last in rest:  # closed up to what was found before
        for out in outs:
            out[end : end + last - begin] = out[begin:last]
        end += last - begin
    return group[:end], period[:end], reached[:end], places[:end], code[:end]


@numba.njit(nogil=True, cache=True)
def _entries(steps: Any, begin: int, end: int) -> Any:  # pragma: no cover - compiled
    """How many of some events match the first step: no more attempts come of them."""
    count: Any = 0
    for i in range(begin, end):
        count += np.int64(steps[i] & np.uint32(1))
    return count


@numba.njit(nogil=True, cache=True)
def _told(
    line: Any, of_code: Any, lines: int, n: int, reached: Any, places: Any, at: Any
) -> Any:  # pragma: no cover - compiled
    """(attempts by line and steps reached, begins of the spans by step and line, the spans)."""
    tally = np.zeros((lines + 1, n + 1), np.int64)
    for i in range(U(line.shape[0])):
        tally[of_code[U(line[i] + 1)], U(reached[i])] += 1
    begins = np.zeros((n - 1) * lines + 1, np.int64)
    for k in range(n - 1):
        for j in range(lines):
            begins[k * lines + j + 1] = begins[k * lines + j] + tally[j, k + 2 :].sum()
    fill = begins[:-1].copy()
    out = np.empty(begins[-1], np.int64)
    for i in range(U(line.shape[0])):
        if reached[i] < 2:
            continue
        j = of_code[U(line[i] + 1)]
        if j == lines:
            continue
        before = at[U(places[i, 0])]
        for k in range(U(reached[i] - 1)):
            after = at[U(places[i, k + U(1)])]
            out[fill[U(k * U(lines) + U(j))]] = after - before
            fill[U(k * U(lines) + U(j))] += 1
            before = after
    return tally, begins, out


def counts_and_spans(
    code: Codes, line: Codes, lines: int, n: int, reached: Codes, places: Codes, at: Ints
) -> tuple[Ints, list[list[Ints]]]:
    """(attempts by line of an answer and steps reached; by line, of each step the spans to the next, in µs).

    Args:
        code, line: of each attempt a code, and of each code, from -1 on, the line where it counts; *lines*: nowhere.
        n: steps.
        reached, places: how many steps each attempt reached, and the places of their events.
        at: when each event happened.
    """
    tally, begins, out = _told(code, line, lines, n, reached, places, at)
    spans = [out[a:b] for a, b in pairwise(begins.tolist())]
    return tally[:lines], [spans[j::lines] for j in range(lines)]


def warm() -> None:
    """Compile, or load what was compiled before."""
    nothing, none = np.empty(0, np.int64), np.empty(0, np.int32)
    for codes in (None, none):
        chained(
            np.zeros(1, np.int64), nothing, np.empty(0, np.uint32), np.array([-NEVER, NEVER]), 2, 1,
            np.full(2, -1, np.int64), first=False, codes=codes,
        )  # fmt: skip
    counts_and_spans(none, np.zeros(1, np.int32), 1, 2, none, np.empty((0, 2), np.int32), nothing)
