"""Paths walked over sorted arrays: compiled like the funnel kernel, because what is a step hangs on the step before."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from adapters.columns.compiled import in_halves
from adapters.columns.kernel import NEVER
from domain.funnels.question import Matcher
from domain.paths.question import Paths

__all__ = ["Walked", "walk", "warm"]

_REPEATS, _LOOPS, _KEEP = 0, 1, 2
_FIRST, _LAST, _EVERY = 0, 1, 2
Ints = NDArray[np.int64]


class Walked(NamedTuple):
    """Paths: the group of each, and the places of its events by level, the farthest before first; -1: none."""

    group: Ints
    places: Ints


@numba.njit(nogil=True, cache=True)
def _side(
    middle: int,
    stop: int,
    forward: int,
    at: Any,
    bits: Any,
    names: Any,
    levels: int,
    gap: int,
    window: int,
    loops: int,
    path: Any,
    level_of: Any,
) -> int:  # pragma: no cover - compiled
    """Steps of one side are put into *path*, from place 1 on; returns how many, at most *levels*."""
    path[0] = middle
    level_of[names[middle]] = 0
    count = 0
    before = middle
    i = middle + forward
    while i != stop and (count < levels or loops == 1):
        if abs(at[i] - at[before]) > gap or abs(at[i] - at[middle]) > window:
            break
        before = i
        if bits[i] & np.uint32(2) != 0:
            name = names[i]
            if loops == 0 and name == names[path[count]]:
                i += forward
                continue
            if loops == 1 and level_of[name] >= 0:
                while count > level_of[name]:
                    level_of[names[path[count]]] = -1
                    count -= 1
                i += forward
                continue
            count += 1
            path[count] = i
            if loops == 1:
                level_of[name] = count
        i += forward
    level_of[names[middle]] = -1
    if loops == 1:
        for k in range(count + 1):
            level_of[names[path[k]]] = -1
    return min(count, levels)


@numba.njit(nogil=True, cache=True)
def _walk(
    starts: Any,
    first_group: int,
    last_group: int,
    at: Any,
    bits: Any,
    names: Any,
    kinds: int,
    begin: int,
    end: int,
    before: int,
    after: int,
    gap: int,
    window: int,
    occurrence: int,
    loops: int,
) -> Any:  # pragma: no cover - compiled
    longest = 0
    for g in range(first_group, last_group):
        longest = max(longest, starts[g + 1] - starts[g])
    path = np.empty(longest + 1, np.int64)
    level_of = np.full(kinds, -1, np.int64)
    out = np.empty((max(1024, last_group - first_group), before + after + 2), np.int64)
    count = 0
    for g in range(first_group, last_group):
        low, high = starts[g], starts[g + 1]
        i = low if occurrence != 1 else high - 1
        while low <= i < high:
            if bits[i] & np.uint32(1) != 0 and begin <= at[i] < end:
                if count == out.shape[0]:
                    longer = np.empty((2 * count, out.shape[1]), np.int64)
                    longer[:count] = out
                    out = longer
                out[count, 0] = g
                out[count, 1:] = -1
                out[count, 1 + before] = i
                if before > 0:
                    n = _side(i, low - 1, -1, at, bits, names, before, gap, window, loops, path, level_of)
                    for k in range(1, n + 1):
                        out[count, 1 + before - k] = path[k]
                if after > 0:
                    n = _side(i, high, 1, at, bits, names, after, gap, window, loops, path, level_of)
                    for k in range(1, n + 1):
                        out[count, 1 + before + k] = path[k]
                count += 1
                if occurrence != 2:
                    break
            i += -1 if occurrence == 1 else 1
    return out[:count]


def walk(
    question: Paths,
    starts: Ints,
    at: Ints,
    bits: NDArray[np.uint32],
    names: Ints,
    kinds: int,
    threads: Any = None,
) -> Walked:
    """The paths of every group.

    Args:
        starts: begin of each group in the arrays, and the end of the last.
        at: when each event happened, ascending within a group.
        bits: 1: it is like the event in the middle; 2: it is a step.
        names: what each is called, numbers below *kinds*.
        threads: an executor; the groups are shared out between two calls.
    """
    begin = -NEVER if question.from_us is None else question.from_us
    end = NEVER if question.to_us is None else question.to_us
    gap = NEVER if question.gap_us is None else question.gap_us
    window = NEVER if question.window_us is None else question.window_us
    occurrence = {"first": _FIRST, "last": _LAST, "every": _EVERY}[question.occurrence]
    loops = {"repeats": _REPEATS, "loops": _LOOPS, "keep": _KEEP}[question.loops]
    parts = in_halves(
        starts,
        threads,
        lambda a, b: _walk(
            starts, a, b, at, bits, names, kinds, begin, end, question.before, question.after, gap, window,
            occurrence, loops,
        ),
    )  # fmt: skip
    found = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Walked(found[:, 0], found[:, 1:])


def warm() -> None:
    """Compile, or load what was compiled before."""
    nothing, event = np.empty(0, np.int64), Matcher(types=())
    walk(Paths(around=event, steps=event), np.zeros(1, np.int64), nothing, np.empty(0, np.uint32), nothing, 0)
