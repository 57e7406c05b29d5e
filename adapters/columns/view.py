"""A view: all chunks of one moment, and the events of them that a funnel looks at, in the order of their units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import domain.touchpoints  # noqa: F401 - registers every declared type, and whether it is a touchpoint
from adapters.columns.chunk import Chunk, Codes, Ints, Vocabulary
from adapters.columns.kernel import NEVER
from adapters.columns.sorting import ordering, picked, taken
from domain.event import TYPES
from domain.funnels.question import Funnel
from domain.funnels.reading import Known

__all__ = ["Stream", "View"]

NO_INTS: Ints = np.empty(0, np.int64)
NO_BITS = np.empty(0, np.uint32)
NO_CODES: Codes = np.empty(0, np.int32)
Owners = Callable[[Sequence[str]], tuple[NDArray[np.int32], list[str]]]
"""Gives for owners (subjects, orders, cases) the code of each one's person, and the names of the persons."""


class Stream(NamedTuple):
    """Events that a funnel looks at, by group and in order.

    Attributes:
        starts: begin of each group, and the end of the last.
        unit: of each group, whose it is; value: of each group, a code that splits units (-1: none).
        at, steps, excluded: of each event when it happened and what it matches.
        place: of each event, its place in `chunk` and `row`, which tell where it stands.
        names: of the units.
    """

    starts: Ints
    unit: Ints
    value: Ints
    at: Ints
    steps: NDArray[np.uint32]
    excluded: NDArray[np.uint32]
    place: Codes
    chunk: Codes
    row: Codes
    names: Sequence[Any]


