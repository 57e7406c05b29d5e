"""The reference: what a funnel means, slowly and obviously (SEMANTICS §4). Tests hold the fast answer against it.

Nothing here is clever. An attempt is told by the places of its events in the unit's order; every rule of the
semantics is one function.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from domain.funnels.property import identity
from domain.funnels.question import Funnel

__all__ = ["Attempt", "Happening", "attempts"]


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """An event as a funnel sees it; `unit` is the value of the unit, `properties` are by path."""

    position: int
    at_us: int
    type: str
    source: str
    source_id: str
    unit: Hashable
    properties: dict[str, Any]
    touchpoint: bool = True


class Attempt(msgspec.Struct, frozen=True):
    """A counted attempt: whose, in which period of the range, and the events of the steps that it reached."""

    unit: Hashable
    period: int
    events: tuple[Happening, ...]


class _Seen(msgspec.Struct, frozen=True):
    """An event in its unit's order: which steps (from 0) and exclusions it matches."""

    event: Happening
    steps: frozenset[int]
    excluded: frozenset[int]
    takes_part: bool = True

    def fills(self, step: int) -> bool:
        return self.takes_part and step in self.steps


class _Tried(msgspec.Struct, frozen=True):
    """Places of the events of an attempt, one for each step that it reached; `counts` is False where it is removed."""

    places: tuple[int, ...]
    counts: bool


def attempts(
    funnel: Funnel, events: Iterable[Happening], periods: Sequence[tuple[int | None, int | None]]
) -> list[Attempt]:
    """The counted attempts of each of *periods*, [from, to) in µs, each a range of its own; null is no bound."""
    units: dict[Hashable, list[_Seen]] = {}
    for event in events:
        if event.touchpoint or event.type in funnel.named:
            steps = frozenset(
                k for k, s in enumerate(funnel.steps) if s.matches(event.type, event.properties)
            )
            excluded = frozenset(
                k for k, x in enumerate(funnel.exclude) if x.matches(event.type, event.properties)
            )
            units.setdefault(event.unit, []).append(_Seen(event, steps, excluded))
    found = []
    for unit, seen in units.items():
        ordered = sorted(
            seen, key=lambda s: (s.event.at_us, min(s.steps, default=99), s.event.source, s.event.source_id)
        )
        for number, period in enumerate(periods):
            tried = [
                (one, story) for story in _held(funnel, ordered) for one in _counted(funnel, story, period)
            ]
            if funnel.count == "unique" and tried:
                tried = [min(tried, key=lambda t: (-len(t[0].places), ordered.index(_as_it_was(t), 0)))]
            found += [
                Attempt(unit, number, tuple(story[p].event for p in one.places)) for one, story in tried
            ]
    return found


def _as_it_was(tried: tuple[_Tried, list[_Seen]]) -> _Seen:
    """The entry of an attempt as it stands in the unit's own order; an entry always takes part."""
    one, story = tried
    return story[one.places[0]]


def _held(funnel: Funnel, ordered: list[_Seen]) -> Iterator[list[_Seen]]:
    """The unit's events, once for each combination of the values that are held constant."""
    if not funnel.hold:
        yield ordered
        return
    combinations = [tuple(map(_value, [s.event.properties.get(h) for h in funnel.hold])) for s in ordered]
    for one in dict.fromkeys(c for c in combinations if None not in c):
        yield [
            s if c == one else msgspec.structs.replace(s, takes_part=False)
            for s, c in zip(ordered, combinations, strict=True)
        ]


def _value(value: Any) -> Hashable:
    return None if value is None else identity(value)


def _counted(funnel: Funnel, story: list[_Seen], period: tuple[int | None, int | None]) -> list[_Tried]:
    """The attempts of one story that count; of `unique` the best is yet to be taken."""
    begin, end = period

    def in_range(i: int) -> bool:
        at = story[i].event.at_us
        return (begin is None or at >= begin) and (end is None or at < end)

    if funnel.order == "any":
        opened = [i for i, s in enumerate(story) if s.steps and in_range(i)]
        return [_Tried(_ranks(funnel, story, i), counts=True) for i in opened]
    entries = [i for i, s in enumerate(story) if s.fills(0) and in_range(i)]
    if funnel.entry == "first":
        entries = entries[:1]
    if funnel.count == "total":
        return [t for t in _one_after_the_other(funnel, story, entries) if t.counts]
    tried = []
    for i in entries:
        places = _places(funnel, story, i)
        if funnel.entry == "latest" and len(places) > 1 and any(places[0] < e < places[1] for e in entries):
            continue
        one = _judged(funnel, story, places)
        if one.counts:
            tried.append(one)
    return tried


