"""A funnel as understood: every option typed, every span in microseconds, every time in µs since 1970 UTC."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from domain.funnels.property import Condition

__all__ = [
    "Attribution",
    "Count",
    "Entry",
    "Exclusion",
    "Funnel",
    "Matcher",
    "Order",
    "Policy",
    "Step",
    "Trend",
]

Order = Literal["ordered", "strict", "any"]
Entry = Literal["latest", "first"]
Count = Literal["unique", "total"]
Policy = Literal["remove", "drop_off"]
Trend = Literal["day", "week", "month"]
Attribution = Literal["first", "last", "step", "all_steps"]


class Matcher(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are meant: of one of these types, and passing every condition."""

    types: tuple[str, ...]
    where: tuple[Condition, ...] = ()

    def matches(self, type_: str, properties: dict[str, Any]) -> bool:
        """Whether an event of *type_* with these properties (by path) is meant."""
        return type_ in self.types and all(c.holds(properties.get(c.path)) for c in self.where)


class Step(Matcher, frozen=True, kw_only=True):
    """A step; `within_us` is the longest span from the step before, inclusive."""

    within_us: int | None = None


class Exclusion(Matcher, frozen=True, kw_only=True):
    """Events that may not lie between two steps, numbered from 1."""

    from_step: int
    to_step: int
    policy: Policy = "remove"


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """A question. `unit` is `person` or the path of a property; `step` is the k of attribution `step`, from 1."""

    steps: tuple[Step, ...]
    window_us: int
    entry: Entry = "latest"
    order: Order = "ordered"
    count: Count = "unique"
    unit: str = "person"
    exclude: tuple[Exclusion, ...] = ()
    hold: tuple[str, ...] = ()
    breakdown: str | None = None
    attribution: Attribution = "first"
    step: int = 1
    from_us: int | None = None
    to_us: int | None = None
    trend: Trend | None = None
    timezone: str = "UTC"

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        """Steps and exclusions, in this order."""
        return (*self.steps, *self.exclude)

    @property
    def named(self) -> frozenset[str]:
        """Types that a step or exclusion names: these take part even where they are no touchpoints."""
        return frozenset(type_ for matcher in self.matchers for type_ in matcher.types)

    @property
    def paths(self) -> frozenset[str]:
        """Every property that the question looks at."""
        asked = {c.path for m in self.matchers for c in m.where} | set(self.hold)
        asked |= {self.unit} if self.unit != "person" else set()
        return frozenset(asked | ({self.breakdown} if self.breakdown is not None else set()))
