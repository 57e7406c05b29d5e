"""Paths over columns: one walk, from which levels, links and whole sequences are counted."""

from __future__ import annotations

from concurrent.futures import Executor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.columns.view import Owners, Stream, View
from adapters.columns.walking import Walked, walk
from domain.paths.answer import Answer, Level, Link, Name, Rest, StepCount, WholePath, names_in_order
from domain.paths.question import Paths

__all__ = ["Found", "ask_paths", "walked"]

Ints = NDArray[np.int64]
_SMALL = 1 << 22
"""Up to so many pairs of type and value are numbered without sorting."""


class Found(NamedTuple):
    """Paths over a stream; `codes` are the names of their steps by level, -1: none, `names` tell the codes."""

    stream: Stream
    walked: Walked
    codes: Ints
    names: list[Name]


def walked(question: Paths, view: View, owners: Owners, threads: Executor | None = None) -> Found:
    """Every path of a question."""
    stream = view.stream(question.looked_at, owners, threads)
    codes, names = _names(question, view, stream)
    found = walk(question, stream.starts, stream.at, stream.steps, codes, len(names), threads)
    places = found.places
    told = np.where(places >= 0, codes[places] if len(codes) else -1, -1)
    return Found(stream, found, told, names)


def _names(question: Paths, view: View, stream: Stream) -> tuple[Ints, list[Name]]:
    """(the code of the name of each event, the names by code)."""
    types = view.all_values("type")
    kind = view.values("type", stream).astype(np.int64)
    if question.by is None:
        return kind, [Name(t) for t in types]
    value = view.values(question.by, stream)  # read first: the codes are made by reading
    values = view.all_values(question.by)
    pairs = kind * (len(values) + 1) + value + 1
    every = len(types) * (len(values) + 1)
    if every <= _SMALL:
        there = np.zeros(every, np.bool_)
        there[pairs] = True
        told = np.flatnonzero(there)
        number = np.full(every, -1, np.int64)
        number[told] = np.arange(len(told))
        codes = number[pairs]
    else:
        told, codes = np.unique(pairs, return_inverse=True)
    names = [(int(p) // (len(values) + 1), int(p) % (len(values) + 1)) for p in told]
    return codes.astype(np.int64), [Name(types[t], values[v - 1] if v else None) for t, v in names]


def _ranked(codes: Ints, names: list[Name], top: int) -> tuple[list[tuple[int, int]], Ints, Rest | None]:
    """((code, count) of the most frequent, the place of every code among them, the rest)."""
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    there = np.flatnonzero(counts)
    if len(there) > top:  # of many names those are told that may be among the first
        least = np.partition(counts[there], -top)[-top]
        worth = there[counts[there] >= least]
    else:
        worth = there
    first = sorted(worth.tolist(), key=lambda c: (-counts[c], names_in_order(names[c])))[:top]
    place = np.full(len(names) + 1, top, np.int64)  # the rest
    place[-1] = top + 1  # no step
    place[first] = np.arange(len(first))
    told = [(c, int(counts[c])) for c in first]
    beyond = len(there) - len(first)
    rest = Rest(beyond, int(counts.sum()) - sum(n for _, n in told)) if beyond else None
    return told, place[codes], rest


def ask_paths(
    question: Paths,
    view: View,
    owners: Owners,
    *,
    as_of: str | None,
    threads: Executor | None = None,
    segment: Any = None,
) -> Answer:
    """Answer a question.

    Args:
        as_of: the cut on what had happened, as it is told; None where there is none.
        segment: what is told of the segment to whose persons *owners* is narrowed.
    """
    found = walked(question, view, owners, threads)
    top, n = question.top, len(found.codes)
    levels, places, cut = [], [], False
    for column, level in enumerate(range(-question.before, question.after + 1)):
        told, place, rest = _ranked(found.codes[:, column], found.names, top)
        nearer = n if abs(level) <= 1 else int((found.codes[:, column - (1 if level > 0 else -1)] >= 0).sum())
        here = int((found.codes[:, column] >= 0).sum())
        steps = [StepCount(found.names[c].type, found.names[c].value, k, k / n) for c, k in told]
        levels.append(Level(level, steps, rest, nearer - here))
        places.append(place)
        cut = cut or rest is not None
    links = []
    for level, (a, b) in enumerate(pairwise(places), start=-question.before):
        counts = np.bincount(a * (top + 2) + b, minlength=(top + 2) ** 2).reshape(top + 2, top + 2)
        for x, y in np.argwhere(counts[: top + 1, : top + 1]).tolist():
            links.append(Link(level, None if x == top else x, None if y == top else y, int(counts[x, y])))
    sequences, beyond = _sequences(question, found)
    units = len(np.unique(found.walked.group))
    notes = []
    if cut or beyond is not None:
        notes.append(
            f"Of each level and of the whole paths the {top} most frequent are told, the others together; 'top' tells more."
        )
    if question.occurrence == "every":
        notes.append("Every occurrence is a path of its own: a unit is counted as often as it has them.")
    if not n:
        notes.append(_why_none(question, found.stream))
    return Answer(
        n, units, levels, links, sequences, beyond, notes, as_of, view.known_at, view.known_at, segment
    )  # fmt: skip


def _sequences(question: Paths, found: Found) -> tuple[list[WholePath], Rest | None]:
    """The most frequent whole paths, then in order of their names."""
    number = np.zeros(len(found.codes), np.int64)
    for column in found.codes.T:
        number = np.unique(number * (len(found.names) + 1) + column + 1, return_inverse=True)[1].astype(
            np.int64
        )
    _, one, counts = np.unique(number, return_index=True, return_counts=True)
    worth = np.arange(len(counts))
    if len(counts) > question.top:
        worth = np.flatnonzero(counts >= np.partition(counts, -question.top)[-question.top])
    middle = question.before

    def told(i: int) -> tuple[list[Name], Name, list[Name]]:
        names = [found.names[c] if c >= 0 else None for c in found.codes[one[i]].tolist()]
        around = names[middle]
        assert around is not None
        return [x for x in names[:middle] if x], around, [x for x in names[middle + 1 :] if x]

    rows = [(int(counts[i]), told(i)) for i in worth.tolist()]
    rows.sort(key=lambda r: (-r[0], *sequence_order(*r[1])))
    rows = rows[: question.top]
    left = len(counts) - len(rows)
    rest = Rest(left, int(counts.sum()) - sum(c for c, _ in rows)) if left else None
    return [WholePath(*names, count) for count, names in rows], rest


def sequence_order(before: list[Name], around: Name, after: list[Name]) -> tuple[Any, ...]:
    """Sequences of one count stand in order of their names, as they went."""
    return tuple([names_in_order(x) for x in part] for part in (before, [around], after))


def _why_none(question: Paths, stream: Stream) -> str:
    """What a zero means."""
    if not (stream.steps & np.uint32(1) != 0).any():
        return f"No event matches ({', '.join(question.around.types)} with its filters), or none has a unit."
    return "No event that matches lies in the range."
