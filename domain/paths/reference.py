"""The reference: what paths mean, slowly and obviously. Tests hold the fast answer against it.

A unit's events stand in the order of funnels (SEMANTICS §4): by time; of one instant the event in the middle comes
first, then by source and source id. Events that are neither steps nor the event in the middle are as if they had
not been.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import msgspec

from domain.funnels.property import identity
from domain.funnels.reference import Happening
from domain.paths.question import Paths

__all__ = ["Path", "name_of", "paths"]


class Path(msgspec.Struct, frozen=True):
    """One path: the event in the middle, the steps before it (the nearest first) and after it."""

    unit: Hashable
    middle: Happening
    before: tuple[Happening, ...]
    after: tuple[Happening, ...]


def paths(question: Paths, events: Iterable[Happening]) -> list[Path]:
    """Every path around the event, of every unit."""
    units: dict[Hashable, list[Happening]] = {}
    for event in events:
        if _is(question.around, event) or _is(question.steps, event):
            units.setdefault(event.unit, []).append(event)
    found = []
    for unit, story in units.items():
        story.sort(key=lambda e: (e.at_us, not _is(question.around, e), e.source, e.source_id))
        middles = [i for i, e in enumerate(story) if _is(question.around, e) and _in_range(question, e)]
        if question.occurrence == "first":
            middles = middles[:1]
        elif question.occurrence == "last":
            middles = middles[-1:]
        for i in middles:
            after = _walked(question, story[i:])[: question.after]
            before = _walked(question, story[i::-1])[: question.before]
            found.append(Path(unit, story[i], tuple(before), tuple(after)))
    return found


def name_of(question: Paths, event: Happening) -> tuple[str, Hashable]:
    """What a step is called: its type, and what identifies the value of the property that tells steps apart."""
    value = None if question.by is None else event.properties.get(question.by)
    return event.type, None if value is None else identity(value)


def _is(matcher: Any, event: Happening) -> bool:
    return bool(matcher.matches(event.type, event.properties))


def _in_range(question: Paths, event: Happening) -> bool:
    after = question.from_us is None or event.at_us >= question.from_us
    return after and (question.to_us is None or event.at_us < question.to_us)


def _walked(question: Paths, way: list[Happening]) -> list[Happening]:
    """The steps of one side, away from the event in the middle, which is the first of *way*."""
    path = way[:1]
    for one, before in zip(way[1:], way, strict=False):
        if question.gap_us is not None and abs(one.at_us - before.at_us) > question.gap_us:
            break
        if question.window_us is not None and abs(one.at_us - way[0].at_us) > question.window_us:
            break
        if not _is(question.steps, one):
            continue  # another event like the one in the middle, where that is no step: it keeps the path going
        names = [name_of(question, e) for e in path]
        name = name_of(question, one)
        if question.loops == "repeats" and name == names[-1]:
            continue
        if question.loops == "loops" and name in names:
            del path[names.index(name) + 1 :]
            continue
        path.append(one)
    return path[1:]
