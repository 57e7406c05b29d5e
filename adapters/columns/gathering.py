"""The events that a question looks at, gathered from lanes and put in the order of their units; compiled."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from adapters.columns.lanes import Column
from adapters.columns.sorting import grouped, low, sort

__all__ = ["LOOKED_AT", "MOST_LANES", "Gathered", "coded", "gathered", "put_in_order", "warm"]

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Bits = NDArray[np.uint32]
MOST_LANES = 4
LOOKED_AT = np.uint32(1 << 31)
"""Beside the steps of a type: events of it are looked at."""
_AT_ONCE = 8
"""Shares of the units, taken by whoever is free; how much there is to each is not known before."""
_WORTH_SHARING = 1000
"""Units or events; fewer are done before a thread has begun."""
U = np.uint64
_NO_LANE = (np.zeros(0, np.uint16), np.zeros(1, np.int64), np.zeros(0, np.int64))


class Gathered(NamedTuple):
    """Events by unit.

    Attributes:
        starts: begin of each unit's events, and the end of the last.
        place: of each event its row, were the lanes one after the other.
        mixed: of each unit whether its events come from more than one place, in each of which they are in order.
        doubtful: of each unit whether its events may not be in order.
    """

    starts: Ints
    at: Ints
    steps: Bits
    excluded: Bits
    place: NDArray[np.uint32]
    mixed: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]


@numba.njit(nogil=True, cache=True)
def _picked(
    first: int,
    last: int,
    begins: Any,
    owners: Any,
    lanes: int,
    types: Any,
    starts: Any,
    ats: Any,
    offsets: Any,
    looked_at: Any,
    until: int,
    cut: bool,
    ends: Any,
    mixed: Any,
) -> Any:  # pragma: no cover - compiled
    """The rows that are looked at of some units, one after the other; *ends* of each unit among them are filled in.

    Every row is noted where the next one belongs, and counted only if it is looked at: that is faster than asking.
    """
    room = 1
    for o in range(begins[first], begins[last]):
        owner = owners[o]
        for lane in range(lanes):
            if owner + 1 < starts[lane].shape[0]:
                room += starts[lane][owner + 1] - starts[lane][owner]
    found = np.empty(room, np.uint32)
    c = U(0)
    for unit in range(first, last):
        sources: Any = 0
        for o in range(begins[unit], begins[unit + 1]):
            owner = owners[o]
            for lane in range(lanes):
                if owner + 1 >= starts[lane].shape[0]:
                    continue
                begin, end = U(starts[lane][owner]), U(starts[lane][owner + 1])
                type_, offset, before = types[lane], offsets[lane], c
                if cut:
                    at = ats[lane]
                    for r in range(begin, end):
                        found[c] = offset + r
                        c += U(looked_at[type_[r]]) & U(at[r] <= until)
                else:
                    for r in range(begin, end):
                        found[c] = offset + r
                        c += U(looked_at[type_[r]])
                sources += c > before
        ends[unit] = c
        mixed[unit] = sources > 1
    return found[:c]


@numba.njit(nogil=True, cache=True)
def _filled(
    first: int,
    last: int,
    base: int,
    found: Any,
    reach: Any,
    a_at: Any,
    b_at: Any,
    c_at: Any,
    d_at: Any,
    a_type: Any,
    b_type: Any,
    c_type: Any,
    d_type: Any,
    table: Any,
    shut: Any,
    ends: Any,
    at: Any,
    steps: Any,
    excluded: Any,
    place: Any,
    doubtful: Any,
) -> None:  # pragma: no cover - compiled
    """Fill in the events of some units, of their rows in lanes a to d."""  # fmt: skip
    i = U(0)
    to = U(base)
    shuts = shut.shape[0] > 0
    a, b, c = reach[0], reach[1], reach[2]
    for unit in range(first, last):
        end = U(ends[unit])
        before = np.int64(-0x7FFFFFFFFFFFFFFF)
        doubt = False
        while i < end:
            p = U(found[i])
            if p < a:
                t, type_ = a_at[p], U(a_type[p])
            elif p < b:
                t, type_ = b_at[p - a], U(b_type[p - a])
            elif p < c:
                t, type_ = c_at[p - b], U(c_type[p - b])
            else:
                t, type_ = d_at[p - c], U(d_type[p - c])
            doubt |= t <= before
            before = t
            at[to] = t
            steps[to] = table[type_]
            place[to] = np.uint32(p)
            if shuts:
                excluded[to] = shut[type_]
            i += U(1)
            to += U(1)
        ends[unit] = to
        doubtful[unit] = doubt


def gathered(
    lanes: Sequence[tuple[Column, Ints, Ints]],
    person: Codes,
    persons: int,
    table: Bits,
    shut: Bits | None,
    until_us: int,
    threads: Executor | None,
) -> Gathered:
    """The events that are looked at, by unit, of each place where they come from in order.

    Args:
        lanes: types of the rows (one more than their codes; 0: not seen), begins of owners, and times; at most four.
        person: of each owner its unit; -1: none.
        table, shut: steps (and whether events are looked at at all) and exclusions by type.
        until_us: what happened later is left out.
    """
    every = [*lanes, *[_NO_LANE] * (MOST_LANES - len(lanes))]
    wide = any(types.dtype != np.uint16 for types, _, _ in every)
    types = tuple(t.astype(np.uint32) if wide else t for t, _, _ in every)
    starts, ats = tuple(s for _, s, _ in every), tuple(a for _, _, a in every)
    reach = np.cumsum([len(t) for t in types]).astype(np.uint64)
    offsets = np.append(0, reach[:-1]).astype(np.uint64)
    looked_at = (table >> np.uint32(31)).astype(np.uint8)
    owners, begins = grouped(person, persons)
    many = _AT_ONCE if threads is not None and persons >= _WORTH_SHARING else 1
    edges = np.linspace(0, persons, many + 1).astype(np.int64)
    each = threads.map if threads is not None else map
    ends, mixed = np.zeros(persons + 1, np.int64), np.zeros(persons, np.bool_)
    cut = until_us < np.iinfo(np.int64).max

    def pick(share: int) -> NDArray[np.uint32]:
        found: NDArray[np.uint32] = _picked(
            edges[share], edges[share + 1], begins, owners, len(lanes), types, starts, ats, offsets, looked_at,
            until_us, cut, ends[1:], mixed,
        )  # fmt: skip
        return found

    parts = list(each(pick, range(many)))
    bases = np.cumsum([0, *(len(p) for p in parts)])
    n = int(bases[-1])
    at, steps, place = np.empty(n, np.int64), np.empty(n, np.uint32), np.empty(n, np.uint32)
    excluded, doubtful = np.zeros(n, np.uint32), np.zeros(persons, np.bool_)
    shuts = np.empty(0, np.uint32) if shut is None else shut
    bits = table & ~LOOKED_AT

    def fill(share: int) -> None:
        _filled(  # type: ignore[call-arg]  # how long the tuples are is not told
            edges[share], edges[share + 1], bases[share], parts[share], reach, *ats, *types, bits, shuts,
            ends[1:], at, steps, excluded, place, doubtful,
        )  # fmt: skip

    list(each(fill, range(many)))
    return Gathered(ends, at, steps, excluded, place, mixed, doubtful)


@numba.njit(nogil=True, cache=True)
def _put_in_order(
    units: Any, starts: Any, at: Any, steps: Any, excluded: Any, place: Any, mixed: Any
) -> Any:  # pragma: no cover - compiled
    """Put the events of some units in order; returns whether ties are left among those that are mixed."""
    ties = False
    longest = 0
    for unit in units:
        longest = max(longest, starts[unit + 1] - starts[unit])
    order = np.empty(longest, np.int32)
    for unit in units:
        begin, end = starts[unit], starts[unit + 1]
        right = True
        for i in range(begin + 1, end):
            if at[i] <= at[i - 1]:
                right = right and at[i] == at[i - 1] and low(steps[i]) >= low(steps[i - 1])
        if not right:
            n = end - begin
            for i in range(n):
                order[i] = i
            sort(order, 0, n, at[begin:end], steps[begin:end], True)
            at[begin:end] = at[begin:end][order[:n]]
            steps[begin:end] = steps[begin:end][order[:n]]
            excluded[begin:end] = excluded[begin:end][order[:n]]
            place[begin:end] = place[begin:end][order[:n]]
        if mixed[unit] and not ties:
            for i in range(begin + 1, end):
                if at[i] == at[i - 1] and low(steps[i]) == low(steps[i - 1]):
                    ties = True
    return ties


def put_in_order(events: Gathered, threads: Executor | None) -> bool:
    """Put the events of every unit in order, where they stand; those of one instant by the lowest step they match.

    Returns:
        whether ties are left among events that come from different places
    """
    starts, at, steps, excluded, place, mixed, doubtful = events
    units = np.flatnonzero(doubtful)
    shares = np.array_split(units, 2) if threads is not None and len(units) >= _WORTH_SHARING else [units]
    each = threads.map if threads is not None else map
    ties = list(each(lambda s: _put_in_order(s, starts, at, steps, excluded, place, mixed), shares))
    return any(ties)  # of all of them: the last must be done, too


@numba.njit(nogil=True, cache=True)
def _coded(
    first: int, last: int, place: Any, reach: Any, a: Any, b: Any, c: Any, d: Any, out: Any
) -> None:  # pragma: no cover - compiled
    to_a, to_b, to_c = reach[0], reach[1], reach[2]
    for i in range(U(first), U(last)):
        p = U(place[i])
        if p < to_a:
            code = np.int64(a[p])
        elif p < to_b:
            code = np.int64(b[p - to_a])
        elif p < to_c:
            code = np.int64(c[p - to_b])
        else:
            code = np.int64(d[p - to_c])
        out[i] = code - 1


def coded(columns: Sequence[Column], place: NDArray[np.uint32], threads: Executor | None) -> Codes:
    """The codes of a property at some places of lanes, were these one after the other."""
    every = [*columns, *[_NO_LANE[0]] * (MOST_LANES - len(columns))]
    if any(c.dtype != np.uint16 for c in every):
        every = [c.astype(np.uint32) for c in every]
    reach = np.cumsum([len(c) for c in every]).astype(np.uint64)
    out = np.empty(len(place), np.int32)
    a, b, c, d = every
    middle = len(place) // 2 if threads is not None and len(place) >= _WORTH_SHARING else 0
    rest = threads.submit(_coded, 0, middle, place, reach, a, b, c, d, out) if threads and middle else None
    _coded(middle, len(place), place, reach, a, b, c, d, out)
    if rest is not None:
        rest.result()
    return out


def warm() -> None:
    """Compile, or load what was compiled before."""
    table = np.zeros(1, np.uint32)
    events = gathered([], np.zeros(1, np.int32), 1, table, table, 0, None)
    put_in_order(events, None)
    coded([], events.place, None)
