"""Rows put in order by unit, and units split: compiled like the kernel, before which it stands."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from adapters.columns.compiled import in_halves

__all__ = ["by_unit", "grouped", "low", "sort", "split", "taken"]

Ints = NDArray[np.int64]
Bits = NDArray[np.uint32]


@numba.njit(nogil=True, cache=True, inline="always")
def _before(a: int, b: int, at: Any, steps: Any, by_step: bool) -> Any:  # pragma: no cover - compiled
    """Whether event *a* stands before *b*: by time, then by the lowest step that each matches, none last."""
    if at[a] != at[b] or not by_step:
        return at[a] < at[b]
    return low(steps[a]) < low(steps[b])


@numba.njit(nogil=True, cache=True)
def low(bits: Any) -> Any:  # pragma: no cover - compiled
    """The lowest step of some; 32: none."""
    for k in range(32):
        if (bits >> np.uint32(k)) & np.uint32(1) != 0:
            return k
    return 32


@numba.njit(nogil=True, cache=True)
def grouped(group: Any, groups: int) -> Any:  # pragma: no cover - compiled
    """(the rows by group as they come, begin of each group and the end of the last); not those of a negative group."""
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
    return order, starts


@numba.njit(nogil=True, cache=True)
def _in_time(
    starts: Any, first_group: int, last_group: int, order: Any, at: Any, at_out: Any
) -> Any:  # pragma: no cover - compiled
    """Order each group by time, where it is not yet; returns whether two of a group are of one instant."""
    ties = False
    nothing = np.zeros(1, np.uint32)
    for g in range(first_group, last_group):
        begin, end = starts[g], starts[g + 1]
        for i in range(begin + 1, end):
            if at[order[i]] < at[order[i - 1]]:
                sort(order, begin, end, at, nothing, False)
                break
        for i in range(begin, end):
            at_out[i] = at[order[i]]
            if i > begin and at_out[i] == at_out[i - 1]:
                ties = True
    return ties


def by_unit(
    unit: NDArray[np.int32], units: int, at: Ints, threads: Any = None
) -> tuple[NDArray[np.int32], Ints, Ints, bool]:
    """Order rows by (unit, time), then as they come: (order, begins, times in that order, whether there are ties).

    Rows of a negative unit are left out. Counted by unit, then sorted within each where it is not in order yet: rows
    that come by unit cost one pass.
    """
    order, starts = grouped(unit, units)
    at_out = np.empty(len(order), np.int64)
    ties = in_halves(starts, threads, lambda a, b: _in_time(starts, a, b, order, at, at_out))
    return order, starts, at_out, any(ties)


@numba.njit(nogil=True, cache=True)
def sort(
    order: Any, begin: int, end: int, at: Any, steps: Any, by_step: bool
) -> None:  # pragma: no cover - compiled
    """Sort a stretch of *order* by time, and *by_step* then by the lowest step: by hand where it is short, else by merging twice as long runs each time."""
    width = 16
    for low in range(begin, end, width):
        for i in range(low + 1, min(low + width, end)):
            x = order[i]
            j = i - 1
            while j >= low and _before(x, order[j], at, steps, by_step):
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
                if i < middle and (j >= high or not _before(order[j], order[i], at, steps, by_step)):
                    room[k - begin] = order[i]
                    i += 1
                else:
                    room[k - begin] = order[j]
                    j += 1
        order[begin:end] = room
        width *= 2


@numba.njit(nogil=True, cache=True)
def _split(
    starts: Any,
    first_group: int,
    last_group: int,
    codes: Any,
    values: int,
    order: Any,
    begins: Any,
    owner: Any,
) -> Any:  # pragma: no cover - compiled
    """Fill in *order*, and from the place of the first event on *begins* and *owner*; returns how many parts."""
    first = starts[first_group]
    parts = first
    counts = np.zeros(values + 1 if values <= 64 else 0, np.int64)
    for g in range(first_group, last_group):
        begin, end = starts[g], starts[g + 1]
        if values <= 64:  # counted
            counts[:] = 0
            for i in range(begin, end):
                counts[codes[i] + 1] += 1
            place = begin
            for c in range(values + 1):
                many = counts[c]
                counts[c] = place
                place += many
            for i in range(begin, end):
                c = codes[i] + 1
                order[counts[c]] = i
                counts[c] += 1
        elif end - begin <= 64:
            for i in range(begin, end):
                j = i - 1
                while j >= begin and codes[order[j]] > codes[i]:
                    order[j + 1] = order[j]
                    j -= 1
                order[j + 1] = i
        else:
            order[begin:end] = begin + np.argsort(codes[begin:end], kind="mergesort")
        for i in range(begin, end):
            if i == begin or codes[order[i]] != codes[order[i - 1]]:
                begins[parts] = i
                owner[parts] = g
                parts += 1
    return parts - first


def split(
    starts: Ints, codes: NDArray[np.int32], values: int, threads: Any = None
) -> tuple[NDArray[np.int32], Ints, Ints]:
    """(order of the events by (group, code), begins of the parts and the end of the last, group of each part).

    Args:
        values: codes are below this; -1 is one, too.
    """
    n = len(codes)
    order, begins, owner = np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int64)

    def work(a: int, b: int) -> tuple[int, int]:
        first = int(starts[a])
        return first, first + int(_split(starts, a, b, codes, values, order, begins, owner))

    parts = [slice(*found) for found in in_halves(starts, threads, work)]
    every = np.concatenate([*(begins[p] for p in parts), np.array([n], np.int64)])
    return order, every, np.concatenate([owner[p] for p in parts])


@numba.njit(nogil=True, cache=True)
def _taken(first: int, last: int, places: Any, values: Any, out: Any) -> None:  # pragma: no cover - compiled
    for i in range(first, last):
        out[i] = values[places[i]]


def taken(values: NDArray[Any], places: NDArray[np.int32], threads: Any = None) -> NDArray[Any]:
    """The values at some places, as indexing gives them, on two processors where there are threads."""
    out = np.empty(len(places), values.dtype)
    middle = len(places) // 2 if threads is not None and len(places) > 100_000 else 0
    rest = threads.submit(_taken, 0, middle, places, values, out) if middle else None
    _taken(middle, len(places), places, values, out)
    if rest is not None:
        rest.result()
    return out