class View:
    """What was known at position *known_at* and had happened by *as_of_us*.

    Args:
        closed, closed_version: see `Chunk.ends`.
    """

    def __init__(
        self,
        chunks: Sequence[Chunk],
        vocabularies: dict[str, Vocabulary],
        *,
        known_at: int,
        as_of_us: int | None = None,
        closed: Mapping[int, Sequence[int]] | None = None,
        closed_version: int = 0,
        all_chunks: Sequence[Chunk] = (),
    ) -> None:
        self.chunks = [c for c in chunks if c.rows]
        self._all_chunks = [c for c in all_chunks if c.rows] or self.chunks
        self.vocabularies = vocabularies
        self.known_at = known_at
        self._until = NEVER if as_of_us is None else as_of_us
        self.closed = closed or {}
        self.closed_version = closed_version

    @property
    def known(self) -> Known:
        """The types and properties there are to ask for, those known later included.

        They only ever become more, so a question that was answered at a moment is answered at it for ever.
        """
        types = {self.vocabularies["type"].values[c] for chunk in self._all_chunks for c in chunk.types}
        paths: dict[str, frozenset[str]] = {}
        for chunk in self._all_chunks:
            for path, kinds in chunk.kinds.items():
                paths[path] = paths.get(path, frozenset()) | kinds
        return Known(frozenset(types), paths)

    def all_values(self, path: str) -> Sequence[Any]:
        """The values of a property, by their codes."""
        return self.vocabularies[path].values if path in self.vocabularies else []

    def values(
        self, path: str, stream: Stream, events: Ints | None = None, threads: Executor | None = None
    ) -> Codes:
        """The codes of a property at some events of a stream, or at all."""
        if events is None:  # chunk after chunk, as they lie
            begins = np.searchsorted(stream.chunk, np.arange(len(self.chunks) + 1))
            each = threads.map if threads is not None else map
            parts = each(
                lambda i: self.chunks[i].codes(path)[stream.row[begins[i] : begins[i + 1]]],
                range(len(self.chunks)),
            )
            every: Codes = taken(np.concatenate([NO_CODES, *parts]), stream.place, threads)
            return every
        found = np.full(len(events), -1, np.int32)
        place = stream.place[events]
        of, row = stream.chunk[place], stream.row[place]
        for number, chunk in enumerate(self.chunks):
            mine = of == number
            if mine.any():
                found[mine] = chunk.codes(path)[row[mine]]
        return found

    def positions(self, stream: Stream, events: Ints) -> Ints:
        """The positions of some events of a stream."""
        return self.of_events(stream, events, lambda chunk: chunk.ints("position"))

    def of_events(self, stream: Stream, events: Ints, column: Callable[[Chunk], Ints]) -> Ints:
        """What a column of numbers says of some events of a stream."""
        found = np.empty(len(events), np.int64)
        place = stream.place[events]
        of, row = stream.chunk[place], stream.row[place]
        for number, chunk in enumerate(self.chunks):
            mine = of == number
            if mine.any():
                found[mine] = column(chunk)[row[mine]]
        return found

    def stream(self, funnel: Funnel, owners: Owners, threads: Executor | None = None) -> Stream:
        """The events that *funnel* looks at, by unit; of several chunks at once where there are *threads*."""
        each = threads.map if threads is not None else map
        numbers = range(len(self.chunks))
        picks = list(each(lambda n: self._picked(n, self.chunks[n], funnel), numbers))
        unit, names = self._units(funnel, picks, owners)
        at = np.concatenate([NO_INTS, *(p.at for p in picks)])
        steps = np.concatenate([NO_BITS, *(p.steps for p in picks)])
        row = np.concatenate([NO_CODES, *(p.row for p in picks)])
        chunk = np.repeat(np.array([p.chunk for p in picks], np.int32), [len(p.row) for p in picks])
        shut = np.concatenate([NO_BITS, *(p.excluded for p in picks)]) if funnel.exclude else None
        del picks  # each of these is large; what is needed no more makes room for the next
        order, starts, at_in, steps_in, ties = ordering(unit, len(names), at, steps, threads)
        if ties:
            self._settle(order, unit, at, steps, chunk, row)
            steps_in = steps[order]
        del unit, at, steps
        excluded = shut[order] if shut is not None else np.zeros(len(order), np.uint32)
        there = np.flatnonzero(np.diff(starts))
        return Stream(
            np.append(starts[there], starts[-1]), there, np.full(len(there), -1, np.int64),
            at_in, steps_in, excluded, order, chunk, row, names,
        )  # fmt: skip

    def _units(self, funnel: Funnel, picks: Sequence[_Picked], owners: Owners) -> tuple[Codes, Sequence[Any]]:
        path = "owner" if funnel.unit == "person" else funnel.unit
        codes = [self.chunks[p.chunk].codes(path)[p.row] for p in picks]
        unit = np.concatenate(codes) if codes else np.empty(0, np.int32)
        vocabulary = self.vocabularies.get(path)
        if vocabulary is None:
            return unit, []
        if funnel.unit != "person":
            return unit, vocabulary.values
        person, names = owners(vocabulary.values)
        return np.append(person, np.int32(-1))[unit], names

    def _picked(self, number: int, chunk: Chunk, funnel: Funnel) -> _Picked:
        codes = chunk.codes("type")
        types = self.vocabularies["type"].values
        bits = np.zeros((2, len(types)), np.uint32)
        wanted = np.zeros(len(types), np.bool_)
        for code, name in enumerate(types):
            for k, step in enumerate(funnel.steps):
                bits[0, code] |= np.uint32((name in step.types) << k)
            for k, exclusion in enumerate(funnel.exclude):
                bits[1, code] |= np.uint32((name in exclusion.types) << k)
            wanted[code] = bool(bits[:, code].any()) or (
                funnel.order == "strict" and (name not in TYPES or TYPES[name].touchpoint)
            )
        at = chunk.ints("occurred_at")
        known_from, known_to = self._known(chunk)
        row, when, steps, excluded = picked(
            codes, wanted, bits, known_from, known_to, self.known_at, at, self._until
        )
        for k, matcher in enumerate(funnel.matchers):
            mask, bit = (steps, k) if k < len(funnel.steps) else (excluded, k - len(funnel.steps))
            for condition in matcher.where:
                passes = self._passing(chunk, condition.path, condition.holds)
                mask &= ~np.where(passes[chunk.codes(condition.path)[row]], np.uint32(0), np.uint32(1 << bit))
        if funnel.order != "strict" and any(matcher.where for matcher in funnel.matchers):
            of_use = (steps | excluded) != 0
            if not of_use.all():
                row, when, steps, excluded = row[of_use], when[of_use], steps[of_use], excluded[of_use]
        return _Picked(number, row, when, steps, excluded)

    def _passing(self, chunk: Chunk, path: str, holds: Callable[[Any], bool]) -> NDArray[np.bool_]:
        """Whether each value of a property passes, by its code; the last stands for none."""
        chunk.codes(path)
        return np.array([*map(holds, self.all_values(path)), holds(None)], np.bool_)

    def _known(self, chunk: Chunk) -> tuple[Ints, Ints]:
        """From and to which positions rows were known; empty where all are, and for ever."""
        known_from = NO_INTS if chunk.newest <= self.known_at else chunk.ints("known_from")
        return known_from, chunk.ends(self.closed, self.closed_version)

    def _settle(self, order: Codes, unit: Codes, at: Ints, steps: Any, chunk: Codes, row: Codes) -> None:
        """Put what happened to one unit at one instant in order of (source, source id)."""
        a, b = order[:-1], order[1:]
        low = _lowest(steps)
        same = (unit[a] == unit[b]) & (at[a] == at[b]) & (low[a] == low[b])
        tied = np.append(same, np.False_) | np.insert(same, 0, np.False_)
        places = np.flatnonzero(tied)
        run = np.cumsum(~np.insert(same, 0, np.False_))[places]
        events = order[places]
        texts: list[tuple[str, str]] = [("", "")] * len(events)
        for number, one in enumerate(self.chunks):
            mine = np.flatnonzero(chunk[events] == number)
            if len(mine):
                rows = row[events[mine]].tolist()
                pairs = zip(one.texts("source", rows), one.texts("source_id", rows), strict=True)
                for place, pair in zip(mine, pairs, strict=True):
                    texts[place] = pair
        settled = sorted(range(len(events)), key=lambda i: (run[i], texts[i]))
        order[places] = events[settled]


class _Picked(NamedTuple):
    """Rows of one chunk that a funnel looks at, and what they match."""

    chunk: int
    row: Codes
    at: Ints
    steps: NDArray[np.uint32]
    excluded: NDArray[np.uint32]


def _lowest(steps: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The lowest step that each event matches; beyond all where it matches none."""
    lowest = np.full(len(steps), 32, np.uint8)
    some = steps != 0
    bit = steps[some] & (~steps[some] + np.uint32(1))
    lowest[some] = np.log2(bit).astype(np.uint8)
    return lowest
