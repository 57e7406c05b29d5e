"""A segment as understood: rules over what a person did, and how they are joined; spans and times in microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from domain.funnels.question import Funnel, Matcher, Step

__all__ = ["MOST_RULES", "Join", "Joined", "Rule", "Scope", "Segment"]

MOST_RULES = 10
Join = Literal["all", "any", "not"]
Joined = int | tuple[Join, tuple[Any, ...]]
"""The place of a rule, or how several are joined; of `not` there is one."""


class Rule(Matcher, frozen=True, kw_only=True):
    """How often a person did something.

    At an instant t those events count that happened in (t - within, t], and with `since` later than the last event
    up to t that matches that other rule; without any such event the rule does not hold.

    Attributes:
        at_least, at_most: how many count, both inclusive; None: no limit.
        within_us: None: any time before.
        since: the place of another rule, from 0.
    """

    at_least: int = 1
    at_most: int | None = None
    within_us: int | None = None
    since: int | None = None

    def holds(self, count: int, *, begun: bool = True) -> bool:
        """Whether so many events fulfil it; *begun*: whether that has happened since which they count."""
        return begun and count >= self.at_least and (self.at_most is None or count <= self.at_most)


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment: its rules, and how they are joined."""

    rules: tuple[Rule, ...]
    joined: Joined

    def holds(self, fulfilled: Sequence[bool]) -> bool:
        """Whether a person belongs to it of whom these rules hold."""
        return _holds(self.joined, fulfilled)

    @property
    def of_nothing(self) -> bool:
        """Whether a person belongs to it who did none of what the rules speak of."""
        return self.holds([rule.holds(0, begun=rule.since is None) for rule in self.rules])

    @property
    def looked_at(self) -> Funnel:
        """The events looked at, told as a funnel is: a step for each rule, and every touchpoint where any begins a story."""
        steps = tuple(Step(types=r.types, where=r.where) for r in self.rules)
        return Funnel(steps=steps, window_us=1, order="strict" if self.of_nothing else "ordered")


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Persons of a segment: those who belong to it, or the cohort of those who entered it in [from, to)."""

    segment: Segment
    cohort: bool = False
    from_us: int | None = None
    to_us: int | None = None


def _holds(joined: Any, fulfilled: Sequence[bool]) -> bool:
    if isinstance(joined, int):
        return fulfilled[joined]
    word, parts = joined
    told = (_holds(part, fulfilled) for part in parts)
    return any(told) if word == "any" else all(told) if word == "all" else not next(told)
