"""The reference: who belongs to a segment, and when, slowly and obviously. Tests hold the fast answer against it.

Nothing hangs on the order of what happened at one instant: who belongs at an instant is told from all that had
happened by then. A person's story begins with its first touchpoint, or the first event that a rule speaks of.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import msgspec

from domain.funnels.reference import Happening
from domain.segments.question import Rule, Segment

__all__ = ["Spell", "spells"]


class Spell(msgspec.Struct, frozen=True):
    """From when to when somebody belonged to a segment, [entered, left) in µs; `left_us` None: still does."""

    unit: Hashable
    entered_us: int
    left_us: int | None


def spells(segment: Segment, events: Iterable[Happening], until_us: int) -> list[Spell]:
    """Every spell of every person, as of *until_us*, inclusive."""
    named = {type_ for rule in segment.rules for type_ in rule.types}
    stories: dict[Hashable, list[Happening]] = {}
    for event in events:
        if event.at_us <= until_us and (event.touchpoint or event.type in named):
            stories.setdefault(event.unit, []).append(event)
    found = []
    for unit, story in stories.items():
        spans = [0, *(rule.within_us for rule in segment.rules if rule.within_us is not None)]
        instants = sorted({e.at_us + span for e in story for span in spans if e.at_us + span <= until_us})
        entered = None
        for instant in instants:
            belongs = segment.holds([_holds(segment, rule, story, instant) for rule in segment.rules])
            if belongs and entered is None:
                entered = instant
            elif not belongs and entered is not None:
                found.append(Spell(unit, entered, instant))
                entered = None
        if entered is not None:
            found.append(Spell(unit, entered, None))
    return found


def _holds(segment: Segment, rule: Rule, story: list[Happening], instant: int) -> bool:
    times = _times(rule, story, instant)
    if rule.within_us is not None:
        times = [at for at in times if at > instant - rule.within_us]
    if rule.since is None:
        return rule.holds(len(times))
    others = _times(segment.rules[rule.since], story, instant)
    return rule.holds(sum(at > max(others, default=at) for at in times), begun=bool(others))


def _times(rule: Rule, story: list[Happening], instant: int) -> list[int]:
    return [e.at_us for e in story if e.at_us <= instant and rule.matches(e.type, e.properties)]
