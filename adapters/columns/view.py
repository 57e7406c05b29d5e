"""A view: all chunks of one moment, and the events of them that a funnel looks at, in the order of their units."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import domain.touchpoints  # noqa: F401 - registers every declared type, and whether it is a touchpoint
from adapters.columns.chunk import Chunk, Codes, Ints, Vocabulary
from adapters.columns.gathering import LOOKED_AT, Gathered, coded, gathered, put_in_order
from adapters.columns.kernel import NEVER
from adapters.columns.lanes import OWNER, Lane, Lanes
from domain.event import TYPES
from domain.funnels.question import Funnel
from domain.funnels.reading import Known

__all__ = ["Stream", "View"]

NO_INTS: Ints = np.empty(0, np.int64)
Bits = NDArray[np.uint32]
Owners = Callable[[Sequence[str]], tuple[NDArray[np.int32], list[str]]]
"""Gives for owners (subjects, orders, cases) the code of each one's person, and the names of the persons."""


class Stream(NamedTuple):
    """Events that a funnel looks at, by group and in order.

    Attributes:
        starts: begin of each group, and the end of the last.
        unit: of each group, whose it is; value: of each group, a code that splits units (-1: none).
        at, steps, excluded: of each event when it happened and what it matches.
        place: of each event its row, were `lanes` one after the other; these tell where it stands.
        names: of the units.
        overlap: whether an event may match several steps, or none.
    """

    starts: Ints
    unit: Ints
    value: Ints
    at: Ints
    steps: Bits
    excluded: Bits
    place: NDArray[np.uint32]
    lanes: Sequence[Lane]
    names: Sequence[Any]
    overlap: bool = True


class View:
    """What was known at position *known_at* and had happened by *as_of_us*.

    Args:
        chunks: what there is to ask for.
        beside: chunks of the same shelf of which nothing was known yet: lanes are made of all.
        closed, closed_version: see `Chunk.ends`.
        closed_to: the last position in *closed* from which a row was no longer known; None: it is looked for.
        lanes: kept from one view of the same shelf to the next.
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
        closed_to: int | None = None,
        beside: Sequence[Chunk] = (),
        lanes: Lanes | None = None,
    ) -> None:
        self.chunks = [c for c in chunks if c.rows]
        self.beside = [c for c in beside if c.rows]
        self.lanes = Lanes() if lanes is None else lanes
        self.vocabularies = vocabularies
        self.known_at = known_at
        self._until = NEVER if as_of_us is None else as_of_us
        self.closed = closed or {}
        self.closed_version = closed_version
        if closed_to is None:
            closed_to = max((to for ends in self.closed.values() for to in ends), default=0)
        self.closed_to = closed_to

    @property
    def known(self) -> Known:
        """The types and properties there are to ask for, those known later included.

        They only ever become more, so a question that was answered at a moment is answered at it for ever.
        """
        everything = [*self.chunks, *self.beside]
        types = {self.vocabularies["type"].values[c] for chunk in everything for c in chunk.types}
        paths: dict[str, frozenset[str]] = {}
        for chunk in everything:
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
        place = stream.place if events is None else stream.place[events]
        columns = [self.lanes.column(lane, path, threads) for lane in stream.lanes]
        return coded(columns, place, threads)

    def positions(self, stream: Stream, events: Ints) -> Ints:
        """The positions of some events of a stream."""
        return self.of_events(stream, events, lambda chunk: chunk.ints("position"))

    def of_events(self, stream: Stream, events: Ints, column: Callable[[Chunk], Ints]) -> Ints:
        """What some column of each chunk holds at some events of a stream."""
        found = np.empty(len(events), np.int64)
        for chunk, mine, rows in _located(stream.lanes, stream.place[events]):
            found[mine] = column(chunk)[rows]
        return found

    def stream(self, funnel: Funnel, owners: Owners, threads: Executor | None = None) -> Stream:
        """The events that *funnel* looks at, by unit; where there are *threads* on two processors."""
        path = OWNER if funnel.unit == "person" else funnel.unit
        lanes = self.lanes.of(path, [*self.chunks, *self.beside], self.vocabularies, threads)
        key = self._sight()
        types = [self.lanes.seen(lane, key, self._mask, threads) for lane in lanes]
        person, names = self._units(funnel, path, owners)
        table, shut = self._matched(funnel)
        events = gathered(
            [(t, lane.starts, lane.at) for t, lane in zip(types, lanes, strict=True)],
            person, len(names), table, shut, self._until, threads,
        )  # fmt: skip
        overlap = bool((table & (table - np.uint32(1)) & ~LOOKED_AT).any())
        if any(matcher.where for matcher in funnel.matchers):
            events = self._passing(funnel, lanes, events, threads)
            overlap = bool((events.steps & (events.steps - np.uint32(1))).any())
        if put_in_order(events, threads):
            _settle(lanes, events)
        there = np.flatnonzero(np.diff(events.starts))
        self.lanes.trim()
        return Stream(
            np.append(events.starts[there], events.starts[-1]), there, np.full(len(there), -1, np.int64),
            events.at, events.steps, events.excluded, events.place, lanes, names,
            overlap or funnel.order == "strict" or bool(funnel.exclude),
        )  # fmt: skip

    def _units(self, funnel: Funnel, path: str, owners: Owners) -> tuple[Codes, Sequence[Any]]:
        """(the unit of each code of a property, the names of the units)."""
        vocabulary = self.vocabularies.get(path)
        if vocabulary is None:
            return np.empty(0, np.int32), []
        if funnel.unit == "person":
            return owners(vocabulary.values)
        return np.arange(len(vocabulary.values), dtype=np.int32), vocabulary.values

    def _matched(self, funnel: Funnel) -> tuple[Bits, Bits | None]:
        """(steps of each type, and whether it is looked at, its exclusions); the types by one more than their codes."""
        types = self.vocabularies["type"].values if "type" in self.vocabularies else []
        bits = np.zeros((2, len(types) + 1), np.uint32)
        for code, name in enumerate(types, start=1):
            for k, step in enumerate(funnel.steps):
                bits[0, code] |= np.uint32((name in step.types) << k)
            for k, exclusion in enumerate(funnel.exclude):
                bits[1, code] |= np.uint32((name in exclusion.types) << k)
            if bits[:, code].any() or (
                funnel.order == "strict" and (name not in TYPES or TYPES[name].touchpoint)
            ):
                bits[0, code] |= LOOKED_AT
        return bits[0], bits[1] if funnel.exclude else None

    def _passing(
        self, funnel: Funnel, lanes: Sequence[Lane], events: Gathered, threads: Executor | None
    ) -> Gathered:
        """The events with the steps and exclusions whose conditions they pass; unless strict, none without any."""
        steps, excluded = events.steps, events.excluded
        for k, matcher in enumerate(funnel.matchers):
            mask, bit = (steps, k) if k < len(funnel.steps) else (excluded, k - len(funnel.steps))
            for condition in matcher.where:
                columns = [self.lanes.column(lane, condition.path, threads) for lane in lanes]
                passes = self._holding(condition.path, condition.holds)
                codes = coded(columns, events.place, threads)
                mask &= ~np.where(passes[codes], np.uint32(0), np.uint32(1 << bit))
        if funnel.order == "strict":
            return events
        of_use = (steps | excluded) != 0
        if of_use.all():
            return events
        before = np.append(0, np.cumsum(of_use))
        return Gathered(
            before[events.starts],
            events.at[of_use],
            steps[of_use],
            excluded[of_use],
            events.place[of_use],
            events.mixed,
            events.doubtful,
        )

    def _holding(self, path: str, holds: Callable[[Any], bool]) -> NDArray[np.bool_]:
        """Whether each value of a property passes, by its code; the last stands for none."""
        return np.array([*map(holds, self.all_values(path)), holds(None)], np.bool_)

    def _known(self, chunk: Chunk) -> tuple[Ints, Ints]:
        """From and to which positions rows were known; empty where all are, and for ever."""
        known_from = NO_INTS if chunk.newest <= self.known_at else chunk.ints("known_from", keep=False)
        return known_from, chunk.ends(self.closed, self.closed_version)

    def _mask(self, chunk: Chunk) -> NDArray[np.bool_] | None:
        """Which rows of a chunk were known; None: all."""
        if chunk in self.beside:
            return np.zeros(chunk.rows, np.bool_)
        known_from, known_to = self._known(chunk)
        if not len(known_from) and not len(known_to):
            return None
        mask = np.ones(chunk.rows, np.bool_)
        if len(known_from):
            mask &= known_from <= self.known_at
        if len(known_to):
            mask &= known_to > self.known_at
        return mask

    def _sight(self) -> Hashable | None:
        """What tells this view's masks from others of the same lanes: the last position at which anything changes."""
        if self.beside:
            return (self.known_at, self.closed_version)
        last = max((c.newest for c in self.chunks), default=0)
        return (min(self.known_at, max(last, self.closed_to)), self.closed_version)