def _places(funnel: Funnel, story: list[_Seen], entry: int) -> tuple[int, ...]:
    """The places of the steps that an attempt reaches: each the earliest later event that fills it in time."""
    places = [entry]
    until = story[entry].event.at_us + funnel.window_us
    for step in range(1, len(funnel.steps)):
        within = funnel.steps[step].within_us
        latest = until if within is None else min(until, story[places[-1]].event.at_us + within)
        later = range(places[-1] + 1, len(story))
        if funnel.order == "strict":
            later = later[:1]
        found = next((j for j in later if story[j].fills(step) and story[j].event.at_us <= latest), None)
        if found is None:
            break
        places.append(found)
    return tuple(places)


def _taint(funnel: Funnel, story: list[_Seen], places: tuple[int, ...]) -> tuple[int, bool] | None:
    """(place of the earliest event that taints an attempt, whether it removes it); of a tie removal decides."""
    until = story[places[0]].event.at_us + funnel.window_us
    found = []
    for number, exclusion in enumerate(funnel.exclude):
        begin, end = exclusion.from_step - 1, exclusion.to_step - 1
        if begin >= len(places):
            continue
        between = range(places[begin] + 1, places[end] if end < len(places) else len(story))
        for j in between:
            if number in story[j].excluded and (end < len(places) or story[j].event.at_us <= until):
                found.append((j, exclusion.policy != "remove"))
                break
    if not found:
        return None
    place, keeps = min(found)
    return place, not keeps


def _judged(funnel: Funnel, story: list[_Seen], places: tuple[int, ...]) -> _Tried:
    """An attempt with its exclusions applied."""
    taint = _taint(funnel, story, places)
    if taint is None:
        return _Tried(places, counts=True)
    place, removes = taint
    return _Tried(tuple(p for p in places if p < place), counts=not removes)


def _one_after_the_other(funnel: Funnel, story: list[_Seen], entries: list[int]) -> Iterator[_Tried]:
    """Attempts of `total`: each ends at its last step, at entry + W or at an exclusion; the next entry opens the next."""
    after = -1
    while (entry := next((e for e in entries if e > after), None)) is not None:
        while True:  # further entries re-anchor it while it stands at step 1
            places = _places(funnel, story, entry)
            one = _judged(funnel, story, places)
            taint = _taint(funnel, story, places)
            ends = _end(funnel, story, places, taint)
            second = places[1] if len(places) > 1 else len(story)
            again = next((e for e in entries if entry < e < second and e <= ends), None)
            if again is None or funnel.entry == "first":
                break
            entry = again
        yield one
        after = ends


def _end(funnel: Funnel, story: list[_Seen], places: tuple[int, ...], taint: tuple[int, bool] | None) -> int:
    """The place of the last event of the log that an attempt lasts to."""
    if taint is not None:
        return taint[0]
    if len(places) == len(funnel.steps):
        return places[-1]
    until = story[places[0]].event.at_us + funnel.window_us
    return max(i for i, s in enumerate(story) if s.event.at_us <= until)


def _ranks(funnel: Funnel, story: list[_Seen], opening: int) -> tuple[int, ...]:
    """Of `any`: the events of a window that raise, one after the other, the number of steps that can be filled."""
    until = story[opening].event.at_us + funnel.window_us
    filled_by: dict[int, int] = {}

    def place(event: int, tried: set[int]) -> bool:
        for step in sorted(story[event].steps - tried):
            tried.add(step)
            if step not in filled_by or place(filled_by[step], tried):
                filled_by[step] = event
                return True
        return False

    return tuple(i for i in range(opening, len(story)) if story[i].event.at_us <= until and place(i, set()))
