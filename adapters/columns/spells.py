"""Spells of segments over sorted arrays: compiled like the funnel kernel, for windows and `since` slide event by event."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from adapters.columns.compiled import in_halves
from adapters.columns.kernel import NEVER
from domain.segments.question import Segment

__all__ = ["Spells", "spells_of", "warm"]

Ints = NDArray[np.int64]


class Spells(NamedTuple):
    """From when to when (µs, [entered, left)) persons belonged: the group of each; `left` is NEVER of who still does."""

    group: Ints
    entered: Ints
    left: Ints


@numba.njit(nogil=True, cache=True)
def _noted(out: Any, found: int, group: int, entered: Any, left: Any) -> Any:  # pragma: no cover - compiled
    """*out* with a spell in row *found*, made longer where it is full."""
    if found == out.shape[0]:
        longer = np.empty((2 * found, 3), np.int64)
        longer[:found] = out
        out = longer
    out[found, 0] = group
    out[found, 1] = entered
    out[found, 2] = left
    return out


@numba.njit(nogil=True, cache=True)
def _slid(
    rule: int, low: int, high: int, out_of_it: int, at: Any, bits: Any
) -> Any:  # pragma: no cover - compiled
    """(the first place from *low* on that matches and is later than *out_of_it*, how many that match were passed)."""
    gone = 0
    while low < high:
        if (bits[low] >> np.uint32(rule)) & np.uint32(1) != 0:
            if at[low] > out_of_it:
                break
            gone += 1
        low += 1
    return low, gone


@numba.njit(nogil=True, cache=True)
def _spells(
    starts: Any, first_group: int, last_group: int, at: Any, bits: Any, rules: Any, table: Any, until: int
) -> Any:  # pragma: no cover - compiled
    """*rules*: at least, at most, within (-1: any time), since (-1: none) of each; *table*: by the rules that hold."""
    never = np.int64(9223372036854775807)
    one = np.uint32(1)
    n = rules.shape[0]
    out = np.empty((max(1024, last_group - first_group), 3), np.int64)
    found = 0
    count = np.empty(n, np.int64)
    low = np.empty(n, np.int64)
    begun = np.empty(n, np.bool_)
    for g in range(first_group, last_group):
        high, end = starts[g], starts[g + 1]
        count[:] = 0
        low[:] = high
        begun[:] = False
        member = False
        entered = np.int64(0)
        while True:
            t = at[high] if high < end else never
            for r in range(n):
                if rules[r, 2] >= 0 and low[r] < high:
                    t = min(t, at[low[r]] + rules[r, 2])
            if t == never or t > until:
                break
            news = np.uint32(0)
            while high < end and at[high] == t:
                news |= bits[high]
                for r in range(n):
                    if (bits[high] >> np.uint32(r)) & one != 0:
                        count[r] += 1
                        begun[r] = True
                high += 1
            state = 0
            for r in range(n):
                since = rules[r, 3]
                if since >= 0 and (news >> np.uint32(since)) & one != 0:  # counted is what comes later
                    count[r] = 0
                    low[r] = high
                if rules[r, 2] >= 0:
                    low[r], gone = _slid(r, low[r], high, t - rules[r, 2], at, bits)
                    count[r] -= gone
                holds = rules[r, 0] <= count[r] <= rules[r, 1] and (since < 0 or begun[since])
                if holds:
                    state |= 1 << r
            if table[state] and not member:
                member = True
                entered = t
            elif member and not table[state]:
                member = False
                out = _noted(out, found, g, entered, t)
                found += 1
        if member:
            out = _noted(out, found, g, entered, never)
            found += 1
    return out[:found]


def spells_of(
    segment: Segment, starts: Ints, at: Ints, bits: NDArray[np.uint32], until_us: int, threads: Any = None
) -> Spells:
    """The spells of every group, as of *until_us*, inclusive; in order of the groups, then of time.

    Args:
        starts: begin of each group in the arrays, and the end of the last.
        at: when each event happened, ascending within a group.
        bits: which rules (bit 0 the first) each event matches.
        threads: an executor; the groups are shared out between two calls.
    """
    rules = np.array(
        [
            (
                r.at_least,
                NEVER if r.at_most is None else r.at_most,
                -1 if r.within_us is None else r.within_us,
                -1 if r.since is None else r.since,
            )
            for r in segment.rules
        ],
        np.int64,
    ).reshape(-1, 4)
    n = len(segment.rules)
    table = np.array([segment.holds([bool(s >> r & 1) for r in range(n)]) for s in range(1 << n)], np.bool_)
    parts = in_halves(starts, threads, lambda a, b: _spells(starts, a, b, at, bits, rules, table, until_us))
    found = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Spells(found[:, 0], found[:, 1], found[:, 2])


def warm() -> None:
    """Compile, or load what was compiled before."""
    nothing = np.empty(0, np.int64)
    spells_of(
        Segment(rules=(), joined=("all", ())), np.zeros(1, np.int64), nothing, np.empty(0, np.uint32), 0
    )