def _located(lanes: Sequence[Lane], place: NDArray[np.uint32]) -> Iterator[tuple[Chunk, Ints, Ints]]:
    """For each chunk in which some places lie: (the chunk, which of them, their rows there)."""
    offset = 0
    for lane in lanes:
        inside = np.flatnonzero((place >= offset) & (place < offset + len(lane)))
        number, row = lane.located(place[inside].astype(np.int64) - offset)
        for n in np.unique(number).tolist():
            mine = number == n
            yield lane.chunks[n], inside[mine], row[mine]
        offset += len(lane)


def _settle(lanes: Sequence[Lane], events: Gathered) -> None:
    """Put what happened to one unit at one instant in order of (source, source id), where it comes from several places."""
    starts, at, steps, excluded, place, mixed, _ = events
    low = _lowest(steps)
    same = (at[1:] == at[:-1]) & (low[1:] == low[:-1])
    inner = starts[(starts > 0) & (starts < len(at))]
    same[inner - 1] = False
    tied = np.append(same, np.False_) | np.insert(same, 0, np.False_)
    tied &= np.repeat(mixed, np.diff(starts))
    places = np.flatnonzero(tied)
    run = np.cumsum(~np.insert(same, 0, np.False_))[places]
    texts: list[tuple[str, str]] = [("", "")] * len(places)
    for chunk, mine, rows in _located(lanes, place[places]):
        pairs = zip(*(chunk.taken(name, rows).to_pylist() for name in ("source", "source_id")), strict=True)
        for i, pair in zip(mine, pairs, strict=True):
            texts[i] = pair
    settled = places[sorted(range(len(places)), key=lambda i: (run[i], texts[i]))]
    for array in (steps, excluded, place):
        array[places] = array[settled]


def _lowest(steps: Bits) -> NDArray[np.uint8]:
    """The lowest step that each event matches; beyond all where it matches none."""
    lowest = np.full(len(steps), 32, np.uint8)
    some = steps != 0
    bit = steps[some] & (~steps[some] + np.uint32(1))
    lowest[some] = np.log2(bit).astype(np.uint8)
    return lowest
